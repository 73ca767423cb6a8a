"""run.json: what a run is, what may differ between two tries at it, and the model that it ended in."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.storage.file_record import FileRecord, list_files
from schemas.storage.record import read_record
from schemas.strict import Strict

RECORD = "run.json"
MODEL = "model"
BASE, TOKENIZER, CHAT_TEMPLATE, HELD_OUT = (
    "student.model",
    "student.tokenizer",
    "student.chat_template",
    "evaluation",
)  # what is read anew when a run goes on, in `inputs`

# What may differ between two tries at one run: it changes whether, where or how often, never the student, except that
# sums over more devices round otherwise.
NOT_IDENTITY = {
    "cache",
    "student_cache",
    "output",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "loader_workers",
    "keep_tokens",
    "tokens_folder",
    "devices",
    "sharding",
    "min_coverage",
    "min_agreement",
    "gradient_checkpointing",
}


# What a setting meant before there was one, where its default is another now.
BEFORE: dict[str, Any] = {"order": "random", "packing": "never"}


class RunRecord(Strict):
    """The whole of run.json."""

    format: Literal["stillroom-run"] = "stillroom-run"
    version: Literal[1, 2] = 2
    fingerprint: Annotated[str, Field(description="The cache's fingerprint.")]
    identity: Annotated[dict[str, Any], Field(description="Every setting that changes the student.")]
    steps: Annotated[int, Field(ge=1, description="Optimiser steps of the whole run.")]
    finished: bool = False
    evaluation: Annotated[dict[str, float] | None, Field(description="The last evaluation on what was held out.")] = (
        None
    )
    model: Annotated[
        dict[str, FileRecord] | None,
        Field(description="Size and checksum of every file in model/, once finished; null in version 1."),
    ] = None

    inputs: Annotated[
        dict[str, str] | None,
        Field(description="Hashes of what is read anew when the run goes on; null in runs begun by earlier versions."),
    ] = None

    @model_validator(mode="after")
    def _finished_with_its_model(self) -> Self:
        if self.version > 1 and self.finished and not self.model:
            raise ValueError("a finished run names the files of its model")
        return self


def read_run(run: Path) -> RunRecord:
    """run.json of the folder `run`. Raises RunError: no run, damaged, or of an unknown version."""
    return read_record(run / RECORD, RunRecord, RunError, f"{run} is not the folder of a training run")


def require_model(run: Path, record: RunRecord) -> None:
    """A finished run is finished only with its model. Raises RunError that names what is missing or altered.

    Reads the whole model. A run finished by version 1 recorded no checksums: its weights need only be there.
    """
    target = run / MODEL
    found = list_files(target) if target.is_dir() else {}
    if record.model is not None:
        missing = next((name for name, file in record.model.items() if found.get(name) != file), None)
    else:
        missing = None if any(name.endswith(".safetensors") for name in found) else "model.safetensors"
    if missing is not None:
        state = "does not have its checksum" if missing in found else "is missing"
        raise RunError(f"{run} was finished, but {target / missing} {state}; remove {run} to train it again")


def trained_max_tokens(run: Path, record: RunRecord) -> int:
    """Where the run cut its samples. Raises RunError if its record does not say so."""
    student = record.identity.get("student")
    found = student.get("max_tokens") if isinstance(student, dict) else None
    if type(found) is not int or found < 2:
        raise RunError(f"{run / RECORD} is damaged: its identity has no student.max_tokens; train the run again")
    return found


def as_begun(config: TrainingConfig, identity: dict[str, Any]) -> TrainingConfig:
    """`config`, where what it leaves out means what it meant when the run of that identity began."""
    unsaid = BEFORE.keys() - config.model_fields_set - identity.keys()
    return config.model_copy(update={key: BEFORE[key] for key in unsaid})


def complete_identity(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity of a run with every setting that came later as the run was made.

    One that no config can have any more is returned as it is.
    """
    places = {"cache": "-", "output": "-"} | ({"student_cache": "-"} if _wants_student_texts(identity) else {})
    try:
        return TrainingConfig.model_validate(BEFORE | identity | places).model_dump(mode="json", exclude=NOT_IDENTITY)
    except ValidationError:
        return identity


def _wants_student_texts(identity: dict[str, Any]) -> bool:
    losses = identity.get("objective")
    listed = losses if isinstance(losses, list) else []
    return any(isinstance(loss, dict) and loss.get("texts") == "student" for loss in listed)
