"""What a tokenizer does to a text, as its own components say, and whether two tokenizers do the same."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from schemas.errors import TokenizerError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


def same_tokenizer(first: "PreTrainedTokenizerBase", second: "PreTrainedTokenizerBase") -> bool:
    """Whether both give the same ids for every text: equal vocabularies, merges, normalisers, pre-tokenizers, added
    tokens and special-token templates. What only pads, truncates, decodes or reports offsets does not count.

    Raises TokenizerError for a slow tokenizer.
    """
    if first is second:
        return True
    if _backend(first).get_vocab() != _backend(second).get_vocab():
        return False  # far quicker to see than the rest
    return _rules(backend_state(first)) == _rules(backend_state(second))


def same_encodings(first: "Tokenizer", second: "Tokenizer") -> bool:
    """Whether both give the same ids, the same characters to each and the same special tokens, for every text.

    What only pads, truncates or decodes does not count. Costs some two seconds for a vocabulary of 260,000.
    """
    one, other = first.to_str(), second.to_str()
    return one == other or _steps(json.loads(one)) == _steps(json.loads(other))


def components(component: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A normaliser, pre-tokenizer, decoder or post-processor, or those of a sequence of them, however deep."""
    if component is None:
        return
    if component["type"] != "Sequence":
        yield component
        return
    for key in ("normalizers", "pretokenizers", "decoders", "processors"):
        for part in component.get(key, ()):
            yield from components(part)


def _backend(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TokenizerError(
            f"{type(tokenizer).__name__} of {tokenizer.name_or_path or 'this model'} is a slow tokenizer, without "
            "character offsets: convert it to a tokenizer.json"
        )
    return backend


def backend_state(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """The content of its tokenizer.json. Raises TokenizerError for a slow tokenizer."""
    state: dict[str, Any] = json.loads(_backend(tokenizer).to_str())
    return state


def _rules(state: dict[str, Any]) -> dict[str, Any]:
    # trim_offsets and a ByteLevel post-processor only move offsets; whether a token is called special changes no id.
    steps = _steps(state)
    steps["post_processor"] = [part for part in steps["post_processor"] if part["type"] != "ByteLevel"]
    for name in ("normalizer", "pre_tokenizer", "post_processor"):
        steps[name] = [_without(part, "trim_offsets") for part in steps[name]]
    return steps | {"added_tokens": [_without(token, "special") for token in steps["added_tokens"]]}


def _steps(state: dict[str, Any]) -> dict[str, Any]:
    """All that makes an encoding of a text, written in one way."""
    steps = {name: list(components(state[name])) for name in ("normalizer", "pre_tokenizer", "post_processor")}
    # A template without special tokens does nothing.
    steps["post_processor"] = [part for part in steps["post_processor"] if part.get("special_tokens") != {}]
    added = sorted(state["added_tokens"], key=lambda token: token["id"])
    # Older and newer files say "no prefix", "no fallback" as absent, null, "" or false.
    model = {key: value for key, value in state["model"].items() if not (value in (None, "") or value is False)}
    return {**steps, "model": model, "added_tokens": added}


def _without(record: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != key}
