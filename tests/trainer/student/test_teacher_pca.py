"""Word embeddings on the teacher's principal axes, against a singular value decomposition."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from schemas.errors import ModelError, RunError
from trainer.student.teacher_pca import principal_components, start_from_teacher

TEACHER = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 0.1, 3.0, 1.0, 2.0, 0.5])


@pytest.mark.parametrize("width", [1, 3, 6])
def test_they_are_the_left_singular_vectors_times_the_singular_values(width: int) -> None:
    centred = TEACHER.double() - TEACHER.double().mean(0)
    left, values, right = torch.linalg.svd(centred, full_matrices=False)
    found = principal_components(TEACHER + 7, width)
    assert found.shape == (40, width) and found.dtype == torch.float32
    for axis in range(width):
        largest = right[axis][right[axis].abs().argmax()]  # an axis points where its largest entry is positive
        wanted = largest.sign() * left[:, axis] * values[axis]
        torch.testing.assert_close(found[:, axis].double(), wanted, rtol=1e-4, atol=1e-4)


def test_no_more_axes_than_the_teacher_has() -> None:
    with pytest.raises(ModelError, match=r"a width of 7 has no principal components in the teacher's 6; leave"):
        principal_components(TEACHER, 7)


@pytest.mark.parametrize("rows", [30, 50])
def test_rows_that_only_one_side_has_stay(rows: int) -> None:
    embedding = nn.Embedding(rows, 4)
    before = embedding.weight.detach().clone()
    start_from_teacher(SimpleNamespace(get_input_embeddings=lambda: embedding), TEACHER)
    both = min(rows, 40)
    assert torch.equal(embedding.weight[:both], principal_components(TEACHER, 4)[:both])
    assert torch.equal(embedding.weight[both:], before[both:])


def test_a_cache_without_them_is_refused() -> None:
    with pytest.raises(
        RunError, match=r"extract into a new output with teacher\.keep_embeddings: true, or leave `embeddings` out$"
    ):
        start_from_teacher(None, None)
