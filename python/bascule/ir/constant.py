# SPDX-License-Identifier: Apache-2.0
"""Tensor constants that stay where they are: in the mapped file, or in an array."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType


@dataclass(slots=True, eq=False)
class Constant:
    """A dense tensor that does not change.

    `raw` is the standard's little-endian form, sub-byte elements packed, and is usually a view of
    the mapped model file; strings are kept in `strings` instead. Reading `numpy()` copies nothing
    unless elements have to be unpacked.
    """

    dtype: DataType
    shape: tuple[int, ...]
    raw: memoryview | None = None
    strings: np.ndarray[Any, Any] | None = None
    mapped: bool = False
    """True when `raw` views a mapped file, whose pages may be given back after reading."""
    _array: np.ndarray[Any, Any] | None = field(default=None, repr=False)

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, Any]) -> Constant:
        """Wrap `array`; it must not be written to afterwards."""
        array = np.asarray(array)
        dtype = DataType.from_numpy(array.dtype)
        if dtype is DataType.STRING:
            strings = np.empty(array.shape, dtype=object)
            for index, item in enumerate(array.flat):
                strings.flat[index] = item if isinstance(item, str) else _decode(item)
            return cls(dtype, array.shape, strings=strings)
        array = np.ascontiguousarray(array).reshape(array.shape)
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("="))
        if dtype.bits >= 8:
            raw = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        else:
            raw = pack(array.reshape(-1).view(np.uint8), dtype.bits).data
        return cls(dtype, array.shape, raw=raw, _array=array)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the standard's raw form; the number of characters for strings."""
        if self.strings is not None:
            return sum(len(s) for s in self.strings.flat)
        return (self.size * self.dtype.bits + 7) // 8

    def numpy(self) -> np.ndarray[Any, Any]:
        """The elements as a read-only array, one array element per tensor element."""
        if self.strings is not None:
            return _read_only(self.strings)
        if self._array is not None:
            return _read_only(self._array)
        assert self.raw is not None
        if self.dtype.bits >= 8:
            array = np.frombuffer(self.raw, dtype=np.uint8).view(self.dtype.numpy)
        else:
            unpacked = unpack(np.frombuffer(self.raw, dtype=np.uint8), self.dtype.bits, self.size)
            array = sign_extend(unpacked, self.dtype).view(self.dtype.numpy)
            self._array = array.reshape(self.shape)
        return _read_only(array.reshape(self.shape))


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same elements, without a way to change them."""
    view: np.ndarray[Any, Any] = array.view()
    view.flags.writeable = False
    return view


def pack(elements: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Pack bytes that hold `bits`-bit elements, lowest bits first, as TensorProto.raw_data does."""
    flags = np.unpackbits(elements.reshape(-1, 1), axis=1, bitorder="little")[:, :bits]
    return np.packbits(flags.reshape(-1), bitorder="little")


def unpack(packed: np.ndarray[Any, Any], bits: int, count: int) -> np.ndarray[Any, Any]:
    """The inverse of `pack`: `count` bytes, each with one element in its lowest bits."""
    flags = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    return np.packbits(flags, axis=1, bitorder="little").reshape(-1)


def sign_extend(elements: np.ndarray[Any, Any], dtype: DataType) -> np.ndarray[Any, Any]:
    """Give signed integers of 2 or 4 bits the byte form that ml_dtypes uses."""
    if dtype not in (DataType.INT4, DataType.INT2):
        return elements
    shift = 8 - dtype.bits
    return ((elements << shift).view(np.int8) >> shift).view(np.uint8)


def _decode(item: Any) -> str:
    return item.decode("utf-8") if isinstance(item, bytes) else str(item)
