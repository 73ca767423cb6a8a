"""What encoding cost a shard, measured while its true states were at hand."""

from typing import Annotated

import numpy as np
from pydantic import Field

from schemas.strict import Strict

DIGITS = 5  # further ones are noise, and nobody reads them


class EncodingCost(Strict):
    """What encoding one array cost one shard. Some of its rows were decoded, and compared with the true ones."""

    rows: Annotated[int, Field(ge=0)]
    raw: Annotated[int, Field(ge=0)]
    """Rows that are kept as they were."""
    bits: Annotated[float, Field(ge=0)]
    """Per number, gains and raw rows counted."""
    measured: Annotated[int, Field(ge=0)]
    """Rows of the next two."""
    cosine: float | None = None
    """Mean cosine of a true and a decoded row, the mean of the true ones subtracted from both."""
    geometry: float | None = None
    """Root mean square error of centred cosines between spans, as a share of their deviation."""
    predicted: Annotated[int, Field(ge=0)] = 0
    """Rows of the next three; none of an inner layer."""
    kl_mean: float | None = None
    """Nats: KL(teacher || decoded) of next-token distributions."""
    kl_p99: float | None = None
    """Its 99th percentile."""
    kl_worst: float | None = None
    """Its maximum."""


def describe_divergences(kl_R: np.ndarray) -> dict[str, float]:
    """`predicted` and what follows it, of the divergence of each row, at least one."""
    return {
        "predicted": len(kl_R),
        "kl_mean": rounded(max(0.0, float(kl_R.mean()))),
        "kl_p99": rounded(float(np.quantile(kl_R, 0.99))),
        "kl_worst": rounded(float(kl_R.max())),
    }


def rounded(number: float) -> float:
    """To DIGITS digits."""
    return float(f"{number:.{DIGITS}g}")
