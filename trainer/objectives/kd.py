"""Knowledge distillation on exact teacher logits, which are the cached final state times the unembedding.

Costs one [tokens, d_T] x [d_T, V] product a step beyond the softmax; no logits are stored anywhere.
"""

import torch
from torch import Tensor

from schemas.losses import KDConfig
from trainer.batch import Batch, Needs, StudentStates
from trainer.objectives.base import Loss, Pair, Term
from trainer.objectives.divergence import Columns, Rows, forward_kl
from trainer.objectives.requirements import require_head, require_hidden, require_same_tokenizer
from trainer.teacher_head import TeacherHead


def token_kd_loss(
    logits_BSV: Tensor,
    teacher_hidden_BTd: Tensor,
    pair_BS: Tensor,
    position_BS: Tensor,
    head: TeacherHead,
    temperature: float,
) -> Tensor:
    """tau^2 * sum over positions s of KL(softmax(z^T_s / tau) || softmax(z^S_s / tau)), z^T_s = head(H^T at pair[s]).

    Over the tokens that both have: model vocabularies are padded to round sizes, so V_T and V_S may differ at the end.
    """
    sample_P, position_P = position_BS.nonzero(as_tuple=True)
    teacher_Pd = teacher_hidden_BTd[sample_P, pair_BS[sample_P, position_P]]
    width = min(logits_BSV.shape[-1], len(head.weight_Vd))
    one_R = torch.ones(len(sample_P), device=sample_P.device)
    rows = Rows(
        position_P=sample_P * position_BS.shape[1] + position_P,
        row_P=torch.arange(len(sample_P), device=sample_P.device),
        share_P=one_R,
        num_rows=len(sample_P),
    )
    kl = forward_kl(
        logits_BSV.flatten(0, 1),
        rows,
        Columns(width),
        lambda chunk: head(teacher_Pd[chunk])[:, :width],
        one_R,
        temperature,
    )
    return temperature**2 * kl  # keeps the size of the gradient independent of tau


class KD(Loss):
    """Forward KL, a mean over the response positions that student and teacher share. One tokenizer, causal teacher."""

    def __init__(self, config: KDConfig, pair: Pair):
        super().__init__(config)
        self.name, self.temperature = config.loss, config.temperature
        require_same_tokenizer(pair, "kd", "Use sra, which aligns spans, or give the student the tokenizer 'teacher'")
        self.head = require_head(pair, "kd", "Use sra with span_kd: 0")
        self.layer = pair.manifest.teacher.num_layers
        self.needs = Needs(teacher_hidden=require_hidden(pair, [self.layer], "kd"), pairs=True)

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        assert batch.pair_BS is not None  # asked for by `needs`
        total = token_kd_loss(
            student.logits_BSV,
            batch.teacher_hidden[self.layer],
            batch.pair_BS,
            batch.paired_targets(),
            self.head,
            self.temperature,
        )
        return {"kl": Term(total, "pair")}
