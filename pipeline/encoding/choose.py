"""The highest price of a byte that holds a tolerance.

Found by secants between logarithms, because what rows cost is nearly a power of the price. Where it is not, as where a
little less makes most rows raw, secants end on one side again and again: then middles are tried.
"""

import math
from collections.abc import Callable

LEAST, MOST = 1e-12, 1e6
TRIES = 16
NEAR = 0.95  # of the tolerance is near enough
STRIDES = (4.0, 16.0, 64.0)  # of the first steps towards the tolerance, and the last for all further ones


def find_price(cost: Callable[[float], float], tolerance: float, first: float) -> float | None:
    """The highest price asked for whose `cost`, which grows with it, is up to `tolerance`; None if none is.

    `first` is a guess. A cost is asked for up to TRIES times.
    """
    below: tuple[float, float] | None = None
    above: tuple[float, float] | None = None
    price, holds, halving = first, list[bool](), False
    for step in range(TRIES):
        found = max(cost(price), 1e-12)
        holds.append(found <= tolerance)
        if holds[-1]:
            below = (price, found)
        else:
            above = (price, found)
        if NEAR * tolerance <= found <= tolerance:
            break
        if below is not None and above is not None:
            halving = halving or holds[-1] == holds[-2]
            price = math.sqrt(below[0] * above[0]) if halving else _between(below, above, tolerance)
        else:
            stride = STRIDES[min(step, len(STRIDES) - 1)]
            price *= stride if above is None else 1 / stride
        if not LEAST < price < MOST:
            break
    return None if below is None else below[0]


def _between(below: tuple[float, float], above: tuple[float, float], tolerance: float) -> float:
    """Where the line through both, in logarithms, meets what is just within the tolerance."""
    (low, of_low), (high, of_high) = (tuple(map(math.log, point)) for point in (below, above))
    share = (math.log(tolerance * (1 + NEAR) / 2) - of_low) / max(of_high - of_low, 1e-9)
    return math.exp(low + min(max(share, 0.05), 0.95) * (high - low))
