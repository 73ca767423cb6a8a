"""Torch's random generators as tensors: a checkpoint keeps them, and a pass that is replayed starts from them.

Every rank has generators of its own: of rank 1, `cpu.1` and `cuda.1` are kept beside the first rank's `cpu` and `cuda`.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from trainer.optimisation.ranks import Ranks


def generator_states() -> dict[str, Tensor]:
    """The state of the CPU's generator and, if there is a GPU, of the current one's."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states


def set_generator_states(states: dict[str, Tensor]) -> None:
    """Put them back; a GPU's is left out on a machine without one."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def seed_of_rank(seed: int, rank: int, step: int = 0) -> int:
    """The seed of a rank's generators, were it to begin at `step`; the first rank's is `seed` itself."""
    return seed if rank == 0 else int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0])


def gather_generator_states(ranks: Ranks) -> dict[str, Tensor]:
    """The states of all ranks' generators. Every rank must call it."""
    own = {name: state.tolist() for name, state in generator_states().items()}
    return {
        _name(name, rank): torch.tensor(state, dtype=torch.uint8)
        for rank, states in enumerate(ranks.gather(own))
        for name, state in states.items()
    }


def set_generator_states_of(rank: int, states: Mapping[str, Tensor]) -> None:
    """Put those of one rank back; where a run had fewer ranks before, its generators are left as they are.

    Raises LookupError if the first rank has none.
    """
    own = {name: states[_name(name, rank)] for name in ("cpu", "cuda") if _name(name, rank) in states}
    if rank == 0 or own:
        set_generator_states(own)


def _name(name: str, rank: int) -> str:
    return f"{name}.{rank}" if rank else name
