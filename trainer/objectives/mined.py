"""MinED, tokens aligned by minimum edit distance (FuseLLM, arXiv 2401.10491, section 3.2): both the two token sequences
and the two vocabularies are matched by spelling, and the student learns the teacher's distribution, carried over.

    L = sum over the student's predictions s of KL(m(p(t_s)) || softmax(z^S(s) / tau))

- t_s: dynamic time warping walks through both sequences of tokens, at the edit distance of their letters (spaces left
  out). s has a counterpart if it is paired with one teacher token alone, and the map takes that token to it. As a rule
  both have then read the same; where a word comes twice, spelling alone may also pair the wrong two.
- m: each of the teacher's tokens goes to the student's token of the same text, or to that which takes the fewest edits.
- A prediction without a counterpart learns the text's own token: KL to a one-hot distribution, reported as `nll`.

What the others do, and we:
- FuseLLM's code (fanqiwan/FuseLLM) maps the teacher's 10 likeliest tokens, softmaxed among themselves, and where two
  meet keeps the likelier; our defaults. DSKD's reimplementation (songmzhang/DSKD, the baseline of SRA's table) maps the
  whole vocabulary, and where two meet keeps the one of the lower id: `top_k: null`, with the likelier one.
- Both compare the spelling of tokens, in GPT-2's alphabet or SentencePiece's; we compare bytes, so `Ġ`, `▁` and byte
  fallback are seen through. Of equally near tokens they take the first in the vocabulary's order; see `VocabularyMap`.
- Both warp the response's tokens, as the states that predict: from the last token of the prompt to the last but one.
  In a conversation every target is a response, and is warped by itself: words that come back are not paired across.
- No factor tau^2; neither has one. Both sum over tokens beside cross-entropy. So ours is per token: the student's
  targets, whether they have a counterpart or not.
- The teacher's special tokens, except the end of sequence, have no text, and their probability is dropped.
- On a GPU, `merge: sum` adds in no fixed order: runs agree to the last bits only with `max`.

Costs one [aligned, d_T] x [d_T, V_T] product; 15 ms of warping on the CPU per sample of 300 tokens per side; and a
look-up of every teacher token that is new among the likeliest, about 1 ms each, all of them at once for `top_k: null`.

Shapes: B samples, S student tokens, T teacher tokens, V and W student and teacher vocabulary, R predictions; n rows of
one chunk, k mapped tokens.
"""

import numpy as np
import torch
from torch import Tensor

from schemas.configs.losses.mined import MinEDConfig
from trainer.alignment.vocabulary_map import NOWHERE, VocabularyMap, edit_distances
from trainer.data.batch import Batch
from trainer.data.target_ranges import TargetRanges
from trainer.numerics.geometry import ratio
from trainer.objectives.context import LossContext
from trainer.objectives.kernels.row_losses import row_losses
from trainer.objectives.loss import Loss, Term
from trainer.objectives.parts.prediction_pairs import positions, predictions_by_range
from trainer.objectives.parts.requirements import require_final, require_final_head
from trainer.objectives.parts.time_warping import only_partners, warp
from trainer.student.states import StudentLogits, StudentStates


def mapped(p_nk: Tensor, student_nk: Tensor, width: int, merge: str) -> Tensor:
    """m(p), [n, width]: probabilities moved to the student's tokens, and brought to a sum of 1; 0 if none has any."""
    kept_nk, student_nk = torch.where(student_nk == NOWHERE, 0.0, p_nk), student_nk.clamp_min(0)
    moved_nV = p_nk.new_zeros(len(p_nk), width)
    if merge == "sum":
        moved_nV.scatter_add_(1, student_nk, kept_nk)
    else:
        moved_nV.scatter_reduce_(1, student_nk, kept_nk, "amax")
    return ratio(moved_nV, moved_nV.sum(-1, keepdim=True))


def kl_to(p_nV: Tensor, student_nV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """KL(p || softmax(z / tau)) of each row, [n], and its gradient to z, (softmax(z / tau) sum_v p_v - p) / tau."""
    log_q_nV = (student_nV / temperature).log_softmax(-1)
    log_p_nV = p_nV.clamp_min(torch.finfo(p_nV.dtype).tiny).log()
    kl_n = (p_nV * log_p_nV.sub_(log_q_nV)).sum(-1)
    return kl_n, log_q_nV.exp_().mul_(p_nV.sum(-1, keepdim=True)).sub_(p_nV).div_(temperature)


class MinED(Loss):
    """KL to the mapped teacher where tokens align (`kl`), to the text elsewhere (`nll`), by the student's targets.

    `aligned`, the share of predictions that have a counterpart, is only reported.
    """

    def __init__(self, config: MinEDConfig, context: LossContext):
        super().__init__(config)
        self.config, self.divisor = config, "token"
        self.head = require_final_head(context, "mined", "Use sra with span_kd: 0")
        self.final = require_final(context, "mined", "targets")
        self.requests = frozenset([StudentLogits(), TargetRanges(), self.final])
        tokenizers = context.student_tokenizer, context.teacher_tokenizer
        self.vocabulary_map = VocabularyMap(
            tokenizers, context.vocabulary, context.same_tokenizer, len(self.head.weight_Vd)
        )
        if config.top_k is None:
            self.vocabulary_map.look_up_all()
        self.student_letters, self.teacher_letters = (
            [(piece or b"").replace(b" ", b"") for piece in pieces]
            for pieces in (self.vocabulary_map.student_pieces, self.vocabulary_map.teacher_pieces)
        )

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """`kl` and `nll`, summed over the predictions with and without a counterpart, and how many are `aligned`."""
        student_BNS, teacher_BNT = predictions_by_range(batch)
        student_BS, partner_BS = student_BNS.any(1), self.partners(batch, student_BNS, teacher_BNT)
        if self.config.unaligned == "skip":
            student_BS = student_BS & (partner_BS >= 0)
        position_R = student_BS.flatten().nonzero().squeeze(1)
        partner_R = partner_BS.flatten()[position_R]
        aligned_R = partner_R >= 0
        kl = self._to_teacher(student, batch, position_R[aligned_R], partner_R[aligned_R])
        terms = {"kl": Term(kl), "aligned": Term(aligned_R.sum().to(kl.dtype), 0.0)}
        if self.config.unaligned == "one_hot":
            terms["nll"] = Term(self._to_text(student, batch, position_R[~aligned_R]))
        return terms

    def _to_teacher(self, student: StudentStates, batch: Batch, position_R: Tensor, partner_R: Tensor) -> Tensor:
        logits_BSV = student[StudentLogits()]
        teacher_logits = batch.teacher_logits(self.head, batch[self.final].flatten(0, 1)[partner_R])

        def row_loss(student_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
            p_nV = self._teacher(teacher_logits(chunk).to(student_nV.dtype), student_nV.shape[1])
            return kl_to(p_nV, student_nV, self.config.temperature)

        widest = max(logits_BSV.shape[-1], len(self.head.weight_Vd))
        return row_losses(logits_BSV, position_R, widest, row_loss, chunks=self.chunks)

    def _to_text(self, student: StudentStates, batch: Batch, position_R: Tensor) -> Tensor:
        target_R, logits_BSV = batch.tokens_BS.roll(-1, dims=1).flatten()[position_R], student[StudentLogits()]

        def row_loss(student_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
            p_nV = torch.zeros_like(student_nV).scatter_(1, target_R[chunk, None], 1.0)
            return kl_to(p_nV, student_nV, self.config.temperature)

        return row_losses(logits_BSV, position_R, logits_BSV.shape[-1], row_loss, chunks=self.chunks)

    def _teacher(self, logits_nW: Tensor, vocabulary: int) -> Tensor:
        """The teacher's distribution over the student's tokens, [n, V]."""
        if self.config.top_k is None:
            student_nk = self.vocabulary_map.student_W.expand_as(logits_nW)
        else:
            logits_nW, ids_nk = logits_nW.topk(min(self.config.top_k, logits_nW.shape[1]))
            student_nk = self.vocabulary_map(ids_nk)
        return mapped((logits_nW / self.config.temperature).softmax(-1), student_nk, vocabulary, self.config.merge)

    @torch.no_grad()
    def partners(self, batch: Batch, student_BNS: Tensor, teacher_BNT: Tensor) -> Tensor:
        """[B, S]: the flat position of the teacher's prediction that belongs to the student's; -1 for none."""
        own, theirs = _sequences(student_BNS, batch.tokens_BS), _sequences(teacher_BNT, batch.teacher_tokens_BT)
        partner_X = np.full(batch.tokens_BS.numel(), -1, np.int64)
        for (places, ids), (their_places, their_ids) in zip(own, theirs, strict=True):
            if not (len(ids) and len(their_ids)):
                continue
            cost = edit_distances(
                [self.teacher_letters[token] for token in their_ids], [self.student_letters[token] for token in ids]
            )
            partner = only_partners(warp(cost), len(ids))
            found = (partner >= 0) & self._same_text(ids, their_ids[partner])
            partner_X[places[found]] = their_places[partner[found]]
        return torch.from_numpy(partner_X).to(batch.tokens_BS.device).view_as(batch.tokens_BS)

    def _same_text(self, student_ids: np.ndarray, teacher_ids: np.ndarray) -> np.ndarray:
        """Which teacher tokens the map takes to the student's. Special tokens without text are all the same."""
        device = self.vocabulary_map.student_W.device
        mapped_ids = self.vocabulary_map(torch.from_numpy(teacher_ids).to(device)).cpu().numpy()
        own, theirs = self.vocabulary_map.student_pieces, self.vocabulary_map.teacher_pieces
        special = [own[s] is None and theirs[t] is None for s, t in zip(student_ids, teacher_ids, strict=True)]
        same: np.ndarray = (mapped_ids == student_ids) | np.array(special)
        return same


def _sequences(predicts_BNX: Tensor, tokens_BX: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each range of each sample, the flat positions that predict and the tokens there."""
    ends = np.cumsum(predicts_BNX.sum(2).flatten().cpu().numpy())
    places_R, ids_X = positions(predicts_BNX).cpu().numpy(), tokens_BX.flatten().cpu().numpy()
    return [(places, ids_X[places]) for places in np.split(places_R, ends[:-1])]


LOSS = MinED
