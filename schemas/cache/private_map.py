"""A file's numbers in memory without reading them."""

import ctypes
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class PrivateMap:
    """A file in memory that NumPy looks into; unmapped when the last array over it is gone.

    np.memmap keeps a descriptor per map (until Python 3.13 it must), and a cache has more arrays than a process may
    have open files. Copy-on-write rather than read-only: torch warns of every read-only array it is handed.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]):
        size = int(np.prod(shape)) * dtype.itemsize
        with path.open("rb") as file:
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            address = _libc.mmap(None, size, protection, mmap.MAP_PRIVATE, file.fileno(), 0)
        if address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
        self.__array_interface__ = {"version": 3, "typestr": dtype.str, "shape": shape, "data": (address, False)}
        # At exit the system unmaps; to do it before would pull the memory from under arrays still in use.
        weakref.finalize(self, _libc.munmap, address, size).atexit = False
