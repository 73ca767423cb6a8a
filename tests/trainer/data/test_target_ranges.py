"""Range labels of a batch: those of each sample, padded."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from tests.trainer.alignment.samples import ranges, sample
from trainer.alignment.student_text import StudentText
from trainer.data.request import Drawn
from trainer.data.target_ranges import RangeLabels, TargetRanges


def test_labels_are_padded_with_none() -> None:
    turns = replace(sample("ask A ask B", [(0, 3), (3, 5), (5, 9), (9, 11)]), targets=ranges([(3, 5), (9, 11)]))
    single = sample("ab", [(0, 1), (1, 2)], prompt_end=1)
    texts = [
        StudentText(np.arange(3), ranges([(0, 5), (5, 9), (9, 11)]), np.array([False, False, True]), 3, False),
        StudentText(np.arange(4), ranges([(0, 1), (1, 1), (1, 2), (0, 0)]), np.arange(4) > 1, 3, False),
    ]
    found = TargetRanges().collate(Drawn(cast(Any, None), [0, 1], [turns, single], texts))
    assert found.teacher_BT.tolist() == [[-1, 0, -1, 1], [-1, 0, -1, -1]]
    assert found.student_BS.tolist() == [[-1, -1, 1, -1], [-1, -1, 0, 0]]
    assert found.teacher_BT.dtype == found.student_BS.dtype == torch.long
    assert isinstance(found.to(torch.device("cpu")), RangeLabels)
