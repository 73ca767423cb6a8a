"""The chat template that a tokenizer comes with, or another that a config names, as a model renders by it."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.conversations.template import ChatTemplate
from schemas.errors import ConfigError, TokenizerError
from schemas.shown import listed
from schemas.storage.record import read_content

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT = "default"  # of several that a tokenizer has
PLAIN = "plain"
LONGEST = 1 << 20  # bytes of a template
# Contents, each on lines of its own. An answer ends with the end of sequence, where the tokenizer has one.
PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}{% if message.content %}"
    "{{ message.content }}{{ (eos_token or '') if message.role == 'assistant' else '' }}{{ '\n\n' }}"
    "{% endif %}{% endfor %}"
)


def find_template(
    tokenizer: "PreTrainedTokenizerBase",
    named: str | None,
    arguments: Mapping[str, Any],
    today: date | None = None,
    plain: bool = False,
) -> ChatTemplate:
    """The tokenizer's own template, or the one that is `named`: a file, one of the tokenizer's several, or `plain`.

    With `plain`, that stands in for a template that the tokenizer lacks. Raises ConfigError for a file that cannot be
    read or is blank, and TokenizerError where there is no template, or several and none of them the default.
    """
    return ChatTemplate(_source(tokenizer, named, plain), special_strings(tokenizer), dict(arguments), today)


def _source(tokenizer: "PreTrainedTokenizerBase", named: str | None, plain: bool) -> str:
    own = tokenizer.chat_template or {}
    several: dict[str, str] = {DEFAULT: own} if isinstance(own, str) else dict(own)
    if named in several:
        return several[named]
    if named is not None:
        return PLAIN_TEMPLATE if named == PLAIN else _read(Path(named).expanduser())
    if source := several.get(DEFAULT, PLAIN_TEMPLATE if plain else ""):
        return source
    if several:
        raise TokenizerError(
            f"the tokenizer {tokenizer.name_or_path} has several chat templates and no default: name one of "
            f"{listed(several)} in `chat_template`"
        )
    raise TokenizerError(
        f"the tokenizer {tokenizer.name_or_path} has no chat template: name a file of one in `chat_template`, or give "
        "`prompt` and `response` instead of conversations"
    )


def _read(path: Path) -> str:
    content = read_content(path, ConfigError, f"there is no chat template {path}", LONGEST)
    try:
        source = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}; a chat template is a text in Jinja") from error
    if not source.strip():
        raise ConfigError(f"{path}: an empty chat template, which shows nothing of a conversation")
    return source


def special_strings(tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    """The special tokens that a template may name: bos_token, eos_token and so on."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}


def special_spellings(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    """How the tokenizer's special tokens are spelled, the longest first."""
    added = (token for token in tokenizer.added_tokens_decoder.values() if token.special)
    spelled = {str(token.content) for token in added} | set(special_strings(tokenizer).values())
    return tuple(sorted((token for token in spelled if token.strip()), key=lambda token: (-len(token), token)))
