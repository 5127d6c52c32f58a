# SPDX-License-Identifier: Apache-2.0
"""Element types, numbered as in onnx.TensorProto.DataType."""

from __future__ import annotations

import enum
import functools
import sys
from typing import Any

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
        if self in OF_ML_DTYPES:
            return _of_ml_dtypes()[self]
        found: np.dtype[Any] = np.dtype(OF_NUMPY[self])
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
        if found is None and "ml_dtypes" in sys.modules:  # else `dtype` is none of its types
            found = _from_ml_dtypes().get(np.dtype(dtype))
        if found is None:
            if np.dtype(dtype).kind in "OUST":
                return cls.STRING
            raise TypeError(f"no ONNX element type corresponds to NumPy dtype {dtype!r}")
        return found


OF_NUMPY: dict[DataType, Any] = {
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
}

OF_ML_DTYPES: dict[DataType, tuple[str, int]] = {
    DataType.BFLOAT16: ("bfloat16", 16),
    DataType.FLOAT8E4M3FN: ("float8_e4m3fn", 8),
    DataType.FLOAT8E4M3FNUZ: ("float8_e4m3fnuz", 8),
    DataType.FLOAT8E5M2: ("float8_e5m2", 8),
    DataType.FLOAT8E5M2FNUZ: ("float8_e5m2fnuz", 8),
    DataType.UINT4: ("uint4", 4),
    DataType.INT4: ("int4", 4),
    DataType.FLOAT4E2M1: ("float4_e2m1fn", 4),
    DataType.FLOAT8E8M0: ("float8_e8m0fnu", 8),
    DataType.UINT2: ("uint2", 2),
    DataType.INT2: ("int2", 2),
    DataType.FLOAT6E2M3: ("float6_e2m3fn", 6),
    DataType.FLOAT6E3M2: ("float6_e3m2fn", 6),
}
"""The names that ml_dtypes gives them, and the bits of one element."""

_BITS: dict[DataType, int] = {
    **{dtype: np.dtype(type_).itemsize * 8 for dtype, type_ in OF_NUMPY.items()},
    **{dtype: bits for dtype, (_, bits) in OF_ML_DTYPES.items()},
    DataType.UNDEFINED: 0,
    DataType.STRING: 0,
}

COMPUTED_IN_FLOAT = frozenset((DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16))
"""Types whose arithmetic is that of float32, with one rounding at the end."""

_FLOATS = frozenset(
    dtype for dtype in DataType if dtype.name.startswith(("FLOAT", "BFLOAT", "DOUBLE"))
)
_INTEGERS = frozenset(dtype for dtype in DataType if dtype.name.startswith(("INT", "UINT")))


@functools.cache
def _from_numpy() -> dict[np.dtype[Any], DataType]:
    return {np.dtype(v): k for k, v in OF_NUMPY.items() if k is not DataType.STRING}


@functools.cache
def _of_ml_dtypes() -> dict[DataType, np.dtype[Any]]:
    # Imported here: it takes long, and most models have none of these types.
    import ml_dtypes

    return {dtype: np.dtype(getattr(ml_dtypes, name)) for dtype, (name, _) in OF_ML_DTYPES.items()}


@functools.cache
def _from_ml_dtypes() -> dict[np.dtype[Any], DataType]:
    return {numpy_type: dtype for dtype, numpy_type in _of_ml_dtypes().items()}
