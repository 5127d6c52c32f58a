# SPDX-License-Identifier: Apache-2.0
"""Element types, numbered as in onnx.TensorProto.DataType."""

from __future__ import annotations

import enum
import functools
from typing import Any

import ml_dtypes
import numpy as np


class DataType(enum.IntEnum):
    """An ONNX element type; the value is the number that the standard gives it."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26
    FLOAT6E2M3 = 27
    FLOAT6E3M2 = 28

    @property
    def bits(self) -> int:
        """Bits of one element in the standard's raw form; 0 for strings."""
        return _BITS[self]

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy (or ml_dtypes) element type; strings are ``object``."""
        found: np.dtype[Any] = np.dtype(_NUMPY[self])
        return found

    @property
    def is_float(self) -> bool:
        """True for every real floating-point type, the narrow ones included."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return self in _INTEGERS

    @property
    def onnx_name(self) -> str:
        """The name used in type strings: ``float``, ``double``, ``int64``, ``bfloat16`` ..."""
        return self.name.lower()

    @classmethod
    def from_numpy(cls, dtype: Any) -> DataType:
        """The element type of arrays of `dtype`; raises TypeError when ONNX has none."""
        found = _from_numpy().get(np.dtype(dtype))
        if found is None:
            if np.dtype(dtype).kind in "OUST":
                return cls.STRING
            raise TypeError(f"no ONNX element type corresponds to NumPy dtype {dtype!r}")
        return found


_NUMPY: dict[DataType, Any] = {
    DataType.FLOAT: np.float32,
    DataType.UINT8: np.uint8,
    DataType.INT8: np.int8,
    DataType.UINT16: np.uint16,
    DataType.INT16: np.int16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.STRING: object,
    DataType.BOOL: np.bool_,
    DataType.FLOAT16: np.float16,
    DataType.DOUBLE: np.float64,
    DataType.UINT32: np.uint32,
    DataType.UINT64: np.uint64,
    DataType.COMPLEX64: np.complex64,
    DataType.COMPLEX128: np.complex128,
    DataType.BFLOAT16: ml_dtypes.bfloat16,
    DataType.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    DataType.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    DataType.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    DataType.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
    DataType.UINT4: ml_dtypes.uint4,
    DataType.INT4: ml_dtypes.int4,
    DataType.FLOAT4E2M1: ml_dtypes.float4_e2m1fn,
    DataType.FLOAT8E8M0: ml_dtypes.float8_e8m0fnu,
    DataType.UINT2: ml_dtypes.uint2,
    DataType.INT2: ml_dtypes.int2,
    DataType.FLOAT6E2M3: ml_dtypes.float6_e2m3fn,
    DataType.FLOAT6E3M2: ml_dtypes.float6_e3m2fn,
}

_BITS: dict[DataType, int] = {
    dtype: np.dtype(numpy_type).itemsize * 8 for dtype, numpy_type in _NUMPY.items()
} | {
    DataType.UNDEFINED: 0,
    DataType.STRING: 0,
    DataType.UINT4: 4,
    DataType.INT4: 4,
    DataType.FLOAT4E2M1: 4,
    DataType.UINT2: 2,
    DataType.INT2: 2,
    DataType.FLOAT6E2M3: 6,
    DataType.FLOAT6E3M2: 6,
}

_FLOATS = frozenset(
    dtype for dtype in DataType if dtype.name.startswith(("FLOAT", "BFLOAT", "DOUBLE"))
)
_INTEGERS = frozenset(dtype for dtype in DataType if dtype.name.startswith(("INT", "UINT")))


@functools.cache
def _from_numpy() -> dict[np.dtype[Any], DataType]:
    return {np.dtype(v): k for k, v in _NUMPY.items() if k is not DataType.STRING}
