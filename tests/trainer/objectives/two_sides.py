"""A text with several targets as either tokenizer cuts it, read from the definitions with plain loops.

Nothing of `trainer` is used: which tokens are targets and of which range, aligned spans, words, and what is predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from transformers import PreTrainedTokenizerBase

Range = tuple[int, int]


@dataclass(frozen=True)
class Side:
    """One side's tokens."""

    ids: list[int]
    characters: list[Range]  # empty for special tokens
    target: list[int]  # the number of the range that each belongs to, or -1
    fed: int  # how many the model was fed: an end of sequence may be a target alone
    cut: bool  # there was no place for more of the text

    @property
    def predictions(self) -> list[tuple[int, int]]:
        """(position, range) of every state that predicts a target of this side."""
        return [(x, self.target[x + 1]) for x in range(len(self.ids) - 1) if self.target[x + 1] >= 0]


@dataclass(frozen=True)
class Tied:
    """A piece of text as either side's tokens."""

    range: int
    student: list[int]
    teacher: list[int]


def read_side(
    tokenizer: PreTrainedTokenizerBase, text: str, targets: Sequence[Range], end: bool, limit: int = 1000
) -> Side:
    """At most `limit` tokens. `end`: with an end of sequence behind it, which belongs to the last range."""
    encoded: Any = tokenizer(text, return_offsets_mapping=True)
    ids, characters = list(encoded["input_ids"]), [(a, b) for a, b in encoded["offset_mapping"]]
    target = [number_of(b, targets) if a < b and place else -1 for place, (a, b) in enumerate(characters)]
    if end:
        ids, characters, target = [*ids, tokenizer.eos_token_id], [*characters, (0, 0)], [*target, len(targets) - 1]
    fed = min(limit, len(ids) - end)
    return Side(ids[:limit], characters[:limit], target[:limit], fed, len(ids) > limit)


def number_of(end: int, targets: Sequence[Range]) -> int:
    """The range that a token which ends there belongs to, or -1."""
    return next((r for r, (start, stop) in enumerate(targets) if start < end <= stop), -1)


def by_range(student: Side, teacher: Side) -> list[tuple[list[int], list[int]]]:
    """What either side predicts, range by range: of the student's end of sequence, the teacher by its last state."""
    own, theirs = student.predictions, teacher.predictions
    if student.fed < len(student.ids):
        theirs = [*theirs, (len(teacher.ids) - 1, student.target[-1])]
    ranges = range(1 + max(student.target))
    return [([s for s, r in own if r == number], [t for t, r in theirs if r == number]) for number in ranges]


def aligned(student: Side, teacher: Side, targets: Sequence[Range], most: int | None = None) -> list[Tied]:
    """The finest spans of every range, and no more than `most` as a rule: each range's merged among themselves."""
    tokens = [(a, b) for a, b in [*student.characters, *teacher.characters] if a < b]
    common = {b for a, b in student.characters if a < b} & {b for a, b in teacher.characters if a < b}
    ends = [e for e in sorted(common) if not any(a < e < b for a, b in tokens)]
    within = [[e for e in ends if start < e <= stop] for start, stop in targets]
    total, found = sum(map(len, within)), list[Tied]()
    for number, own in enumerate(within):
        pieces = [
            Tied(number, *(_between(side, ([targets[number][0], *own])[k], end) for side in (student, teacher)))
            for k, end in enumerate(own)
        ]
        if most is not None and total > most and own:
            share = max(1, int(Fraction(most * len(own), total)))
            grouped: list[list[Tied]] = [[] for _ in range(share)]
            for k, piece in enumerate(pieces):
                grouped[int(Fraction(k * share, len(own)))].append(piece)
            pieces = [joined(group) for group in grouped]
        found += pieces
    return found


def joined(pieces: Sequence[Tied]) -> Tied:
    """Neighbours of one range as one."""
    (number,) = {piece.range for piece in pieces}
    return Tied(number, [s for p in pieces for s in p.student], [t for p in pieces for t in p.teacher])


def marked(student: Side, teacher: Side, spans: Sequence[Range], targets: Sequence[Range] | None) -> list[Tied]:
    """Words or phrases, the longest of those that overlap, that lie in one of `targets`, if any are given."""
    kept = list[Range]()
    if student.cut:
        spans = [(a, b) for a, b in spans if b <= max(end for _, end in student.characters)]
    if targets is not None:
        spans = [(a, b) for a, b in spans if any(start <= a and b <= stop for start, stop in targets)]
    for a, b in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if all(b <= c or d <= a for c, d in kept):
            kept.append((a, b))
    tied = [Tied(0, *(_between(side, a, b) for side in (student, teacher))) for a, b in sorted(kept)]
    return [piece for piece in tied if piece.student and piece.teacher]


def _between(side: Side, start: int, end: int) -> list[int]:
    """The tokens that end in (start, end]."""
    return [place for place, (a, b) in enumerate(side.characters) if a < b and start < b <= end]
