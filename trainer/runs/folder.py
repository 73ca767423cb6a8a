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
from typing import Any

from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import dump_config
from schemas.errors import RunError
from schemas.models.files import quiet_transformers
from schemas.storage.atomic import commit_folder, disk_full, folder_beside, remove_temporaries, write_text
from schemas.storage.file_record import list_files
from schemas.storage.fingerprint import differences, fingerprint
from schemas.storage.lock import STALE_SECONDS, Lock, acquire
from schemas.storage.writable import require_apart, require_writable
from trainer.runs.record import MODEL, NOT_IDENTITY, RECORD, RunRecord, as_begun, complete_identity, read_run
from trainer.student.adapter import has_adapter, merge_adapter, save_adapter
from trainer.student.saved_tokenizer import save_tokenizer

CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
EVENTS = "tensorboard"
ADAPTER = "adapter"
LOCK = ".writer"
OLD_LOCK = ".lock"  # an empty file that version 1 left behind

logger = logging.getLogger(__name__)


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
        self.config = config if found is None else as_begun(config, found.identity)
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

    def finish(self, model: Any, tokenizer: Any, evaluation: dict[str, float] | None) -> None:
        """Publish the model, with its adapter merged in and beside it; mark the run finished; drop the checkpoints.

        Raises ResourceError if the disk is full, TokenizerError as `load_student` has done before.
        """
        self.require_lock()
        target = self.path / MODEL
        with disk_full("the model", self.path):
            if has_adapter(model):
                self._publish_adapter(model)
            with folder_beside(target) as folder, quiet_transformers():
                model.save_pretrained(folder)
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
