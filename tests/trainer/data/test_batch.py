"""What a batch counts, and what it answers."""

from dataclasses import replace

import pytest
import torch

from schemas.errors import RunError
from trainer.data.batch import Batch
from trainer.data.tied_tokens import SameTokenPositions, Spans, SpanSet

POSITIONS = SameTokenPositions()
SPANS = Spans("aligned", "text")
# Two texts of up to four tokens. The second has an end of sequence that only the student has.
TARGETS = torch.tensor([[False, True, True, False], [False, False, True, True]])
PLACES = torch.tensor([[0, 1, 2, -1], [0, -1, 2, -1]])


def batch() -> Batch:
    tokens, mask = torch.arange(8).reshape(2, 4), torch.tensor([[True] * 4, [True, True, True, False]])
    spans = SpanSet(tokens, tokens, mask)
    return Batch(("a", "b"), tokens, mask, TARGETS, tokens, mask, TARGETS, {POSITIONS: PLACES, SPANS: spans})


def test_a_divisor_is_a_count_of_the_whole_batch() -> None:
    assert batch().count("token") == 4 and batch().count("sample") == 2
    # The states at 0 and 1 of the first text, and at 2 of the second, predict a target and are the teacher's too.
    assert batch().shared_predictions().nonzero().tolist() == [[0, 0], [0, 1], [1, 2]]
    assert batch().count("pair") == 3
    assert batch().count("shared") == 5  # of the text: neither padding nor an end that is only a target


def test_only_what_was_asked_for_is_answered() -> None:
    assert batch()[POSITIONS] is PLACES
    assert batch()[Spans("aligned", "text")].mask_BK.shape == (2, 4)  # requests that ask for the same are equal
    with pytest.raises(RunError, match=r"Spans\(level='word', .* was not asked for"):
        batch()[Spans("word", "text")]


def test_every_tensor_moves_and_names_stay() -> None:
    moved = batch().to(torch.device("meta"))
    assert moved.sample_ids == ("a", "b")
    tensors = [moved.tokens_BS, moved.mask_BS, moved.target_BS, moved.teacher_tokens_BT, moved.teacher_mask_BT]
    tensors += [moved.teacher_target_BT, moved[POSITIONS], moved[SPANS].student_BS, moved[SPANS].mask_BK]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    here = replace(batch())
    assert here.to(torch.device("cpu")).tokens_BS is here.tokens_BS
