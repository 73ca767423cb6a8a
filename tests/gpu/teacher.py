"""Extraction beside a bare forward pass of the same teacher in bfloat16: the shape of Qwen2.5-0.5B, random weights.

    python -m tests.gpu teacher small

The bare pass has its tokens ready on the device, in the batches that a worker makes of them, runs the body without its
head and keeps nothing. A worker keeps three layers and the masses of one, encodes them, and writes while the next unit
runs, by two threads as in its actor; its time is that of all units after the first, and without annotation.

Where the time of a unit goes is told by what its parts take alone: its forward pass with its copies, by one thread that
writes nothing; and each part of writing, of the first unit's bytes, in the same folder.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from pipeline.teacher.batching import BatchRule, batches
from pipeline.work.annotate import AnnotatedUnit
from pipeline.work.worker import TeacherWorker
from schemas.storage.atomic import flush_folder
from schemas.storage.blocks import list_blocks
from tests.benchmarks.memory import make_student
from tests.caches import extraction, prepare_here
from tests.gpu.models import TOKENS, make_corpus
from tests.tiny import tiny_tokenizer

VOCABULARY, LAYERS, SAMPLES, UNIT, BATCH = 151_936, 24, 3_000, 65_536, 32_768
FEWER = 1_200  # samples: calibration takes longest


def check_teacher(folder: Path) -> Iterator[tuple[str, str]]:
    """Tokens per second of the bare pass, and of a worker that keeps bfloat16, which is ÷ the bare one, too."""
    yield from measure(folder / "qwen", "cuda", VOCABULARY, LAYERS, SAMPLES, UNIT, BATCH, ("exact",))


def check_small(folder: Path) -> Iterator[tuple[str, str]]:
    """The same of a worker that encodes, after its calibration."""
    yield from measure(folder / "qwen-small", "cuda", VOCABULARY, LAYERS, FEWER, UNIT, BATCH, ("small",))


def measure(
    folder: Path,
    device: str,
    vocabulary: int,
    layers: int,
    samples: int,
    unit: int,
    batch: int,
    encodings: Sequence[str] = ("exact", "small"),
) -> Iterator[tuple[str, str]]:
    """The same on either device."""
    torch.manual_seed(0)
    make_student(layers, vocabulary).to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer(folder, "bytelevel", vocab=400)
    corpus = make_corpus(folder, samples)
    bare = None
    for encoding in encodings:
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
        started = time.perf_counter()
        worker, annotated = prepare_here(config)
        yield f"encoding {encoding}: seconds to load, prove and calibrate", f"{time.perf_counter() - started:.1f}"
        units = list(annotated)
        if bare is None:
            bare = bare_rate(folder, device, units[1:], batch)
            yield "bare forward pass, tokens per second", f"{bare:,.0f}"
        rate, forward, write = worker_rate(worker, units)
        yield f"worker, encoding {encoding}, tokens per second, ÷ bare", f"{rate:,.0f}, {rate / bare:.2f}"
        yield (
            f"{encoding}: milliseconds of a unit in its forward pass, then to its shard",
            f"{forward:.0f}, {write:.0f}",
        )
        yield from alone(worker, units[0], folder / encoding / "shards" / "00000")


def worker_rate(worker: TeacherWorker, units: list[AnnotatedUnit]) -> tuple[float, float, float]:
    """Tokens per second of all units but the first; milliseconds per unit in forward passes, and after them, as the
    worker reports them."""
    worker.run(units[0])
    with ThreadPoolExecutor(2) as threads:
        started = time.perf_counter()
        reports = list(threads.map(worker.run, units[1:]))
        seconds = time.perf_counter() - started
    tokens = sum(report.tokens for report in reports)
    forward, write = (
        1000 * sum(part) / len(reports)
        for part in zip(*((report.forward_seconds, report.write_seconds) for report in reports), strict=True)
    )
    return tokens / seconds, forward, write


def alone(worker: TeacherWorker, unit: AnnotatedUnit, shard: Path) -> Iterator[tuple[str, str]]:
    """Milliseconds of the parts of a unit whose `shard` is there, each by itself; of two times, the second."""
    teacher, encoding = worker._load(), shard.parts[-3]
    for _ in range(2):
        made, forward = timed(lambda: teacher.run(unit.samples, worker._rule, lambda samples, tokens: None))
    yield f"{encoding}: a unit's forward pass and copies alone, ms", f"{forward:.0f}"
    packed, _ = teacher.pack(made)
    for _ in range(2):
        _, encode = timed(lambda: worker._encode(worker._sections[0], packed))
    yield f"{encoding}: its encoding alone, ms", f"{encode:.0f}"
    copy = shard.with_name("copy")
    for _ in range(2):
        _, write = timed(lambda: shutil.copytree(shard, copy, copy_function=by_hand))
        _, hash_ = timed(lambda: list_blocks(copy))
        _, flush = timed(lambda: flush_folder(copy))
        size = sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())
        shutil.rmtree(copy)
    figure = f"{write:.0f}, {hash_:.0f}, {flush:.0f} ms of {size / 1e6:,.1f} MB"
    yield f"{encoding}: its files copied by one thread, hashed, flushed", figure


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its milliseconds."""
    started = time.perf_counter()
    given = call()
    return given, 1000 * (time.perf_counter() - started)


def by_hand(source: str, target: str) -> None:
    """From memory, as a shard is written: the system may copy files without doing so."""
    content = Path(source).read_bytes()
    Path(target).write_bytes(content)


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
