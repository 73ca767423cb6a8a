"""Small real models that speak in chat templates, and conversations to have with them."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from schemas.configs.extraction import ExtractionConfig
from tests.caches import build_cache, extraction
from tests.corpora import write_lines
from tests.schemas.conversations.families import FAMILIES, Family
from tests.tiny import Kind, tiny_llama, tiny_tokenizer

SAYINGS = [
    ["What has the miller found?", "The old miller has quickly found the broken wooden bridge."],
    ["Who carried an apple?", "A small grey cat carried a bright red apple.", "Where?", " Near the river! "],
    ["What will my sister never forget?", "My younger sister will never forget three silver coins."],
    ["Why?", "Because nobody else wanted it.", "And then?", "She went home.", "Alone?", "Before the rain began."],
]


def family(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def chat_tokenizer(folder: Path, name: str | None, kind: Kind = "bytelevel") -> PreTrainedTokenizerFast:
    """A tiny tokenizer that has the special tokens and the template of a family; of none, its own and no template."""
    tokenizer = tiny_tokenizer(folder, kind)
    if name is not None:
        found = family(name)
        tokenizer.add_special_tokens({"additional_special_tokens": list(found.special)})
        tokenizer.chat_template, tokenizer.eos_token = found.template, found.eos
        tokenizer.save_pretrained(folder)
    return tokenizer


def chat_model(folder: Path, name: str | None, kind: Kind = "bytelevel", seed: int = 0) -> Path:
    """A tiny Llama with that tokenizer."""
    tiny_llama(folder, chat_tokenizer(folder, name, kind), seed=seed)
    return folder


def talk(*sayings: str) -> list[dict[str, Any]]:
    """Messages of a user and an assistant in turn."""
    return [{"role": ("user", "assistant")[n % 2], "content": said} for n, said in enumerate(sayings)]


def write_chats(path: Path, *more: list[dict[str, Any]]) -> Path:
    """JSONL of SAYINGS and of `more` messages, with the ids c0, c1, ..."""
    chats = [*(talk(*sayings) for sayings in SAYINGS), *more]
    write_lines(path, [{"id": f"c{n}", "messages": messages} for n, messages in enumerate(chats)])
    return path


def chat_extraction(output: Path, model: Path, chats: Path, **conversations: Any) -> ExtractionConfig:
    """A config for these chats; `conversations` are options of that section."""
    corpus = {"files": [str(chats)], "id": "id", "conversations": conversations, "prompt": None, "response": None}
    states, teacher = {"hidden": [3], "mass": [3]}, {"max_tokens": 512}
    return extraction(output, model, chats, corpus=corpus, states=states, teacher=teacher)


def chat_cache(folder: Path, name: str = "chatml", **conversations: Any) -> Path:
    """A teacher of a family and its cache of SAYINGS: teacher/, chats.jsonl and cache/, which is returned."""
    model, chats = chat_model(folder / "teacher", name), write_chats(folder / "chats.jsonl")
    return build_cache(chat_extraction(folder / "cache", model, chats, **conversations))
