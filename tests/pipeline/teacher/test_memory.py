"""Memory that runs out: batches are halved, the shard says so, and the states are the same to rounding."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.memory import OneSampleTooLarge, run_in_parts
from pipeline.teacher.run import Teacher
from pipeline.teacher.unit_rows import UnitRows
from pipeline.work.worker import TeacherWorker, UnitReport
from schemas.cache.arrays import ArrayRecord
from schemas.cache.reader import Cache
from schemas.cache.shard import shard_path
from schemas.cache.verify import verify_shard
from schemas.errors import ResourceError
from tests.caches import extract_here, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(50, 120))
def test_every_sample_is_run_once_in_the_order_of_the_batch(lengths: list[int], memory: int) -> None:
    done: list[int] = []
    parts: list[int] = []
    halved: list[int] = []

    def run(part: list[int]) -> None:
        if sum(lengths[i] for i in part) > memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(part)
        parts.append(len(part))

    run_in_parts(list(range(len(lengths))), run, lambda part: halved.append(len(part)))
    assert done == list(range(len(lengths)))
    assert len(parts) == len(halved) + 1  # a batch is cut once for every halving
    assert bool(halved) == (sum(lengths) > memory)


def test_one_sample_that_is_too_large_is_named_after_the_others_were_tried() -> None:
    def run(part: list[int]) -> None:
        if 2 in part:
            raise torch.OutOfMemoryError("no more")

    with pytest.raises(OneSampleTooLarge, match="no more") as caught:
        run_in_parts([0, 1, 2, 3], run, lambda part: None)
    assert caught.value.index == 2


def test_another_error_passes() -> None:
    def run(part: list[int]) -> None:
        raise RuntimeError("a shape is wrong")

    with pytest.raises(RuntimeError, match="a shape is wrong"):
        run_in_parts([0, 1], run, lambda part: None)


def refuse_above(tokens: int) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
    """A hook that lets a model run out of memory in any pass over more than `tokens` tokens, padding included."""

    def hook(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        ids = keywords.get("input_ids", arguments[0] if arguments else None)
        if ids is not None and ids.numel() > tokens:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried {ids.numel()} tokens")

    return hook


def extract_within(folder: Path, output: str, tokens: int | None) -> tuple[Path, list[UnitReport]]:
    """A cache made in this process by a real teacher, with memory for `tokens` tokens in a pass."""
    config = extraction(folder / output, folder / "model", folder / "corpus.jsonl", batching={"batch_tokens": 256})

    def limit(worker: TeacherWorker) -> None:
        if tokens is not None:
            body = worker._load()._model.base_model
            body.register_forward_pre_hook(refuse_above(tokens), with_kwargs=True)

    return extract_here(config, limit)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    tiny_llama(folder / "model", tiny_tokenizer(folder / "model", "bpe"))
    write_corpus(folder / "corpus.jsonl")
    return folder


def test_a_cache_made_with_too_little_memory_is_whole_and_says_so(folder: Path) -> None:
    plain, plain_reports = extract_within(folder, "plain", None)
    small, reports = extract_within(folder, "small", 100)
    assert all(report.halved == 0 for report in plain_reports)
    assert sum(report.halved for report in reports) > len(reports)
    assert sum(report.tokens for report in reports) == sum(report.tokens for report in plain_reports)
    caches = Cache(plain), Cache(small)
    worst = 0.0
    for position in range(len(caches[0])):
        rows = [cache.states(position, cache.manifest.arrays) for cache in caches]
        for one, other in zip(*rows, strict=True):
            worst = max(worst, float(np.abs(np.asarray(one) - np.asarray(other)).max() / np.abs(one).max()))
    assert worst < 1e-5
    for number, report in enumerate(reports):
        shard = shard_path(small, number)
        proven = verify_shard(small, number, caches[1].manifest, None).record
        assert proven == report.record.model_copy(update={"files": {}})
        assert not (shard_path(plain, number) / "halved.json").exists()
        if report.halved:
            said = json.loads((shard / "halved.json").read_text())
            assert len(said["batches"]) == report.halved and "halved.json" in report.record.files
            assert all(batch["samples"] > 1 and batch["tokens"] > 0 for batch in said["batches"])


def test_a_sample_that_is_too_large_alone_ends_with_its_name_and_leaves_nothing(folder: Path) -> None:
    said = r"^sample 's\d+': memory does not suffice for its \d+ tokens alone \(CUDA out of memory\. .*\); give every"
    with pytest.raises(ResourceError, match=said):
        extract_within(folder, "one", 10)
    assert list((folder / "one" / "shards").rglob("*")) == []


def test_a_batch_that_was_launched_before_memory_ran_out_is_stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored while the next one runs, which is then halved, and brings nothing of it back."""
    store, stored, failed = UnitRows.store, Counter[int](), list[str]()

    def store_but_once(rows: UnitRows, places: Any, array: ArrayRecord, values_Nx: Any) -> None:
        stored[id(rows)] += 1
        if stored[id(rows)] == 3 * len(rows.stored) and not failed:  # the last array of a unit's third batch
            failed.append(array.path)
            raise torch.OutOfMemoryError("CUDA out of memory")
        store(rows, places, array, values_Nx)

    caches, batching = list[Cache](), {"unit_tokens": 600, "batch_tokens": 64}
    for name in ("at-ease", "pressed"):
        if name == "pressed":
            monkeypatch.setattr(UnitRows, "store", store_but_once)
        config = extraction(folder / name, folder / "model", folder / "corpus.jsonl", batching=batching)
        cache, reports = extract_here(config)
        caches.append(Cache(cache))
        assert sum(report.halved for report in reports) == (name == "pressed")
    for position in range(len(caches[0])):
        rows, others = (cache.states(position, cache.manifest.arrays) for cache in caches)
        for one, other in zip(rows, others, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_batch_for_whose_proof_memory_does_not_suffice_is_counted_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stored by then, and its halves are stored in its place."""
    prove, failed = Teacher._check_alone, list[str]()

    def fail_once(teacher: Teacher, sample: AnnotatedSample, stored: dict[str, torch.Tensor]) -> None:
        if not failed:
            failed.append(sample.id)
            raise torch.OutOfMemoryError("CUDA out of memory")
        prove(teacher, sample, stored)

    monkeypatch.setattr(Teacher, "_check_alone", fail_once)
    cache, reports = extract_within(folder, "unproven", None)
    assert failed and sum(report.halved for report in reports) == 1
    assert [report.tokens for report in reports] == [report.record.tokens for report in reports]
    assert len(Cache(cache)) == len(TEXTS)
