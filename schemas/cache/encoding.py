"""How exactly hidden states are kept. The user states what may be lost, and the fewest bytes that hold it are found."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer, model_validator

from schemas.cache.dtypes import Dtype
from schemas.strict import Strict

CodecName = Literal["rvq", "fp8", "int8"]
Preset = Literal["exact", "careful", "small", "tiny"]
WORST = 50  # times the mean KL divergence: a row that costs more is kept raw


class EncodingRecord(Strict):
    """How hidden states are encoded: the codec, and what its decoded states are to be."""

    codec: CodecName
    kl: Annotated[float | None, Field(gt=0)] = None
    """Nats: the mean KL divergence of predictions from final states, decoded, from those of the true ones."""
    geometry: Annotated[float | None, Field(gt=0)] = None
    """Root mean square error of centred cosines between spans of an inner layer, as a share of their deviation."""
    worst_kl: Annotated[float | None, Field(gt=0)] = None
    """Nats: a final state that costs more, as far as its encoder can tell, is kept raw; null for no bound."""
    bits: Annotated[float | None, Field(gt=0)] = None
    """Per number, on average, of every layer, instead of both tolerances."""

    def expected_bits(self, final: bool) -> float:
        """About how many bits per number a layer takes, before it is calibrated: as real models of 135M and 270M do."""
        if self.kl is None or self.geometry is None:
            return self.bits or 8.0
        return max(0.5, 3.1 + 0.96 * math.log(0.02 / self.kl)) if final else 0.9 * (0.08 / self.geometry) ** 0.85

    @property
    def is_calibrated(self) -> bool:
        """Its tables are learnt from a part of the corpus."""
        return self.codec == "rvq"


class EncodingConfig(Strict):
    """Hidden states are encoded by the fewest bytes that hold two tolerances on a part of the corpus."""

    codec: CodecName = "rvq"
    """rvq is calibrated to the teacher; fp8 and int8 take one byte per number, and no tolerance."""
    kl: Annotated[float, Field(ge=1e-5, le=10)] = 0.02
    """Nats per token that the teacher's predictions, from decoded final states, may differ on average."""
    geometry: Annotated[float, Field(ge=0.002, le=1)] = 0.08
    """Root mean square error of centred cosines between spans of an inner layer, as a share of their deviation."""
    worst_kl: Annotated[float | None, Field(ge=1e-5, le=1000)] = None
    """Nats, above `kl`: a final state that seems to cost more is kept raw. Left out, 50 times `kl`; with bits, none."""
    bits: Annotated[float | None, Field(ge=0.05, le=12)] = None
    """For experts: bits per number of every layer instead of tolerances."""

    @model_validator(mode="after")
    def _fits_its_codec(self) -> "EncodingConfig":
        given = sorted(self.model_fields_set - {"codec"})
        if self.codec != "rvq" and given:
            raise ValueError(f"{self.codec} has no {' or '.join(given)}: it takes 8 bits per number; leave that out")
        if self.bits is not None and {"kl", "geometry"} & self.model_fields_set:
            raise ValueError("give tolerances (kl, geometry) or bits, not both")
        if self.worst_kl is not None and self.bits is None and self.worst_kl <= self.kl:
            raise ValueError(
                f"worst_kl ({self.worst_kl:g}) is of single states, and kl ({self.kl:g}) their mean: raise it"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_it_can_be_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what contradicts it."""
        without = {"kl", "geometry"} if self.bits is not None else set()
        if self.codec != "rvq":
            without = set(type(self).model_fields) - {"codec"}
        return {name: value for name, value in serialize(self).items() if name not in without}

    @property
    def record(self) -> EncodingRecord:
        """As cache.json holds it: what the bytes depend on, and nothing else."""
        if self.codec != "rvq":
            return EncodingRecord(codec=self.codec)
        if self.bits is not None:
            return EncodingRecord(codec=self.codec, worst_kl=self.worst_kl, bits=self.bits)
        worst_kl = WORST * self.kl if self.worst_kl is None else self.worst_kl
        return EncodingRecord(codec=self.codec, kl=self.kl, geometry=self.geometry, worst_kl=worst_kl)


Encoding = Annotated[
    Annotated[Preset, Tag("preset")] | Annotated[EncodingConfig, Tag("tolerances")],
    Discriminator(lambda value: "tolerances" if isinstance(value, Mapping | EncodingConfig) else "preset"),
]
"""A preset's name, or what may be lost."""

PRESETS: dict[Preset, EncodingConfig | None] = {
    "exact": None,
    "careful": EncodingConfig(kl=0.004, geometry=0.03),  # about a quarter of bfloat16
    "small": EncodingConfig(kl=0.02, geometry=0.08),  # about an eighth
    "tiny": EncodingConfig(kl=0.1, geometry=0.16),  # about a sixteenth
}
DEFAULT: Preset = "small"


def resolve_encoding(asked: Preset | EncodingConfig | None, dtype: Dtype) -> EncodingRecord | None:
    """How to encode states of `dtype`; None to keep them raw. Raises ValueError for an encoding of other than bfloat16.

    Left out, it is DEFAULT of bfloat16, and exact of others.
    """
    if asked is None:
        asked = DEFAULT if dtype == "bfloat16" else "exact"
    config = PRESETS[asked] if isinstance(asked, str) else asked
    if config is None:
        return None
    if dtype != "bfloat16":
        raise ValueError(f"dtype {dtype} is of exact states alone; set encoding to exact")
    return config.record
