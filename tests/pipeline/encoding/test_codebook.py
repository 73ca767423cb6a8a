"""Codebooks against plain float64 distances."""

import numpy as np
import pytest
import torch

from pipeline.encoding.codebook import SIZE, nearest, train_codebook


def draw(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, width))).float()


@pytest.mark.parametrize("rows", [1, 1023, 3000])
def test_the_nearest_is_the_one_at_the_least_distance(rows: int) -> None:
    points, codebook = draw(rows, 8), draw(SIZE, 8, seed=1)
    distances = (points.double()[:, None] - codebook.double()).square().sum(2)
    found = nearest(points, codebook)
    assert found.dtype == torch.long
    torch.testing.assert_close(distances.gather(1, found[:, None])[:, 0], distances.min(1).values, rtol=0, atol=1e-5)


def test_of_equal_centroids_the_first_is_named() -> None:
    assert nearest(torch.ones(3, 2), torch.ones(4, 2)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("width", [1, 3])
def test_lloyds_rounds_end_in_means_of_their_rows_and_a_small_error(width: int) -> None:
    rows = draw(20_000, width)
    codebook = train_codebook(rows, seed=0)
    owner = nearest(rows, codebook)
    error = float((rows - codebook[owner]).square().mean())
    # Of a Gaussian, 256 levels at best leave 4.2e-5 (Panter and Dite); 256 centroids of three components some .045.
    assert error < (5e-5 if width == 1 else 0.048)
    means = torch.stack([rows[owner == k].mean(0) if (owner == k).any() else codebook[k] for k in range(SIZE)])
    assert float((means - codebook).square().mean()) < error / 5


def test_the_same_rows_give_the_same_bits_on_any_number_of_threads() -> None:
    rows, before = draw(5000, 4), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(train_codebook(rows, seed=3))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found) and not torch.equal(found[0], train_codebook(rows, seed=4))


def test_fewer_rows_than_centroids_are_each_kept_exactly() -> None:
    rows = draw(7, 2)
    codebook = train_codebook(rows, seed=0)
    assert codebook.shape == (SIZE, 2)
    assert torch.equal(codebook[nearest(rows, codebook)], rows)
