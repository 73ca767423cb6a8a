"""The random generators as tensors: what is drawn after they are put back is what was drawn before."""

import torch

from trainer.optimisation.random_state import (
    gather_generator_states,
    generator_states,
    seed_of_rank,
    set_generator_states,
    set_generator_states_of,
)
from trainer.optimisation.ranks import ALONE


def test_what_is_put_back_draws_the_same_again() -> None:
    torch.manual_seed(3)
    states = generator_states()
    first = torch.rand(5)
    assert not torch.equal(first, torch.rand(5))
    set_generator_states(states)
    assert torch.equal(first, torch.rand(5))


def test_the_states_are_tensors_that_a_file_can_hold() -> None:
    states = generator_states()
    assert states.keys() == ({"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"})
    assert all(state.dtype == torch.uint8 for state in states.values())


def test_a_gpus_state_is_left_out_where_there_is_none() -> None:
    torch.manual_seed(3)
    states = generator_states()
    first = torch.rand(5)
    if not torch.cuda.is_available():
        states = states | {"cuda": torch.zeros(16, dtype=torch.uint8)}
    set_generator_states(states)
    assert torch.equal(first, torch.rand(5))


def test_ranks_draw_differently_and_the_first_as_one_alone_does() -> None:
    assert seed_of_rank(7, 0) == seed_of_rank(7, 0, step=3) == 7
    others = {seed_of_rank(seed, rank, step) for seed in (7, 8) for rank in (1, 2) for step in (0, 3)}
    assert len(others) == 8 and seed_of_rank(7, 1) == seed_of_rank(7, 1)


def test_a_rank_without_a_kept_state_keeps_its_own() -> None:
    torch.manual_seed(1)
    kept = gather_generator_states(ALONE)
    first = torch.rand(1)
    torch.manual_seed(2)
    set_generator_states_of(1, kept)
    assert torch.rand(1) != first
    set_generator_states_of(1, {"cpu.1": kept["cpu"]})
    assert torch.rand(1) == first
