"""Next-token cross-entropy, the loss that every objective starts from."""

from torch import Tensor

from schemas.configs.losses.ce import CrossEntropyConfig
from trainer.data.batch import Batch
from trainer.objectives.context import LossContext
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks
from trainer.objectives.kernels.row_pass import pass_entropy
from trainer.objectives.loss import Loss, Term
from trainer.student.logits import Logits
from trainer.student.states import StudentLogits, StudentStates


def cross_entropy(
    logits_BSV: Tensor | Logits, tokens_BS: Tensor, target_BS: Tensor, chunks: Chunks | None = None
) -> Tensor:
    """sum over target tokens s of -log softmax(z_{s-1})[x_s], in nats; logits are made of the tokens before targets."""
    carried = CarriedCrossEntropy(*next_tokens(tokens_BS, target_BS), 1.0, 1.0, logits_BSV)
    return pass_entropy(logits_BSV, carried, chunks)


def next_tokens(tokens_BS: Tensor, target_BS: Tensor) -> tuple[Tensor, Tensor]:
    """At every position, flattened: the token after it, and whether that is a target.

    The labels are shifted, not the logits: moving [B, S, V] numbers would cost as much as the loss. What rolls round to
    the end is position 0, which is never a target.
    """
    return tokens_BS.roll(-1, dims=1).flatten(), target_BS.roll(-1, dims=1).flatten()


class CrossEntropy(Loss):
    """CE, a mean over target tokens. Needs nothing of the teacher."""

    def __init__(self, config: CrossEntropyConfig, context: LossContext):
        super().__init__(config)
        self.divisor, self.requests = "token", frozenset([StudentLogits()])

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """`nll`: the sum over target tokens, in nats."""
        logits_BSV = student[StudentLogits()]
        return self.term(cross_entropy(logits_BSV, batch.tokens_BS, batch.target_BS, self.chunks))

    def term(self, total: Tensor) -> dict[str, Term]:
        """The one term, of its sum, whoever computed that."""
        return {"nll": Term(total)}

    def carried(self, student: StudentStates, batch: Batch, scale: float, carrier_scale: float) -> CarriedCrossEntropy:
        """The same, for another loss to carry; both scales are those of `CarriedCrossEntropy`."""
        labels = next_tokens(batch.tokens_BS, batch.target_BS)
        return CarriedCrossEntropy(*labels, scale, carrier_scale, student[StudentLogits()])


LOSS = CrossEntropy
