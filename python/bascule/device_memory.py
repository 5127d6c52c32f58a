# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries in GPU memory, and memory there for OrtValues."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.errors import EngineError
from bascule.ir.dtype import DataType

if TYPE_CHECKING:
    from bascule.providers.cuda.tensor import Tensor


def is_on_gpu(value: Any) -> bool:
    """Whether `value` is an array in GPU memory, of CuPy, torch or another library."""
    if isinstance(value, np.ndarray):
        return False
    if _is_cupy_array(value):  # whose __cuda_array_interface__ is slow
        return True
    return hasattr(value, "__cuda_array_interface__") or _dlpack_device(value) == _CUDA


def _is_cupy_array(value: Any) -> bool:
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, getattr(cupy, "ndarray", ()))


_CUDA = 2  # kDLCUDA


def _dlpack_device(value: Any) -> int:
    device = getattr(value, "__dlpack_device__", None)
    return int(device()[0]) if device is not None else 0


def gpu_array(value: Any) -> Any:
    """`value` as a CuPy array over the same memory.

    Raises:
        RuntimeError: the memory is not dense and in C order.
    """
    cupy = _cupy()
    if isinstance(value, cupy.ndarray):
        array = value
    elif hasattr(value, "__dlpack__"):
        array = cupy.from_dlpack(value)
    else:
        array = cupy.asarray(value)
    if not array.flags.c_contiguous:
        raise RuntimeError(f"an array of shape {list(array.shape)} on the GPU is not contiguous")
    return array


def tensor_of(array: Any) -> Tensor:
    """A CuPy array as the CUDA provider takes it."""
    from bascule.providers.cuda.tensor import Tensor

    dtype = DataType.from_numpy(array.dtype)
    return Tensor(dtype, tuple(array.shape), int(array.data.ptr), array)


def array_of(tensor: Tensor, number: int) -> Any:
    """A tensor of GPU `number` as a CuPy array over the same memory."""
    cupy = _cupy()
    owner = tensor if tensor.owner is None else tensor.owner
    memory = cupy.cuda.UnownedMemory(tensor.address, max(tensor.nbytes, 1), owner, number)
    pointer = cupy.cuda.MemoryPointer(memory, 0)
    return cupy.ndarray(tensor.shape, tensor.dtype.numpy, memptr=pointer)


def to_gpu(array: np.ndarray[Any, Any], number: int) -> Any:
    """A copy of a host array on GPU `number`; RuntimeError where there is none."""
    cupy = _allocator()
    with cupy.cuda.Device(number):
        return cupy.asarray(array)


def empty_on_gpu(shape: Sequence[int], dtype: DataType, number: int) -> Any:
    """Uninitialized memory on GPU `number`; RuntimeError where there is none."""
    cupy = _allocator()
    with cupy.cuda.Device(number):
        return cupy.empty(tuple(shape), dtype.numpy)


def _allocator() -> Any:
    try:
        return _cupy()
    except EngineError as error:
        raise RuntimeError(f"Can't allocate memory on the device 'cuda': {error}") from None


@functools.cache
def _cupy() -> Any:
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise EngineError(
            f"memory on a GPU needs CuPy and a driver ({error}); `bascule doctor -p cuda` tells "
            "what is missing"
        ) from None
    return cupy
