"""How much longer a tokenizer.json may make a text: bounded, because 40 rules in a row can make 2^40 letters of one."""

import base64
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.errors import TokenizerError

MOST_GROWTH = 1_024  # times, by all rules in a row: XLNet's three may come to 324
MOST_ADDED = 1_024  # characters before, or special tokens around, every text
# Characters that one may become by a rule, by its type: U+FDFA has 18 by compatibility, and UTF-8 has 4 bytes.
_GROWTH = {"ByteLevel": 4, "NFD": 4, "NFC": 3, "NFKC": 18, "NFKD": 18}
_MAY_MATCH_NOTHING = re.compile(r"[*?|]|\\[bBGK]|\{0?,")


def require_bounded_growth(folder: Path) -> None:
    """Raises TokenizerError if the rules of tokenizer.json in `folder` may make a text too much longer.

    They run on added tokens as soon as the file is loaded, so it is read for this before. A file that is damaged is
    left to the loader, which says so. Costs half a second for a vocabulary of 262,144.
    """
    path = folder / "tokenizer.json"
    try:
        state = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return
    if not isinstance(state, dict):
        return
    encoding = [*_rules(state.get("normalizer")), *_rules(state.get("pre_tokenizer"))]
    for rules in (encoding, list(_rules(state.get("decoder")))):
        if math.prod(map(_growth, rules)) > MOST_GROWTH:
            raise TokenizerError(
                f"the rules of {path} may make a text more than {MOST_GROWTH:,} times as long; take out what repeats a "
                "replacement, or makes many characters of one"
            )
    templates = [rule.get("single") for rule in _rules(state.get("post_processor"))]
    added = [str(rule.get("prepend", "")) for rule in encoding] + [one for one in templates if isinstance(one, list)]
    if sum(map(len, added)) > MOST_ADDED:
        raise TokenizerError(f"the rules of {path} add more than {MOST_ADDED:,} characters or tokens to every text")


def _rules(component: Any) -> Iterator[dict[str, Any]]:
    """Every object at any depth: files of old name no types."""
    if isinstance(component, dict):
        yield component
    for part in component.values() if isinstance(component, dict) else component if isinstance(component, list) else ():
        yield from _rules(part)


def _growth(rule: dict[str, Any]) -> float:
    """How many times as long a text may become by one rule."""
    content, pattern, charsmap = rule.get("content"), rule.get("pattern"), rule.get("precompiled_charsmap")
    if isinstance(content, str) and pattern is not None:
        return _replacement_growth(pattern, content)
    if isinstance(charsmap, str):
        return _charsmap_growth(charsmap)
    return _GROWTH.get(str(rule.get("type")), 1)


def _replacement_growth(pattern: Any, content: str) -> float:
    text = pattern.get("String") if isinstance(pattern, dict) else pattern
    if isinstance(text, str) and text:
        return max(1.0, len(content) / len(text))
    regex = pattern.get("Regex", "") if isinstance(pattern, dict) else ""
    return max(1, len(content) + bool(_MAY_MATCH_NOTHING.search(str(regex)) or not regex))


def _charsmap_growth(charsmap: str) -> int:
    """SentencePiece's map: the bytes of a trie, whose length stands first, then strings that each end in a zero."""
    try:
        content = base64.b64decode(charsmap)
    except ValueError:
        return 1  # the loader says that it is damaged
    strings = content[4 + int.from_bytes(content[:4], "little") :]
    return max(len(string.decode(errors="replace")) for string in strings.split(b"\0"))
