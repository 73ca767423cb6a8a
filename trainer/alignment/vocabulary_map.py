"""Where a teacher's token goes in the student's vocabulary: to the token of the same text, else to the nearest.

Looking one up takes about a millisecond, so only tokens that are asked for are looked up, and once per run.

Shapes: W teacher vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from trainer.alignment.vocabulary import SharedVocabulary, canonical_pieces

NOWHERE, NOT_LOOKED_UP = -1, -2
LOOKED_UP_AT_ONCE = 64  # keeps the distances, 2 bytes for each of the student's tokens, to 20 MB


def edit_distances(first: Sequence[bytes], second: Sequence[bytes]) -> np.ndarray:
    """Insertions, deletions and replacements of bytes between all pairs: [len(first), len(second)] uint16."""
    return cdist(first, second, scorer=Levenshtein.distance, dtype=np.uint16)


class VocabularyMap(nn.Module):
    """Minimum-edit-distance map of FuseLLM (arXiv 2401.10491, section 3.2), over the bytes that tokens stand for.

    Of equally near tokens the shortest is taken, and of those the first in byte order: the answer depends on what the
    tokens say, not on how they are numbered.
    """

    student_W: Tensor

    def __init__(
        self,
        tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase],
        shared: SharedVocabulary,
        same_tokenizer: bool,
        teacher_vocabulary: int,
    ):
        """`tokenizers` are the student's and the teacher's. Of two that are one, every token goes to itself."""
        super().__init__()
        self.student_pieces, self.teacher_pieces = (canonical_pieces(tokenizer) for tokenizer in tokenizers)
        student_W = torch.full((teacher_vocabulary,), NOWHERE)
        known = min(len(self.teacher_pieces), teacher_vocabulary)
        if same_tokenizer:
            student_W[:known] = torch.arange(known)
        else:
            student_W[[token for token in range(known) if self.teacher_pieces[token] is not None]] = NOT_LOOKED_UP
            student_W[shared.teacher_ids] = shared.student_ids
        self.register_buffer("student_W", student_W, persistent=False)
        said = [(len(piece), piece, token) for token, piece in enumerate(self.student_pieces) if piece is not None]
        self.choices = [piece for _, piece, _ in sorted(said)]
        self.choice_ids = np.array([token for _, _, token in sorted(said)], np.int64)

    def forward(self, teacher_ids: Tensor) -> Tensor:
        """The student's token of each, in the same shape; -1 for special and unused tokens, which have no text."""
        missing = self.student_W[teacher_ids] == NOT_LOOKED_UP
        if missing.any():
            for some_ids in teacher_ids[missing].unique().split(LOOKED_UP_AT_ONCE):
                pieces = [self.teacher_pieces[token] or b"" for token in some_ids.tolist()]
                nearest = self.choice_ids[edit_distances(pieces, self.choices).argmin(1)]
                self.student_W[some_ids] = torch.from_numpy(nearest).to(self.student_W.device)
        return self.student_W[teacher_ids]

    def look_up_all(self) -> None:
        """Every token of the teacher's, at once."""
        self(torch.arange(len(self.student_W), device=self.student_W.device))
