"""A run's folder, and the rule that decides between starting, resuming, and leaving a finished run alone.

RUN/
  config.yaml     the resolved config: `stillroom train RUN/config.yaml` is the same run
  run.json        the cache's fingerprint, what identifies the run, hashes of what it reads besides; once it is
                  finished, its last evaluation and the checksums of its model
  metrics.jsonl   losses and evaluations by step
  tensorboard/    the same as events, and tokens per second
  checkpoints/    for resuming; removed from a finished run
  model/          the student and its tokenizer, as AutoModelForCausalLM and AutoTokenizer open them, or an encoder as
                  sentence-transformers does
  adapter/        of a student with an adapter, as PeftModel opens it; model/ has it merged in
  .writer         the lock of the training that writes here; gone afterwards
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import dump_config
from schemas.errors import RunError
from schemas.models.files import quiet_transformers
from schemas.storage.atomic import commit_folder, disk_full, folder_beside, remove_temporaries, write_text
from schemas.storage.file_record import FileRecord, list_files
from schemas.storage.fingerprint import differences, fingerprint
from schemas.storage.lock import STALE_SECONDS, Lock, acquire
from schemas.storage.record import read_record
from schemas.storage.writable import require_apart, require_writable
from schemas.strict import Strict
from trainer.student.adapter import has_adapter, merge_adapter, save_adapter
from trainer.student.saved_tokenizer import save_tokenizer

RECORD = "run.json"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
EVENTS = "tensorboard"
MODEL = "model"
ADAPTER = "adapter"
LOCK = ".writer"
BASE, TOKENIZER, CHAT_TEMPLATE, HELD_OUT = (
    "student.model",
    "student.tokenizer",
    "student.chat_template",
    "evaluation",
)  # what is read anew when a run goes on, in `inputs`
OLD_LOCK = ".lock"  # an empty file that version 1 left behind

logger = logging.getLogger(__name__)

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


class RunFolder:
    """The folder of one run."""

    def __init__(self, config: TrainingConfig, cache: str, steps: int):
        """`cache` is its fingerprint. Raises RunError: the folder holds another run or something else, or it cannot be
        made.

        Its `config` is the one to go on with: what the given one leaves out means what it meant when the run began.
        """
        self.path = config.output
        self._lock: Lock | None = None
        found = self._seen = self._found()
        self.config = config if found is None else _as_begun(config, found.identity)
        self.record = RunRecord(
            fingerprint=cache, identity=self.config.model_dump(mode="json", exclude=NOT_IDENTITY), steps=steps
        )
        if found is not None:
            wanted = {"cache": cache} | self.record.identity
            lines = list(differences({"cache": found.fingerprint} | complete_identity(found.identity), wanted))
            if lines:
                raise RunError(
                    f"{self.path} holds another run; give this one another `output`, or remove that folder. "
                    "They differ in\n  " + "\n  ".join(lines)
                )
            self.record = found

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, one folder each."""
        return self.path / CHECKPOINTS

    @property
    def run(self) -> str:
        """Hash of what makes this the run that it is, as its record has it."""
        return fingerprint({"identity": self.record.identity, "steps": self.record.steps})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else trains in this folder: enter before looking for checkpoints. A folder of no run yet is not
        touched; `begin` locks it.

        Raises RunError: another training writes here, or has written here since this object was made.
        """
        try:
            if self._seen is not None:
                self._acquire()
            yield
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def begin(self, inputs: dict[str, str] | None = None) -> None:
        """Write run.json and config.yaml: from here on the folder belongs to this run.

        `inputs` are the hashes of what a run reads that is at its beginning; None leaves what is recorded.

        Raises RunError as `locked` does or if the folder cannot be made, ResourceError if the disk is full.
        """
        with disk_full("the run", self.path):
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError, PermissionError) as error:
                raise RunError(f"cannot make the output {self.path}: {error.strerror}; give another one") from error
        if self._lock is None:
            self._acquire()
        for folder in (self.path, self.checkpoints):
            remove_temporaries(folder)
        if inputs is not None:
            self.record = self.record.model_copy(update={"inputs": inputs})
        with disk_full("the record", self.path):
            self._write_record()
            write_text(self.path / CONFIG, dump_config(self.config))

    def finish(
        self, model: Any, tokenizer: Any, evaluation: dict[str, float] | None, weights: dict[str, Any] | None = None
    ) -> None:
        """Publish the model, with its adapter merged in and beside it; mark the run finished; drop the checkpoints.
        `weights` are those of a model that is divided among ranks.

        Raises ResourceError if the disk is full, TokenizerError as `load_student` has done before.
        """
        self.require_lock()
        target = self.path / MODEL
        with disk_full("the model", self.path):
            if has_adapter(model):
                self._publish_adapter(model)
            with folder_beside(target) as folder, quiet_transformers():
                model.save_pretrained(folder, **({} if weights is None else {"state_dict": weights}))
                save_tokenizer(tokenizer, folder)
                shutil.rmtree(target, ignore_errors=True)  # of a run that was killed before it was marked finished
                commit_folder(folder, target)
            done = {"version": 2, "finished": True, "evaluation": evaluation, "model": list_files(target)}
            self.record = self.record.model_copy(update=done)
            self._write_record()
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _publish_adapter(self, model: Any) -> None:
        target = self.path / ADAPTER
        with folder_beside(target) as folder:
            save_adapter(model, folder)
            shutil.rmtree(target, ignore_errors=True)
            commit_folder(folder, target)
        merge_adapter(model)

    def require_lock(self) -> None:
        """Raises RunError if another process has taken the folder over: asked before anything is published."""
        if self._lock is not None and not self._lock.is_held():
            raise RunError(f"another training has taken {self.path} over; this one ends and leaves it alone")

    def require_folders(self) -> None:
        """Raises RunError if a file lies where the run will want a folder: asked before the work."""
        for name in (MODEL, ADAPTER, CHECKPOINTS, EVENTS):
            path = self.path / name
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                raise RunError(f"{path} is not a folder of this run; move it away")

    def _acquire(self) -> None:
        try:
            self._lock = acquire(self.path / LOCK, self._busy, logger.warning)
        except OSError as error:
            raise RunError(f"cannot write to the output {self.path}: {error.strerror}; give another one") from error
        if self._found() != self._seen:
            raise RunError(f"another training wrote to {self.path} in the meantime; run the same command again")

    def _busy(self, holder: str) -> RunError:
        return RunError(
            f"another training is writing to {self.path}: {holder}; wait until it is done (if its machine is gone, its "
            f"lock is taken over {STALE_SECONDS:.0f} s after it was last seen), or give this one another `output`"
        )

    def _write_record(self) -> None:
        write_text(self.path / RECORD, self.record.model_dump_json(indent=2) + "\n")

    def _found(self) -> RunRecord | None:
        if not (self.path / RECORD).exists():  # a finished run may lie where nobody can write
            require_writable(self.path)
            require_apart(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"output {self.path} is a file; give a folder")
        if (self.path / RECORD).exists():
            return read_run(self.path)
        # A start that was killed before run.json leaves a lock and hidden temporaries.
        if self.path.exists() and any(
            p.name not in (LOCK, OLD_LOCK) and not p.match(".*.tmp") for p in self.path.iterdir()
        ):
            raise RunError(f"output {self.path} is not empty and holds no run; give another folder")
        return None


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


def _as_begun(config: TrainingConfig, identity: dict[str, Any]) -> TrainingConfig:
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


def read_run(run: Path) -> RunRecord:
    """run.json of the folder `run`. Raises RunError: no run, damaged, or of an unknown version."""
    return read_record(run / RECORD, RunRecord, RunError, f"{run} is not the folder of a training run")
