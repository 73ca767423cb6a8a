"""How ALM's chunks are joined from spans: by the teacher's boundaries, and within each target."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.data.tied_tokens import SpanSet
from trainer.objectives.alm import merged, span_ranges


@st.composite
def spans_of_ranges(draw: st.DrawFn) -> tuple[SpanSet, Tensor, Tensor]:
    """Spans of one token each on the teacher's side, some of them left out; ranges ascending, and boundaries."""
    B, K = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    label_BK = torch.arange(K).expand(B, K)
    drawn = [
        (draw(st.lists(st.integers(0, 2), min_size=K, max_size=K)), draw(st.lists(st.booleans(), min_size=2 * K)))
        for _ in range(B)
    ]
    range_BK = torch.tensor([sorted(ranges) for ranges, _ in drawn])
    mask_BK = torch.tensor([flags[:K] for _, flags in drawn])
    boundary_BK = torch.tensor([[0.9 if flag else 0.05 for flag in flags[K : 2 * K]] for _, flags in drawn])
    return SpanSet(label_BK, label_BK, mask_BK), range_BK, boundary_BK


@given(spans_of_ranges())
@settings(deadline=None, max_examples=150)
def test_chunks_end_at_boundaries_and_where_a_target_does(case: tuple[SpanSet, Tensor, Tensor]) -> None:
    spans, range_BK, boundary_BK = case
    found = merged(spans, range_BK, boundary_BK, 0.1)
    for b, mask in enumerate(spans.mask_BK.tolist()):
        chunks: list[list[int]] = []
        for number in range(3):
            ends = True
            for k in [k for k, counts in enumerate(mask) if counts and range_BK[b, k] == number]:
                chunks = [*chunks, [k]] if ends else [*chunks[:-1], [*chunks[-1], k]]
                ends = bool(boundary_BK[b, k] > 0.1)
        own = [
            [k for k in range(len(mask)) if mask[k] and found.teacher_BT[b, k] == group] for group in range(len(mask))
        ]
        assert [chunk for chunk in own if chunk] == chunks
        assert found.mask_BK[b].tolist() == [bool(chunk) for chunk in own]
    assert torch.equal(found.student_BS, found.teacher_BT)


@given(spans_of_ranges())
@settings(deadline=None, max_examples=100)
def test_one_target_is_merged_as_a_response_was(case: tuple[SpanSet, Tensor, Tensor]) -> None:
    """The code of before there were several targets."""
    spans, _, boundary_BK = case
    ends_BK = spans.mask_BK & (boundary_BK > 0.1)
    group_BK = ends_BK.cumsum(1) - ends_BK.long()
    span_K1 = torch.arange(group_BK.shape[1])[:, None]
    mask_BK = ((group_BK[:, None, :] == span_K1) & spans.mask_BK[:, None, :]).any(-1)
    found = merged(spans, torch.zeros_like(group_BK), boundary_BK, 0.1)
    assert torch.equal(found.mask_BK, mask_BK)
    assert torch.equal(found.teacher_BT, group_BK.masked_fill(~spans.mask_BK, -1))


def test_a_span_lies_in_the_range_of_its_last_token() -> None:
    """Of spans 0 to 4, which end at tokens 1, 3, none, 4 and none; the first token lies before all targets."""
    label = torch.tensor([[0, 0, -1, 1, 3, -1]])
    spans = SpanSet(label, label, torch.tensor([[False, True, False, True, False]]))
    assert span_ranges(spans, torch.tensor([[-1, 0, -1, 1, 2, 3]])).tolist() == [[0, 1, 1, 2, 2]]
