"""Torch's random generators as tensors: a checkpoint keeps them, and a pass that is replayed starts from them."""

import torch
from torch import Tensor


def generator_states() -> dict[str, Tensor]:
    """The state of the CPU's generator and, if there is a GPU, of the current one's."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states


def set_generator_states(states: dict[str, Tensor]) -> None:
    """Put them back; a GPU's is left out on a machine without one."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
