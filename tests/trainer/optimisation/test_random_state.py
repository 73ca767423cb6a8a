"""The random generators as tensors: what is drawn after they are put back is what was drawn before."""

import torch

from trainer.optimisation.random_state import generator_states, set_generator_states


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
