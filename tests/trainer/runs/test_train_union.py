"""A run over several caches is the run over the one that holds them all, interrupted or not, on ranks or in a sweep."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from schemas.cache.ragged import RaggedRows
from schemas.cache.union import open_readable
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.models.rvq_file import load_tables
from schemas.models.state_decoder import load_all_decoders
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from tests.crash import interrupt
from tests.encoded import encode_cache
from tests.joined import split_cache
from tests.schemas.models import naive_rvq
from tests.trainings import small_training, write_held_out
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.decoding import decoding
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import TeacherHidden
from trainer.runs.together import train_together
from trainer.runs.train import train

PARTS = ["first", "second"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("union")
    split_cache(folder)
    write_held_out(folder)
    return folder


def config(made: Path, output: Path, caches: list[str], **changes: Any) -> TrainingConfig:
    said = small_training(
        made,
        cache=[made / name for name in caches] if len(caches) > 1 else made / caches[0],
        output=output,
        objective=[{"loss": "ce"}, {"loss": "kd"}, {"loss": "sra"}],
        epochs=1.5,
        batch_size=8,
        checkpoint_every=3,
        evaluation={"texts": made / "held_out.jsonl", "every": 5},
    )
    return TrainingConfig.model_validate(said | changes)


def results(run: Path) -> tuple[bytes, bytes]:
    """The student, and all that was measured on the way."""
    return (run / "model" / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(made: Path) -> tuple[bytes, bytes]:
    train(config(made, made / "run", ["whole"]))
    return results(made / "run")


def test_the_student_is_that_of_the_whole(made: Path, whole: tuple[bytes, bytes], tmp_path: Path) -> None:
    run = config(made, tmp_path / "run", PARTS)
    interrupt(run, 5)
    train(run)
    assert results(run.output) == whole
    record = json.loads((run.output / "run.json").read_text())
    fingerprints = [json.loads((made / name / "cache.json").read_text())["fingerprint"] for name in PARTS]
    assert record["fingerprint"] == "+".join(fingerprints)
    again = train(TrainingConfig.model_validate_json(run.model_dump_json()))
    assert again.already_done


def test_caches_in_another_order_are_another_run(made: Path, tmp_path: Path) -> None:
    interrupt(config(made, tmp_path / "run", PARTS), 4)
    with pytest.raises(RunError, match=r"holds another run; .*\n  cache: found \"[0-9a-f]"):
        train(config(made, tmp_path / "run", PARTS[::-1]))
    with pytest.raises(RunError, match="holds another run"):
        train(config(made, tmp_path / "run", ["first"]))


def test_runs_that_share_a_read_share_the_union(made: Path, whole: tuple[bytes, bytes], tmp_path: Path) -> None:
    runs = [config(made, tmp_path / "a", PARTS), config(made, tmp_path / "b", PARTS, objective=[{"loss": "ce"}])]
    for result in train_together(runs):
        assert not isinstance(result, Exception), result
    assert results(tmp_path / "a") == whole


def test_states_are_decoded_by_the_tables_of_their_own_cache(made: Path, tmp_path: Path) -> None:
    """Two calibrations give two sets of tables, and a batch has rows of both."""
    for name in PARTS:
        encode_cache(made / name, tmp_path / name, "rvq", worst=0.1)
    union = open_readable([tmp_path / name for name in PARTS])
    assert union.tables == (tmp_path / "first", tmp_path / "second")
    request, positions = TeacherHidden(3), [25, 3, 19, 20]
    tokenizer = load_teacher_tokenizer(union.path, union.manifest)
    builder = BatchBuilder(union, StudentTokenizer(tokenizer, 64, True), [request])
    batch = decoding(builder[positions].to(torch.device("cpu")), load_all_decoders(union))
    array = union.array("hidden", 3)
    for row, position in enumerate(positions):
        (stored,) = union.states(position, [array])
        assert isinstance(stored, RaggedRows)
        tables = load_tables(union.tables[position >= 20], array)
        wanted = naive_rvq.decode(tables, torch.from_numpy(stored.data), torch.from_numpy(stored.sizes.astype(int)))
        np.testing.assert_allclose(batch[request][row, : len(wanted)].numpy(), wanted, rtol=1e-4, atol=1e-4)
        assert not batch[request][row, len(wanted) :].any()
    run = config(tmp_path, tmp_path / "run", PARTS, evaluation=None, steps=3, epochs=None)
    train(run)
    assert load_file(run.output / "model" / "model.safetensors")
