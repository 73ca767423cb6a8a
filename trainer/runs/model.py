"""The folder of a finished run means the model in it, wherever a model is named: train, inspect, generate, evaluate."""

from pathlib import Path

from schemas.configs.training import StudentConfig
from schemas.errors import RunError
from schemas.storage.record import names_format
from trainer.runs.folder import CONFIG
from trainer.runs.record import MODEL, RECORD, read_run, require_model


def is_run(folder: Path) -> bool:
    """Returns whether `folder` is that of a run, finished or not: by what its run.json says of itself."""
    return names_format(folder / RECORD, "stillroom-run")


def model_folder(folder: Path) -> Path:
    """Where the model lies that `folder` names: in a run's model/, or else in the folder itself.

    Raises RunError: the run is not finished, its record is damaged, or its model was altered since. Reads it whole.
    """
    if not is_run(folder):
        return folder
    record = read_run(folder)
    if not record.finished:
        raise RunError(f"the run {folder} is not finished; finish it with `stillroom train {folder / CONFIG}`")
    require_model(folder, record)
    return folder / MODEL


def model_name(name: str) -> str:
    """The same for a name that may be a hub id. Raises RunError as `model_folder` does."""
    return str(model_folder(Path(name))) if is_run(Path(name)) else name


def without_runs(student: StudentConfig) -> StudentConfig:
    """`student` with a run's model folder where it names a run: so it stands in the records of the new run, too.

    Raises RunError as `model_folder` does.
    """
    named = {"model": student.model, "tokenizer": student.tokenizer if student.tokenizer != "teacher" else None}
    return student.model_copy(update={field: model_name(name) for field, name in named.items() if name is not None})
