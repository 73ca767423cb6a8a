"""One pass for rows that a loss compares and for cross-entropy: each position once, in chunks of members."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.logit_pass import LogitPass, pass_over
from trainer.objectives.kernels.pooled_rows import Rows
from trainer.objectives.kernels.row_pass import pass_entropy, pass_rows
from trainer.student.logits import Logits

# Rows of 1, 3, 1 and 2 members; positions 2 and 8 are in none.
ROWS = Rows(torch.tensor([5, 0, 1, 9, 3, 7, 6]), torch.tensor([0, 1, 1, 1, 2, 3, 3]), torch.ones(7), 4, whole=False)
LABEL = torch.arange(10) % 6
WANTED = torch.tensor([True, False] * 4 + [True, True])


def test_all_members_of_a_row_come_together() -> None:
    """Chunks of up to three members: a row of three is one by itself."""
    asked: list[tuple[slice, int]] = []
    logits = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)

    def squares(rows: slice, members: slice, logits_pV: Tensor, gradient_pV: Tensor) -> Tensor:
        asked.append((rows, len(logits_pV)))
        gradient_pV.copy_(2 * logits_pV)
        return logits_pV.square().sum()

    def run(made: LogitPass) -> tuple[Tensor]:
        return (pass_rows(made, ROWS, squares, None, replace(ON_CPU, product=3 * 6)),)

    (total,) = pass_over(logits, run, [1.0])
    assert asked == [(slice(0, 1), 1), (slice(1, 2), 3), (slice(2, 4), 3)]
    inside = torch.ones(10, 1).index_fill(0, torch.tensor([2, 4, 8]), 0.0)
    torch.testing.assert_close(total, (inside * logits.square()).sum())
    torch.testing.assert_close(torch.autograd.grad(total, logits)[0], 2 * inside * logits.detach())


def test_cross_entropy_alone_makes_logits_of_what_is_wanted() -> None:
    g = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((10, 3), (6, 3)))
    hidden[~WANTED] = torch.nan
    hidden.requires_grad_()
    for product, block in ((6, 6), (18, 12), (1 << 20, 1 << 20)):
        carried = CarriedCrossEntropy(LABEL, WANTED, 0.5, 1.0, hidden)
        total = pass_entropy(Logits(hidden, weight), carried, replace(ON_CPU, product=product, block=block))
        right = F.cross_entropy(hidden[WANTED] @ weight.T, LABEL[WANTED], reduction="sum")
        torch.testing.assert_close(total, right)
        (found,), (wanted,) = torch.autograd.grad(0.5 * total, hidden), torch.autograd.grad(0.5 * right, hidden)
        torch.testing.assert_close(found, wanted)
        assert torch.count_nonzero(found[~WANTED]) == 0
