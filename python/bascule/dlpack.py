# SPDX-License-Identifier: Apache-2.0
"""Tensors to and from other libraries over DLPack, the types that NumPy refuses included."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType

Array = np.ndarray[Any, Any]

_CPU = (1, 3)  # kDLCPU, and pinned host memory
_LEGACY_NAME = b"dltensor"
_INTEGER, _UNSIGNED, _FLOAT, _BFLOAT, _BOOL = 0, 1, 2, 4, 6

_CODES = {
    (_BFLOAT, 16): DataType.BFLOAT16,
    (10, 8): DataType.FLOAT8E4M3FN,
    (11, 8): DataType.FLOAT8E4M3FNUZ,
    (12, 8): DataType.FLOAT8E5M2,
    (13, 8): DataType.FLOAT8E5M2FNUZ,
    (14, 8): DataType.FLOAT8E8M0,
}
"""(code, bits) of the narrow types."""

_NUMPY_KINDS = {_INTEGER: "i", _UNSIGNED: "u", _FLOAT: "f", _BOOL: "b"}


class _Tensor(ctypes.Structure):
    """DLTensor, with which a legacy DLManagedTensor begins."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def import_array(source: Any) -> Array:
    """An array over the memory of `source`: an object with ``__dlpack__``, or a capsule of one.

    Raises:
        TypeError: `source` is neither.
        BufferError: the memory is not the CPU's, not contiguous, or of a type without a NumPy or
            ml_dtypes counterpart.
    """
    if hasattr(source, "__dlpack__"):
        try:
            array: Array = np.from_dlpack(source)
            return array
        except (BufferError, RuntimeError, TypeError, ValueError):
            # NumPy says the same of a type that it lacks and of memory that it cannot reach.
            device = getattr(source, "__dlpack_device__", lambda: (1, 0))()
            if device[0] not in _CPU:
                raise BufferError(f"the memory is on device {tuple(device)}, not the CPU") from None
        source = source.__dlpack__()
    return _view(source)


def export_array(array: Array, **arguments: Any) -> Any:
    """A capsule over the memory of `array`, for another library's ``from_dlpack``."""
    for (code, bits), dtype in _CODES.items():
        if array.dtype == dtype.numpy:
            # NumPy writes the capsule for integers of that width, and the type is put right.
            capsule = array.view(f"u{bits // 8}").__dlpack__()
            _tensor(capsule).code = code
            return capsule
    return array.__dlpack__(**arguments)


def _tensor(capsule: Any) -> _Tensor:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    try:
        address = pointer(capsule, _LEGACY_NAME)
    except ValueError:
        raise TypeError(
            f"{type(capsule).__name__} is neither an object with __dlpack__ nor an unused capsule"
        ) from None
    return _Tensor.from_address(address)


def _view(capsule: Any) -> Array:
    tensor = _tensor(capsule)
    if tensor.device_type not in _CPU:
        raise BufferError(f"the memory is on device type {tensor.device_type}, not the CPU")
    if (tensor.code, tensor.bits) in _CODES:
        dtype = _CODES[tensor.code, tensor.bits].numpy
    elif tensor.code in _NUMPY_KINDS and tensor.bits in (8, 16, 32, 64):
        dtype = np.dtype(f"{_NUMPY_KINDS[tensor.code]}{tensor.bits // 8}")
    else:
        raise BufferError(f"no element type has DLPack code {tensor.code}, {tensor.bits} bits")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    step = 1
    for axis in reversed(range(tensor.ndim)):
        if tensor.strides and shape[axis] > 1 and tensor.strides[axis] != step:
            raise BufferError("only contiguous memory can be shared")
        step *= shape[axis]
    if tensor.lanes != 1:
        raise BufferError("elements of several lanes have no counterpart")
    if not step:
        return np.empty(shape, dtype)
    memory = (ctypes.c_uint8 * (step * dtype.itemsize)).from_address(
        tensor.data + tensor.byte_offset
    )
    memory.owner = capsule  # type: ignore[attr-defined]  # which gives the memory back when it dies
    return np.frombuffer(memoryview(memory), np.uint8).view(dtype).reshape(shape)
