"""A cache, and the same corpus in two caches with the same bytes."""

from pathlib import Path
from typing import Any

from schemas.configs.extraction import ExtractionConfig
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

CUT = 20  # samples in the first part
ALONE = {"unit_tokens": 250, "batch_tokens": 1}  # every sample is a batch, so no other one decides how it is rounded


def part_of(folder: Path, name: str, lines: list[str], **sections: Any) -> ExtractionConfig:
    """A config for the cache folder/NAME of these lines of a corpus, by the teacher in folder/teacher."""
    corpus = folder / f"{name}.jsonl"
    corpus.write_text("".join(lines), encoding="utf-8")
    return extraction(folder / name, folder / "teacher", corpus, **{"batching": ALONE, **sections})


def split_cache(folder: Path, **sections: Any) -> tuple[Path, Path, Path]:
    """The whole and its two parts, in folder/whole, folder/first and folder/second."""
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    lines = write_corpus(folder / "corpus.jsonl", TEXTS).read_text(encoding="utf-8").splitlines(keepends=True)
    parts = {"whole": lines, "first": lines[:CUT], "second": lines[CUT:]}
    whole, first, second = (build_cache(part_of(folder, *part, **sections)) for part in parts.items())
    return whole, first, second
