"""Extraction beside a bare forward pass of the same teacher in bfloat16: the shape of Qwen2.5-0.5B, random weights.

    python -m tests.gpu teacher

The bare pass has its tokens ready on the device, in the batches that a worker makes of them, runs the body without its
head and keeps nothing. A worker keeps three layers and the masses of one, encodes them, and writes while the next unit
runs, by two threads as in its actor; its time is that of all units after the first, and without annotation.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from pipeline.teacher.batching import BatchRule, batches
from pipeline.work.annotate import AnnotatedUnit
from pipeline.work.worker import TeacherWorker
from tests.benchmarks.memory import make_student
from tests.caches import extraction, prepare_here
from tests.gpu.models import TOKENS, make_corpus
from tests.tiny import tiny_tokenizer

VOCABULARY, LAYERS, SAMPLES, UNIT, BATCH = 151_936, 24, 3_000, 65_536, 32_768


def check_teacher(folder: Path) -> Iterator[tuple[str, str]]:
    """Tokens per second of the bare pass, of a worker that keeps bfloat16, of one that encodes; each ÷ the bare one."""
    yield from measure(folder / "qwen", "cuda", VOCABULARY, LAYERS, SAMPLES, UNIT, BATCH)


def measure(
    folder: Path, device: str, vocabulary: int, layers: int, samples: int, unit: int, batch: int
) -> Iterator[tuple[str, str]]:
    """The same on either device."""
    torch.manual_seed(0)
    make_student(layers, vocabulary).to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer(folder, "bytelevel", vocab=400)
    corpus = make_corpus(folder, samples)
    for encoding in ("exact", "small"):
        states: dict[str, Any] = {"hidden": [layers // 2, layers - 1, layers], "mass": [layers], "encoding": encoding}
        config = extraction(
            folder / encoding,
            folder,
            corpus,
            teacher={"max_tokens": TOKENS, "device": device, "dtype": "bfloat16"},
            states=states | {"dtype": "bfloat16"},
            spans={"annotator": "none"},
            batching={"unit_tokens": unit, "batch_tokens": batch},
            workers={"gpus": 1 if device == "cuda" else 0},
        )
        worker, annotated = prepare_here(config)
        units = list(annotated)
        if encoding == "exact":
            bare = bare_rate(folder, device, units[1:], batch)
            yield "bare forward pass, tokens per second", f"{bare:,.0f}"
        found = worker_rate(worker, units)
        yield f"worker, encoding {encoding}, tokens per second, ÷ bare", f"{found:,.0f}, {found / bare:.2f}"


def worker_rate(worker: TeacherWorker, units: list[AnnotatedUnit]) -> float:
    """Tokens per second of all units but the first."""
    worker.run(units[0])
    with ThreadPoolExecutor(2) as threads:
        started = time.perf_counter()
        reports = list(threads.map(worker.run, units[1:]))
        return sum(report.tokens for report in reports) / (time.perf_counter() - started)


def bare_rate(folder: Path, device: str, units: list[AnnotatedUnit], batch: int) -> float:
    """Tokens per second of the body alone."""
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval().to(device).model
    ready = []
    for unit in units:
        ids = [torch.from_numpy(sample.token_ids).long() for sample in unit.samples]
        for rows in batches([len(row) for row in ids], BatchRule(batch)):
            chosen = [ids[row] for row in rows]
            mask_BT = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in chosen], batch_first=True)
            tokens_BT = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
            ready.append((tokens_BT.to(device), mask_BT.to(device)))
    with torch.inference_mode():
        for _ in range(2):  # the first brings the memory in
            started = time.perf_counter()
            for tokens_BT, mask_BT in ready:
                hidden_BTd = model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
            hidden_BTd[0, 0, 0].item()  # waits for the device
            seconds = time.perf_counter() - started
    return sum(len(sample.token_ids) for unit in units for sample in unit.samples) / seconds
