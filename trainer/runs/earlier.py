"""Runs that an earlier version began, and that would go on to another student: two things mean something else now."""

from schemas.configs.losses.mta import MTAConfig
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.models.files import resolve_model
from schemas.models.tokenizer import read_tokenizer
from trainer.runs.checkpoint import Start

WAY_OUT = "finish it with the version that began it, or give this run another output"


def require_same_meaning(config: TrainingConfig, start: Start) -> None:
    """Raises RunError if `start` is a checkpoint of version 1 whose losses or tokens would be others from now on."""
    if start.checkpoint is None or start.record.version > 1:
        return
    if any(isinstance(loss, MTAConfig) and loss.normalise == "batch" and loss.hid > 0 for loss in config.objective):
        raise RunError(
            f"{start.checkpoint} is of a version in which mta.normalise: batch averaged L_Hid over the batch, too; it "
            f"averages L_DSA alone now: {WAY_OUT}"
        )
    student = config.student
    name = student.tokenizer or student.model
    if name in (None, "teacher"):
        return
    folder = resolve_model(str(name), student.revision if name == student.model else None)
    if read_tokenizer(folder, student.trust_remote_code).set_aside is not None:
        raise RunError(
            f"{start.checkpoint} is of a version that read {folder} by AutoTokenizer's rules, against its "
            f"tokenizer.json: {WAY_OUT}"
        )
