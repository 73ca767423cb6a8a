"""Quantising a full model while it is loaded, by torchao or bitsandbytes as transformers calls them.

Both kinds pack weights alone: what a token gives does not depend on its neighbours, and the head and the embeddings,
which transformers leaves as they are, are what the model multiplies with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from schemas.configs.extraction import Quantisation
from schemas.errors import ModelError
from schemas.models.files import brief


@dataclass(frozen=True)
class _Way:
    package: str
    make: Callable[[torch.dtype], Any]
    """What transformers takes as `quantization_config`."""


def _int8(dtype: torch.dtype) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _nf4(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


_WAYS: Mapping[Quantisation, _Way] = {"int8": _Way("torchao", _int8), "nf4": _Way("bitsandbytes", _nf4)}


def describe_way(name: Quantisation) -> str:
    """In a few words, as a cache says it: 'int8 by torchao'."""
    return f"{name} by {_WAYS[name].package}"


def way_of(described: str | None) -> Quantisation | None:
    """The way that a cache describes so; None of weights that were not quantised as they were loaded."""
    return next((name for name in _WAYS if describe_way(name) == described), None)


def require_way(name: Quantisation) -> None:
    """Raises ModelError, with what to install, if its package is not here."""
    package = _WAYS[name].package
    try:
        version(package)
    except PackageNotFoundError:
        raise ModelError(
            f"teacher.quantisation: {name} needs {package}: pip install {package}; or leave it out, for the full model"
        ) from None


def quantising(name: Quantisation, dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` takes to quantise a model so, computing in `dtype`. Raises ModelError as `require_way`
    does, or for a package that does not go with this torch."""
    require_way(name)
    try:
        return {"quantization_config": _WAYS[name].make(dtype)}
    # What the package's own code raises where it cannot be used.
    except Exception as error:
        raise ModelError(f"teacher.quantisation: {name} cannot be used: {brief(error)}") from error
