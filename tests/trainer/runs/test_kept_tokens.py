"""Runs that share the student's tokens: the same batches byte for byte, the same student, and a place for them."""

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import build_cache, extraction, small_cache
from tests.chats import chat_extraction, chat_model, write_chats
from tests.crash import interrupt
from tests.tiny import tiny_tokenizer
from trainer.alignment.student_text import StudentText, StudentTokenizer
from trainer.data.batch import Batch
from trainer.runs.caches import open_caches
from trainer.runs.checkpoint import CheckpointRecord, Start
from trainer.runs.inputs import read_inputs
from trainer.runs.metrics import read_metrics
from trainer.runs.setup import set_up
from trainer.runs.train import train

NEW = Start(None, CheckpointRecord(step=0, fingerprint="f", run="r"))
OBJECTIVE = [{"loss": "ce"}, {"loss": "sra"}, {"loss": "mta"}, {"loss": "alm"}]
SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, another tokenizer, and a cache of conversations with a student of another template."""
    folder = tmp_path_factory.mktemp("kept")
    small_cache(folder)
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    build_cache(
        chat_extraction(folder / "chats", chat_model(folder / "chatty", "llama3"), write_chats(folder / "chats.jsonl"))
    )
    chat_model(folder / "zephyr", "zephyr")
    return folder


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The samples that a tokenizer has cut so far."""
    found, original = list[str](), StudentTokenizer.__call__

    def count(self: StudentTokenizer, samples: Sequence[CachedSample]) -> list[StudentText]:
        found.extend(sample.id for sample in samples)
        return original(self, samples)

    monkeypatch.setattr(StudentTokenizer, "__call__", count)
    return found


def config(made: Path, output: Path, **changes: Any) -> TrainingConfig:
    student = {"architecture": {"model_type": "llama", **SIZE}, "tokenizer": str(made / "other"), "max_tokens": 40}
    base: dict[str, Any] = {"cache": made / "cache", "output": output, "student": student, "objective": OBJECTIVE}
    base |= {"steps": 4, "batch_size": 5, "threads": 1, "device": "cpu", "checkpoint_every": 2, "log_every": 1}
    return TrainingConfig.model_validate(base | changes)


def arrays(value: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor below, and every plain value, by what it is called."""
    if isinstance(value, torch.Tensor):
        yield "", value.detach().view(torch.int16 if value.element_size() == 2 else value.dtype).numpy()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from ((f"{key!r}{name}", array) for name, array in arrays(item))
    elif hasattr(value, "__dataclass_fields__"):
        compared = [name for name, field in value.__dataclass_fields__.items() if field.compare]
        yield from arrays({name: getattr(value, name) for name in compared})
    else:
        yield "", value


def require_same_batches(found: Sequence[Batch], wanted: Sequence[Batch]) -> None:
    for one, other in zip(found, wanted, strict=True):
        pairs = list(zip(arrays(one), arrays(other), strict=True))
        assert len(pairs) > 12
        for (name, mine), (same_name, theirs) in pairs:
            assert name == same_name
            if isinstance(theirs, np.ndarray):
                assert (mine.dtype, mine.shape, mine.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), name
            else:
                assert mine == theirs, name


def draw(asked: TrainingConfig, batches: int) -> list[Batch]:
    """The first batches of a run, which ends with them."""
    caches = open_caches(asked)
    with torch.random.fork_rng():
        training = set_up(asked, caches, NEW, 4, read_inputs(asked, caches["corpus"].path))
    found = list(islice(training.loop.sources["corpus"].stream, batches))
    training.close()
    return found


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def require_same_runs(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert read_metrics(one) == read_metrics(other)


def test_batches_are_the_same_byte_for_byte(made: Path, tmp_path: Path, cut: list[str]) -> None:
    """While they are first made, in the next epoch, in another run, and in one of another seed."""
    asked = {"tokens_folder": tmp_path / "tokens", "batch_size": 20}
    plain = draw(config(made, tmp_path / "o", keep_tokens=False, batch_size=20), 6)
    samples = len(Cache(made / "cache"))
    cut.clear()
    require_same_batches(draw(config(made, tmp_path / "o", **asked), 6), plain)
    assert len(cut) == samples
    require_same_batches(draw(config(made, tmp_path / "o", **asked), 6), plain)
    assert len(cut) == samples
    other = draw(config(made, tmp_path / "o", keep_tokens=False, batch_size=20, seed=9), 6)
    cut.clear()
    require_same_batches(draw(config(made, tmp_path / "o", seed=9, loader_workers=2, **asked), 6), other)
    assert cut == []


def test_conversations_in_another_template_too(made: Path, tmp_path: Path, cut: list[str]) -> None:
    student = {"model": str(made / "zephyr"), "max_tokens": 256}
    objective = [{"loss": "ce"}, {"loss": "sra"}]
    asked = {"cache": made / "chats", "student": student, "batch_size": 2, "objective": objective}
    plain = draw(config(made, tmp_path / "o", keep_tokens=False, **asked), 5)
    for _ in range(2):
        cut.clear()
        require_same_batches(draw(config(made, tmp_path / "o", tokens_folder=tmp_path / "tokens", **asked), 5), plain)
    assert cut == []
    # In the teacher's template the same texts are other tokens.
    student["chat_template"] = "teacher"
    plain = draw(config(made, tmp_path / "o", keep_tokens=False, **asked), 5)
    require_same_batches(draw(config(made, tmp_path / "o", tokens_folder=tmp_path / "tokens", **asked), 5), plain)
    assert len(list((tmp_path / "tokens").iterdir())) == 2


@pytest.mark.parametrize("change", ["appear", "disappear", "be replaced", "be damaged"])
def test_they_may_change_between_two_tries_at_a_run(
    made: Path, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    if not (made / "plain").exists():
        train(config(made, made / "plain", keep_tokens=False))
    tokens = tmp_path / "tokens"
    kept = {"tokens_folder": tokens}
    interrupt(config(made, tmp_path / "run", **({"keep_tokens": False} if change == "appear" else kept)), 3)
    if change == "disappear":
        shutil.rmtree(tokens)
    elif change == "be replaced":
        shutil.rmtree(tokens)
        draw(config(made, tmp_path / "o", seed=5, **kept), 1)
    elif change == "be damaged":
        for path in tokens.glob("*/*.arrow"):
            path.write_bytes(path.read_bytes()[:-100])
    train(config(made, tmp_path / "run", **kept))
    require_same_runs(tmp_path / "run", made / "plain")
    assert ("is damaged: its content is not what its name says" in caplog.text) == (change == "be damaged")
    assert list(tokens.glob("*/*.arrow"))


def test_they_lie_beside_the_cache_however_it_is_called(made: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made / "cache")
    beside = made / "cache.tokens"
    shutil.rmtree(beside, ignore_errors=True)
    draw(config(made, tmp_path / "o", cache=tmp_path / "link"), 1)
    (folder,) = beside.iterdir()
    assert {path.name for path in folder.iterdir()} > {"identity.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    teachers = config(made, tmp_path / "o").student.model_dump() | {"tokenizer": "teacher"}
    draw(config(made, tmp_path / "o", student=teachers), 1)
    draw(config(made, tmp_path / "o", student=teachers | {"max_tokens": 20}), 1)
    assert len(list(beside.iterdir())) == 3


def test_where_the_place_beside_the_cache_is_none_a_word_is_said(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").symlink_to(made / "cache")
    build_cache(extraction(tmp_path / "own", made / "teacher", made / "corpus.jsonl"))
    (tmp_path / "own.tokens").touch()
    train(config(made, tmp_path / "run", cache=tmp_path / "own", steps=2))
    (said,) = (message for message in caplog.messages if "own.tokens" in message)
    assert "cannot be kept" in said and "(Not a directory)" in said and "`tokens_folder`" in said


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file", "file is not a folder; give another place"),
        ("link", "link is not a folder; give another place"),
        ("link/folder", "link is a link to nothing; give another place"),
        ("cache", "cache is a cache; give a place outside it"),
        ("file/folder", "is a file; give another place"),
        ("cache/tokens", "is a cache; give a place outside it"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_the_work(made: Path, tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "cache").symlink_to(made / "cache")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(RunError, match=said):
        train(config(made, tmp_path / "run", tokens_folder=tmp_path / place))
    assert not (tmp_path / "run").exists()
    assert not list((made / "cache").glob("*/identity.json"))


def test_a_place_without_tokens_is_a_contradiction(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`tokens_folder` is where tokens are kept: leave it out"):
        config(made, tmp_path / "run", keep_tokens=False, tokens_folder=tmp_path / "tokens")
