"""Edit distances by recursion, and the vocabulary map by a search through all of the student's tokens."""

from functools import cache

from transformers import PreTrainedTokenizerFast

from tests.trainer.alignment.spelling import spelt

Pair = tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast]  # the student's and the teacher's


@cache
def distance(first: bytes, second: bytes) -> int:
    """Levenshtein's recursion over the last letters."""

    @cache
    def least(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = least(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(replaced, least(i - 1, j) + 1, least(i, j - 1) + 1)

    return least(len(first), len(second))


def nearest(tokenizers: Pair, token: int) -> int:
    """The student's token for one of the teacher's, -1 for none, by trying all."""
    student, teacher = tokenizers
    pieces, piece = spelt(student), spelt(teacher)[token]
    if token == teacher.eos_token_id and student.eos_token_id is not None:
        return int(student.eos_token_id)
    if piece is None:
        return -1
    if piece in pieces:
        return pieces.index(piece)
    tries = [
        (distance(piece, other), len(other), other, place) for place, other in enumerate(pieces) if other is not None
    ]
    return min(tries)[-1]
