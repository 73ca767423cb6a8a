"""A batch whose encoded states are decoded when a loss first reads them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from schemas.cache.arrays import ArrayRecord
from schemas.cache.ragged import RaggedRows
from schemas.errors import RunError
from schemas.models.decoders.rvq import RVQDecoder
from tests.schemas.models.naive_rvq import handmade_tables, random_rows
from trainer.data.batch import Batch
from trainer.data.decoding import decoding
from trainer.data.encoded_states import EncodedStates, gather_rows
from trainer.data.teacher_states import TeacherFinal, TeacherHidden, TeacherMass

TABLES = handmade_tables(1)
RVQ = ArrayRecord(kind="hidden", layer=2, width=20, dtype="bfloat16", encoding="rvq")


class Counting(RVQDecoder):
    """Counts how often it is asked."""

    asked = 0

    def states(self, *rows: Any) -> torch.Tensor:
        self.asked += 1
        return super().states(*rows)


def encoded(as_coordinates: bool) -> EncodedStates:
    data, sizes = random_rows(TABLES, 4, 0)
    rows = RaggedRows.of(data.numpy(), sizes.numpy())
    return replace(gather_rows(RVQ, rows, [np.arange(4)], 4), as_coordinates=as_coordinates)


def batch() -> Batch:
    some = torch.zeros(1, 4)
    answers = {TeacherHidden(2): encoded(False), TeacherFinal(2): encoded(True), TeacherMass(2): some}
    return Batch(("a",), some, some, some, some, some, some, answers)


def test_each_answer_is_decoded_once_and_only_if_it_is_read() -> None:
    decoder, before = Counting(TABLES), batch()
    after = decoding(before, {("hidden", 2): decoder})
    assert decoder.asked == 0 and len(after.answers) == 3 and set(after.answers) == set(before.answers)
    states = after[TeacherHidden(2)]
    assert states is after[TeacherHidden(2)] and decoder.asked == 1
    assert states.shape == (1, 4, 20) and after[TeacherFinal(2)].shape == (1, 4, len(TABLES.basis_kd))
    assert after[TeacherMass(2)] is before[TeacherMass(2)]


def test_what_was_not_asked_for_is_still_refused() -> None:
    with pytest.raises(RunError, match="was not asked for"):
        decoding(batch(), {("hidden", 2): RVQDecoder(TABLES)})[TeacherHidden(1)]


def test_stored_numbers_are_cast_where_they_are_read_and_others_stay() -> None:
    halves = torch.arange(4).view(1, 4).bfloat16()
    before = replace(batch(), answers={TeacherHidden(2): halves, TeacherMass(2): torch.zeros(1, 4)})
    after = decoding(before, {})
    assert torch.equal(after[TeacherHidden(2)], torch.arange(4.0).view(1, 4))
    assert after[TeacherHidden(2)] is after[TeacherHidden(2)] and after[TeacherHidden(2)].dtype == torch.float32
    plain = replace(before, answers={TeacherMass(2): torch.zeros(1, 4)})
    assert decoding(plain, {}) is plain


def test_what_is_decoded_asks_for_no_gradient() -> None:
    with torch.enable_grad():
        states = decoding(batch(), {("hidden", 2): RVQDecoder(TABLES)})[TeacherHidden(2)]
    assert not states.requires_grad
