"""A run's folder, and the rule that decides between starting, resuming, and leaving a finished run alone.

RUN/
  config.yaml     the resolved config: `stillroom train RUN/config.yaml` is the same run
  run.json        the cache's fingerprint, what identifies the run, whether it is finished, its last evaluation
  metrics.jsonl   losses and evaluations by step
  tensorboard/    the same as events, and tokens per second
  checkpoints/    for resuming; removed from a finished run
  model/          the student and its tokenizer, as AutoModelForCausalLM and AutoTokenizer open them
"""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from schemas.base import Strict
from schemas.errors import RunError
from schemas.fingerprint import differences
from schemas.model_files import quiet_transformers
from schemas.training import TrainingConfig
from schemas.yaml import dump_config

RECORD = "run.json"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
MODEL = "model"

# What may differ between two tries at one run: it changes where or how often, never the student.
FREE = {"cache", "output", "checkpoint_every", "keep_checkpoints", "log_every", "loader_workers"}


class RunRecord(Strict):
    """The whole of run.json."""

    format: Literal["stillroom-run"] = "stillroom-run"
    version: Literal[1] = 1
    fingerprint: Annotated[str, Field(description="The cache's fingerprint.")]
    identity: Annotated[dict[str, Any], Field(description="Every setting that changes the student.")]
    steps: Annotated[int, Field(ge=1, description="Optimiser steps of the whole run.")]
    finished: bool = False
    evaluation: Annotated[dict[str, float] | None, Field(description="The last evaluation on the held-out texts.")] = (
        None
    )


class RunFolder:
    """The folder of one run."""

    def __init__(self, config: TrainingConfig, fingerprint: str, steps: int):
        """Raises RunError: the folder holds another run, or something that is no run."""
        self.path, self.config = config.output, config
        self.record = RunRecord(
            fingerprint=fingerprint, identity=config.model_dump(mode="json", exclude=FREE), steps=steps
        )
        found = self._found()
        if found is not None:
            wanted = {"cache": fingerprint} | self.record.identity
            lines = list(differences({"cache": found.fingerprint} | found.identity, wanted))
            if lines:
                raise RunError(
                    f"{self.path} holds another run; give this one another `output`, or remove that folder. "
                    "They differ in\n  " + "\n  ".join(lines)
                )
            self.record = found

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def begin(self) -> None:
        """Write config.yaml and run.json: from here on the folder belongs to this run."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / CONFIG, dump_config(self.config))
        self._write_record()

    def finish(self, model: Any, tokenizer: Any, evaluation: dict[str, float] | None) -> None:
        """Publish the model, mark the run finished, then drop the checkpoints."""
        beside = self.path / f".{MODEL}"
        shutil.rmtree(beside, ignore_errors=True)
        with quiet_transformers():
            model.save_pretrained(beside)
            tokenizer.save_pretrained(beside)
        shutil.rmtree(self.path / MODEL, ignore_errors=True)
        os.rename(beside, self.path / MODEL)
        self.record = self.record.model_copy(update={"finished": True, "evaluation": evaluation})
        self._write_record()
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _write_record(self) -> None:
        write_atomically(self.path / RECORD, self.record.model_dump_json(indent=2) + "\n")

    def _found(self) -> RunRecord | None:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"output {self.path} is a file; give a folder")
        if not self.path.exists() or not any(self.path.iterdir()):
            return None
        if not (self.path / RECORD).exists():
            raise RunError(f"output {self.path} is not empty and holds no run; give another folder")
        return read_run(self.path)


def read_run(run: Path) -> RunRecord:
    """run.json of the folder `run`. Raises RunError: no run, damaged, or of an unknown version."""
    path = run / RECORD
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}; is {run} the folder of a training run?") from error
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RunError(f"{path} is damaged or of another version: {places}") from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a small text file in one step."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
