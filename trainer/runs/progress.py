"""The words of a run's progress on its last step."""

from trainer.evaluation.metric import Measurement
from trainer.optimisation.loop import StepReport


def describe_step(report: StepReport, evaluation: Measurement | None) -> str:
    """Loss and speed of a step, and the last evaluation."""
    state = f"loss {report.loss:.4f} · {report.tokens_per_second:,.0f} tokens/s"
    return state if evaluation is None else f"{state} · {evaluation}"
