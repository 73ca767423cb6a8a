"""Rows of a padded batch as one row of tokens and back, with their gradients, against indexing."""

import torch

from trainer.data.packing import Packing


def test_tokens_lie_one_after_the_other_and_find_their_way_back() -> None:
    packing = Packing.of((2, 0, 3), 3)
    assert packing.place_N.tolist() == [0, 1, 6, 7, 8] and packing.position_N.tolist() == [0, 1, 0, 1, 2]
    rows = torch.arange(9).view(3, 3)
    assert packing.pack(rows).tolist() == [[0, 1, 6, 7, 8]]
    mask = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool()
    assert torch.equal(packing.unpack(packing.pack(rows))[mask], rows[mask])


def test_gradients_are_those_of_indexing() -> None:
    torch.manual_seed(0)
    packing, mask = Packing.of((2, 4), 4), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    rows = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((packing.pack(rows)[0] * weights).sum(), rows)
    assert torch.equal(gradient[mask], weights) and not gradient[~mask].any()
    tokens = torch.randn(1, 6, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 4, 3, dtype=torch.float64) * mask[:, :, None]
    (gradient,) = torch.autograd.grad((packing.unpack(tokens) * upstream).sum(), tokens)
    assert torch.equal(gradient[0], upstream[mask])
    heads = torch.randn(1, 5, 6, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 5, 4, 3, dtype=torch.float64) * mask[:, None, :, None]
    unpacked = packing.unpack_heads(heads)
    assert torch.equal(unpacked.transpose(1, 2)[mask], heads[0].transpose(0, 1))
    (gradient,) = torch.autograd.grad((unpacked * upstream).sum(), heads)
    assert torch.equal(gradient[0].transpose(0, 1), upstream.transpose(1, 2)[mask])
