# SPDX-License-Identifier: Apache-2.0
"""What CuPy's arrays are to a session, over memory of the emulated device.

``use(monkeypatch)`` puts this module in CuPy's place where the front end makes and takes arrays.
"""

from __future__ import annotations

import contextlib
import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from bascule import device_memory
from tests.support.cuda_emulation import EmulatedDevice, emulated_device


class UnownedMemory:
    def __init__(self, ptr: int, size: int, owner: object, device_id: int) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    def __init__(self, mem: UnownedMemory, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset


class ndarray:
    """A dense array."""

    def __init__(self, shape: Any, dtype: Any, memptr: MemoryPointer) -> None:
        self.shape, self.dtype, self.data = tuple(shape), np.dtype(dtype), memptr
        self.flags = SimpleNamespace(c_contiguous=True)
        self.device = SimpleNamespace(id=memptr.mem.device_id)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize

    def __bool__(self) -> bool:
        return bool(self._view())

    def __eq__(self, other: object) -> Any:
        return self._view() == other

    __hash__ = None  # type: ignore[assignment]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False)}

    def _view(self) -> Any:
        view = (ctypes.c_ubyte * self.nbytes).from_address(self.data.ptr)
        return np.frombuffer(view, self.dtype).reshape(self.shape)

    def get(self) -> Any:
        return self._view().copy()

    def set(self, array: Any) -> None:
        self._view()[...] = array


def empty(shape: Any, dtype: Any) -> ndarray:
    shape, dtype = tuple(shape), np.dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    address, owner = emulated_device().allocate(max(nbytes, 1))
    return ndarray(shape, dtype, MemoryPointer(UnownedMemory(address, nbytes, owner, 0), 0))


def asarray(array: Any) -> ndarray:
    result = empty(array.shape, array.dtype)
    result.set(array)
    return result


_MODULE = SimpleNamespace(
    ndarray=ndarray,
    empty=empty,
    asarray=asarray,
    cuda=SimpleNamespace(
        UnownedMemory=UnownedMemory,
        MemoryPointer=MemoryPointer,
        Device=lambda number: contextlib.nullcontext(),
    ),
)


def use(patch: Any) -> Any:
    """Until `patch`, a pytest MonkeyPatch, is undone; the module, which is CuPy on a GPU."""
    if not isinstance(emulated_device(), EmulatedDevice):
        return device_memory._cupy()
    patch.setattr(device_memory, "_cupy", lambda: _MODULE)
    return _MODULE
