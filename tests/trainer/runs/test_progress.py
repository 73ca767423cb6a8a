"""What a run's progress says of its last step."""

import pytest

from trainer.evaluation.metrics.spearman import Spearman
from trainer.optimisation.loop import StepReport
from trainer.runs.progress import describe_step

REPORT = StepReport(loss=1.23456, terms={}, lr=0.0, grad_norm=0.0, tokens_per_second=12345.6)


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (None, "loss 1.2346 · 12,346 tokens/s"),
        (Spearman(71.5, 9), "loss 1.2346 · 12,346 tokens/s · 71.50 Spearman × 100"),
    ],
)
def test_loss_speed_and_the_last_evaluation(evaluation: Spearman | None, said: str) -> None:
    assert describe_step(REPORT, evaluation) == said
