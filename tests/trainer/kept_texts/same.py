"""Whether two texts in a student's tokens are the same to the last byte."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from trainer.alignment.student_text import StudentText


def require_same(found: Sequence[StudentText], wanted: Sequence[StudentText]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for field in fields(StudentText):
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            assert type(mine) is type(theirs), field.name
            if isinstance(theirs, np.ndarray):
                assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), field.name
                assert mine.tobytes() == theirs.tobytes(), field.name
            else:
                assert mine == theirs, field.name
