"""Caches of a small teacher, honest and not, and the same teacher with a weight changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForCausalLM

from pipeline.replay.replay import Replay, replay
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from pipeline.work.worker import TeacherWorker
from schemas.cache.reader import Cache
from schemas.configs.extraction import ExtractionConfig
from tests.caches import extract_here, extraction, write_corpus
from tests.tiny import TEXTS, tiny_bert, tiny_llama, tiny_tokenizer

Made = dict[str, np.ndarray]
SAMPLES = 24


def make_material(folder: Path) -> Path:
    """teacher/ and encoder/, both again with a weight matrix changed by 1 %, and a corpus of SAMPLES texts."""
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    tiny_bert(folder / "encoder", tiny_tokenizer(folder / "encoder", "wordpiece"))
    write_corpus(folder / "corpus.jsonl", TEXTS[-SAMPLES:])
    _change(folder / "teacher", AutoModelForCausalLM, "model.layers.0.mlp.down_proj.weight")
    _change(folder / "encoder", AutoModel, "encoder.layer.0.output.dense.weight")
    return folder


def _change(folder: Path, kind: Any, name: str) -> None:
    changed = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-changed")))
    model = kind.from_pretrained(changed)
    with torch.no_grad():
        model.get_parameter(name).mul_(1.01)
    model.save_pretrained(changed)


def config_of(folder: Path, name: str, states: dict[str, Any], **sections: Any) -> ExtractionConfig:
    """Of `states` alone, in three shards of padded batches; `sections` override."""
    sections = {"batching": {"unit_tokens": 400, "batch_tokens": 256}} | sections
    teacher = folder / ("encoder" if sections.get("teacher", {}).get("kind") == "encoder" else "teacher")
    return extraction(folder / name, teacher, folder / "corpus.jsonl", states=states, **sections)


def cache_of(config: ExtractionConfig, change: Callable[[Made], Made] | None = None) -> Path:
    """The cache; with what the teacher made of every unit changed before it is packed and encoded."""

    def prepare(worker: TeacherWorker) -> None:
        if change is not None:
            worker._proven.add(0)  # or the fault would be found before it is written
            teacher = worker._load()
            pack = teacher.pack
            teacher.pack = lambda made: pack(change(dict(made)))  # type: ignore[method-assign]

    return extract_here(config, prepare)[0]


def replayed(cache: Path, config: ExtractionConfig, changed: bool = False, in_batch: bool = False) -> Replay:
    """What a replay of all samples finds of the teacher, or of the changed one, whose files are not looked at."""
    opened = Cache(cache)
    folder = Path(config.teacher.model)
    folder = folder.with_name(f"{folder.name}-changed") if changed else folder
    teacher = Teacher(config.teacher, WantedStates.of_cache(opened.manifest), folder, None)
    return replay(opened, teacher, SAMPLES, 0, in_batch=in_batch)
