"""What run.json says of a run: its identity, complete though settings came later, and the files of its model."""

from pathlib import Path
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.storage.file_record import list_files
from trainer.runs.record import (
    NOT_IDENTITY,
    RunRecord,
    as_begun,
    complete_identity,
    read_run,
    require_model,
    trained_max_tokens,
)


def config(**changes: Any) -> TrainingConfig:
    base = {"cache": "c", "output": "o", "student": {"model": "m", "max_tokens": 48}, "steps": 2}
    return TrainingConfig.model_validate(base | changes)


def identity(**changes: Any) -> dict[str, Any]:
    return config(**changes).model_dump(mode="json", exclude=NOT_IDENTITY)


def record(**changes: Any) -> RunRecord:
    return RunRecord.model_validate({"fingerprint": "f", "identity": identity(), "steps": 2} | changes)


def test_what_is_left_out_means_what_it_meant_when_the_run_began() -> None:
    begun = identity()
    later = {key: value for key, value in begun.items() if key != "order"}
    assert config().order == "length" and as_begun(config(), begun) == config()
    assert as_begun(config(), later).order == "random"
    assert as_begun(config(order="length"), later).order == "length"


def test_an_identity_gains_what_came_later_and_is_else_as_it_was() -> None:
    begun = identity(order="random", packing="never")
    later = {key: value for key, value in begun.items() if key not in ("order", "packing", "seed")}
    assert complete_identity(later) == begun and complete_identity(identity()) == identity()
    assert complete_identity(later | {"gone": 1}) == later | {"gone": 1}  # a setting that no config has any more


def test_a_finished_run_has_every_file_of_its_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    finished = record(finished=True, model=list_files(model))
    require_model(tmp_path, finished)
    (model / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(RunError, match=r"model/model\.safetensors does not have its checksum; remove .* again$"):
        require_model(tmp_path, finished)
    (model / "model.safetensors").rename(model / "other.safetensors")
    with pytest.raises(RunError, match=r"model/model\.safetensors is missing"):
        require_model(tmp_path, finished)
    first_version = record(version=1, finished=True)  # without checksums
    require_model(tmp_path, first_version)
    (model / "other.safetensors").unlink()
    with pytest.raises(RunError, match=r"model/model\.safetensors is missing"):
        require_model(tmp_path, first_version)


def test_where_samples_were_cut_is_said_or_the_record_is_damaged(tmp_path: Path) -> None:
    assert trained_max_tokens(tmp_path, record()) == 48
    for student in ("m", {}, {"max_tokens": True}, {"max_tokens": 1}, {"max_tokens": "48"}):
        with pytest.raises(RunError, match=r"run\.json is damaged: its identity has no student\.max_tokens"):
            trained_max_tokens(tmp_path, record(identity={"student": student}))


def test_a_record_is_read_as_it_was_written_and_a_finished_one_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(record().model_dump_json())
    assert read_run(tmp_path) == record()
    (tmp_path / "run.json").write_text(record().model_dump_json().replace('"finished":false', '"finished":true'))
    with pytest.raises(RunError, match="a finished run names the files of its model"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="is not the folder of a training run"):
        read_run(tmp_path / "none")
