"""A second device for machines without one: tensors that say they are on it, lie on the CPU, and refuse to be mixed
with what is there.

What runs on it computes the same as on a CPU, and a tensor that was made in the wrong place raises, as it would with a
GPU. It goes by the name `meta`, which torch knows without a driver.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

SECOND = torch.device("meta")
MOVES = ("aten::_to_copy", "aten::copy_", "aten::_local_scalar_dense")
# A GPU's rows may be named by indices on the CPU.
INDEXES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Inside, tensors can be made there and moved there."""
    with _Made(), _Run():
        yield SECOND


class _Run(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Also of what has no tensor on SECOND among its arguments yet."""
        return _run(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch makes no numbers on `meta` of a list."""
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") == SECOND:
            return torch.tensor(*args, **kwargs | {"device": "cpu"}).to(SECOND)
        return func(*args, **kwargs)


class _There(Tensor):
    """A tensor on SECOND, whose numbers are in `here`."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "_There":
        about: dict[str, Any] = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        there: _There = Tensor._make_wrapper_subclass(cls, here.shape, device=SECOND, **about)
        there.here = here
        return there

    def tolist(self) -> Any:
        """Torch has none for tensors of other kinds."""
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Outside of the mode, too."""
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name: str = func._schema.name
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, _There)]
    device = kwargs.get("device")
    if there and name not in (*MOVES, *INDEXES) and any(x.ndim for x in tensors if not isinstance(x, _There)):
        sides = [(tuple(x.shape), "there" if isinstance(x, _There) else "on the CPU") for x in tensors]
        raise RuntimeError(f"{name}: tensors on two devices: {sides}")
    given = kwargs if device is None else kwargs | {"device": "cpu"}
    made = func(*tree_map(_here, args), **tree_map(_here, given))
    if name == "aten::copy_":
        return args[0]
    goes_there = torch.device(device) == SECOND if device is not None else bool(there)
    known = {id(x.here): x for x in there}  # what was written in place is the tensor that was given
    return tree_map(lambda x: known.get(id(x), _There(x)) if isinstance(x, Tensor) and goes_there else x, made)


def _here(x: Any) -> Any:
    return x.here if isinstance(x, _There) else x
