"""MinED by loops over letters, pairs of tokens and vocabularies."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from schemas.configs.losses.mined import MinEDConfig
from tests.trainer.alignment.edits import distance, nearest
from tests.trainer.alignment.spelling import spelt
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.predicting import student_positions, teacher_positions
from trainer.data.batch import Batch
from trainer.student.states import StudentStates


def walk(first: Sequence[bytes], second: Sequence[bytes]) -> dict[int, list[int]]:
    """Which tokens of `first` each of `second` meets, by the matrix and the way back of the references."""
    rows, columns = range(len(first)), range(len(second))
    total: dict[tuple[int, int], float] = {(-1, -1): 0}
    for i in rows:
        for j in columns:
            before = [total.get(place, float("inf")) for place in ((i - 1, j - 1), (i - 1, j), (i, j - 1))]
            total[i, j] = distance(first[i], second[j]) + min(before)
    met: dict[int, list[int]] = {j: [] for j in columns}
    i, j = len(first) - 1, len(second) - 1
    met[j].append(i)
    while (i, j) != (0, 0):
        options = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        i, j = min(options, key=lambda place: total.get(place, float("inf")))
        met[j].append(i)
    return met


class Truth:
    """The loss of one pair, token by token."""

    def __init__(self, context: GivenContext, config: MinEDConfig) -> None:
        self.context, self.config = context, config
        self.found = dict[int, int]()
        self.own, self.theirs = (spelt(tokenizer) for tokenizer in context.tokenizers)

    def student_token(self, token: int) -> int:
        if token not in self.found:
            within = token < len(self.theirs)
            same = token if within else -1
            self.found[token] = (
                same if self.context.same_tokenizer or not within else nearest(self.context.tokenizers, token)
            )
        return self.found[token]

    def letters(self, pieces: Sequence[bytes | None], tokens: list[int]) -> list[bytes]:
        return [(pieces[token] or b"").replace(b" ", b"") for token in tokens]

    def mapped(self, logits: Tensor, width: int) -> Tensor:
        """The teacher's likeliest tokens as probabilities of the student's."""
        order = torch.argsort(logits, descending=True)[: self.config.top_k or len(logits)]
        p = torch.softmax(logits[order] / self.config.temperature, 0)
        moved = [0.0] * width
        for token, probability in zip(order.tolist(), p.tolist(), strict=True):
            place = self.student_token(token)
            if place >= 0:
                joined = moved[place] + probability
                moved[place] = joined if self.config.merge == "sum" else max(moved[place], probability)
        probabilities = torch.tensor(moved, dtype=logits.dtype)
        return probabilities / probabilities.sum()

    def partner(self, tokens: list[int], their_tokens: list[int]) -> list[int | None]:
        """For each of the student's tokens its one counterpart, or None."""
        if not tokens or not their_tokens:
            return [None] * len(tokens)
        met = walk(self.letters(self.theirs, their_tokens), self.letters(self.own, tokens))
        partners = []
        for place, token in enumerate(tokens):
            other = their_tokens[met[place][0]]
            silent = self.own[token] is None and self.theirs[other] is None
            agreed = len(met[place]) == 1 and (silent or self.student_token(other) == token)
            partners.append(met[place][0] if agreed else None)
        return partners

    def __call__(self, student: StudentStates, batch: Batch, logits: Any) -> dict[str, Any]:
        """Totals, computed in the dtype of the student's logits, whatever that of the teacher's."""
        dtype = whole_logits(student).dtype
        kl, nll, aligned = torch.zeros((), dtype=dtype), torch.zeros((), dtype=dtype), 0
        for b in range(len(batch.sample_ids)):
            own, theirs = student_positions(batch, b), teacher_positions(batch, b)
            tokens = [int(batch.tokens_BS[b, s]) for s in own]
            partners = self.partner(tokens, [int(batch.teacher_tokens_BT[b, t]) for t in theirs])
            for s, partner in zip(own, partners, strict=True):
                log_q = torch.log_softmax(whole_logits(student)[b, s] / self.config.temperature, 0)
                if partner is None:
                    nll = nll - log_q[batch.tokens_BS[b, s + 1]]
                    continue
                p = self.mapped(logits[b][theirs[partner]].to(dtype), len(log_q))
                said = p > 0
                kl = kl + (p[said] * (torch.log(p[said]) - log_q[said])).sum()
                aligned += 1
        return {"kl": kl, "nll": nll, "aligned": aligned}
