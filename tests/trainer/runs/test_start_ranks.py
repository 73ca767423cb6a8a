"""Two real processes train as one does: losses, weights, evaluations, resuming with more or fewer; and their deaths."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from schemas.configs.training import TrainingConfig
from schemas.errors import CacheError, RunError
from tests.caches import small_cache
from tests.crash import interrupt
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.runs.on_ranks import OPTIMIZER, UNDIVIDED, VARIANTS, changes, fail, lack, speak, train_variants
from tests.trainings import write_held_out
from trainer.runs.metrics import read_metrics
from trainer.runs.start_ranks import start_ranks
from trainer.runs.train import train

STEPS = 4
SAVED = ("model/model.safetensors", "adapter/adapter_model.safetensors", "metrics.jsonl")
# In bfloat16 each rank's part of a gradient is rounded by itself; dskd's gradient is steep in its projections, and
# rounding of 1e-7 in the first step is 6e-6 of the gradient's norm in the last.
CLOSE = {"rounded": 2**-8, "dora": 2**-6, "divided_heads": 1e-5}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    small_cache(folder)
    tiny_llama(folder / "base", tiny_tokenizer(folder / "base", "bytelevel"), hidden=16, layers=4, heads=2)
    write_held_out(folder)
    return folder


def config(made: Path, output: Path, name: str = "plain", **given: Any) -> TrainingConfig:
    """Of a variant; `given` overrides it."""
    base: dict[str, Any] = {
        "cache": made / "cache",
        "output": output,
        "objective": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}, {"loss": "mta"}],
        "optimizer": OPTIMIZER,
        "steps": STEPS,
        "batch_size": 5,
        "accumulation": 2,
        "threads": 1,
        "checkpoint_every": 2,
        "log_every": 1,
        "evaluation": {"texts": made / "held_out.jsonl", "every": 2},
        "device": "cpu",
    }
    return TrainingConfig.model_validate(base | changes(name, made) | given)


@pytest.fixture(scope="module")
def on_one(made: Path) -> Callable[[str], Path]:
    """The folder of a variant that one process has trained."""

    def run(name: str) -> Path:
        output = made / "one" / name
        train(config(made, output, name, sharding="none"))
        return output

    return run


@pytest.fixture(scope="module")
def on_two(made: Path) -> Path:
    """All variants as two processes have trained them; those that are called grown began on one, and go on."""
    for name in ("grown", "divided_grown"):
        interrupt(config(made, made / "two" / name, name, sharding="none"), 3)
    start_ranks(config(made, made / "two", devices=2), train_variants)
    return made / "two"


def require_same(first: Path, second: Path, close: float = 1e-6) -> None:
    """Losses, terms and evaluations as `close` to each other in parts of their size, in the same order; and weights."""
    one, two = read_metrics(first), read_metrics(second)
    assert [list(line) for line in one] == [list(line) for line in two] and len(one) >= STEPS
    for line, other in zip(one, two, strict=True):
        assert line == pytest.approx(other, rel=close, abs=close)
    for file in SAVED[:2] if (first / "adapter").exists() else SAVED[:1]:
        weights, others = (load_file(run / file) for run in (first, second))
        assert weights.keys() == others.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, others[name], rtol=0, atol=close)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in UNDIVIDED and name != "dora"])
def test_two_ranks_train_the_student_of_one(on_one: Callable[[str], Path], on_two: Path, name: str) -> None:
    require_same(on_one(name), on_two / name, CLOSE.get(name, 1e-6))


@pytest.mark.parametrize("name", UNDIVIDED)
def test_a_divided_student_is_that_of_ranks_that_each_hold_it_whole(made: Path, on_two: Path, name: str) -> None:
    """In the same files: so it goes on as either, on one rank too, and to the bit where it stays as it was."""
    require_same(on_two / UNDIVIDED[name], on_two / name)
    train(config(made, on_two / f"{name}_left", name, sharding="none"))
    require_same(on_two / UNDIVIDED[name], on_two / f"{name}_left", CLOSE.get(UNDIVIDED[name], 1e-6))
    for file in SAVED:
        resumed, whole = (on_two / run / file for run in (f"{name}_resumed", name))
        assert resumed.exists() == whole.exists() and (not whole.exists() or resumed.read_bytes() == whole.read_bytes())
    divided, undivided = (on_two / run / "model" / "config.json" for run in (name, UNDIVIDED[name]))
    assert divided.read_bytes() == undivided.read_bytes()


def test_a_student_in_bfloat16_goes_on_in_shares(on_two: Path) -> None:
    require_same(on_two / "rounded", on_two / "rounded_moved")


def test_killed_amid_its_steps_it_ends_in_words_and_one_rank_goes_on(made: Path, tmp_path: Path) -> None:
    longer: dict[str, Any] = {"steps": 30, "evaluation": None}
    train(config(made, tmp_path / "whole", **longer))
    run = tmp_path / "run"
    killer = threading.Thread(target=kill_second_rank, args=(run / "checkpoints" / "step-00000002",), daemon=True)
    killer.start()
    with pytest.raises(RunError, match=r"^rank 1 of 2 was ended by signal 9 \(SIGKILL\); the last checkpoint stays"):
        train(config(made, run, devices=2, sharding="full", **longer))
    assert not multiprocessing.active_children()
    assert not (run / "model").exists() and not (run / ".writer").exists()
    train(config(made, run, **longer))
    require_same(tmp_path / "whole", run)


def test_whatever_ends_one_rank_ends_all_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^rank 1 of 2: sample s3 has no text$"):
        start_ranks(config(tmp_path, tmp_path, devices=2), fail)
    assert not multiprocessing.active_children()


def test_what_all_ranks_refuse_alike_is_told_as_by_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    asked = config(tmp_path, tmp_path / "run", devices=2)
    with pytest.raises(CacheError) as alone:
        train(asked.model_copy(update={"devices": 1}))
    with pytest.raises(CacheError) as on_two:
        train(asked)
    assert str(on_two.value) == str(alone.value) == f"{tmp_path}/cache is not a stillroom cache: there is no cache.json"
    assert capfd.readouterr().err == ""


def test_a_script_that_starts_itself_again_is_told_how_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = config(tmp_path, tmp_path / "run", devices=2)
    script = tmp_path / "script.py"
    script.write_text(
        "from schemas.configs.training import TrainingConfig\nfrom trainer.runs.train import train\n"
        f"train(TrainingConfig.model_validate_json({asked.model_dump_json()!r}))\n"
    )
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)  # what a rank imports
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    with pytest.raises(RunError, match=r'under `if __name__ == "__main__":`, or use `stillroom train` or torchrun$'):
        train(asked)
    assert capfd.readouterr().err == "" and not multiprocessing.active_children()


def test_storage_that_fails_a_rank_is_named_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError, match=r"^cannot read or write .*/nowhere/file: No such file"):
        start_ranks(config(tmp_path, tmp_path), lack)
    assert "Traceback" not in capfd.readouterr().err


def test_ranks_write_where_the_process_that_starts_them_writes_by_then(tmp_path: Path) -> None:
    """The server that forks them was started while it wrote elsewhere."""
    kept = os.dup(2)
    try:
        for name in ("first", "second"):
            with (tmp_path / name).open("a") as log:
                os.dup2(log.fileno(), 2)
            start_ranks(config(tmp_path, tmp_path / name), speak)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert (tmp_path / "first").read_text() == "rank 0 of first\n"
    assert (tmp_path / "second").read_text() == "rank 0 of second\n"


def kill_second_rank(sign: Path) -> None:
    while not sign.exists():
        time.sleep(0.01)
    for child in multiprocessing.active_children():
        if child.name == "rank 1":
            child.kill()
