# SPDX-License-Identifier: Apache-2.0
"""Types of quantized tensors, and from a range of values to a scale, a zero point and integers.

A real value x is stored as q = round(x / scale) + zero_point, clipped to the type's range.
"""

from __future__ import annotations

import enum
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, Any]


class _Named(enum.Enum):
    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_string(cls, text: str) -> Any:
        """The member of this name; ValueError where there is none."""
        try:
            return cls[text]
        except KeyError:
            raise ValueError(f"{text} is none of {', '.join(cls.__members__)}") from None


class QuantizationMode(_Named):
    """Whether activations are quantized by what each run computes, or by calibrated ranges."""

    IntegerOps = 0
    """Activations by what each run computes."""
    QLinearOps = 1
    """Activations by calibrated ranges."""


class QuantFormat(_Named):
    """Integer operators, or floating-point ones between QuantizeLinear and DequantizeLinear."""

    QOperator = 0
    """Integer operators."""
    QDQ = 1
    """Floating-point ones between QuantizeLinear and DequantizeLinear."""


class QuantType(_Named):
    """Element types of quantized tensors.

    Attributes:
        QInt8: int8.
        QUInt8: uint8.
        QFLOAT8E4M3FN: float8, largest number 448.
        QInt16: int16.
        QUInt16: uint16.
        QInt4: int4, -8 to 7.
        QUInt4: uint4, 0 to 15.
        QInt2: int2, -2 to 1.
        QUInt2: uint2, 0 to 3.
    """

    QInt8 = 0
    QUInt8 = 1
    QFLOAT8E4M3FN = 2
    QInt16 = 3
    QUInt16 = 4
    QInt4 = 5
    QUInt4 = 6
    QInt2 = 7
    QUInt2 = 8

    @property
    def tensor_type(self) -> int:
        """The number of the element type in ONNX."""
        return _ELEMENTS[self][0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy or ml_dtypes element type."""
        found: np.dtype[Any] = np.dtype(_ELEMENTS[self][1])
        return found

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return self is QuantType.QFLOAT8E4M3FN

    @property
    def is_signed(self) -> bool:
        """Whether it has negative values."""
        return "U" not in self.name

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return _ELEMENTS[self][2]

    @property
    def opset(self) -> int:
        """The first version of QuantizeLinear that has the type."""
        return {2: 25, 4: 21, 16: 21}.get(self.bits, 19 if self.is_float else 13)


_ELEMENTS: dict[QuantType, tuple[int, Any, int]] = {
    QuantType.QInt8: (TensorProto.INT8, np.int8, 8),
    QuantType.QUInt8: (TensorProto.UINT8, np.uint8, 8),
    QuantType.QFLOAT8E4M3FN: (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, 8),
    QuantType.QInt16: (TensorProto.INT16, np.int16, 16),
    QuantType.QUInt16: (TensorProto.UINT16, np.uint16, 16),
    QuantType.QInt4: (TensorProto.INT4, ml_dtypes.int4, 4),
    QuantType.QUInt4: (TensorProto.UINT4, ml_dtypes.uint4, 4),
    QuantType.QInt2: (TensorProto.INT2, ml_dtypes.int2, 2),
    QuantType.QUInt2: (TensorProto.UINT2, ml_dtypes.uint2, 2),
}


def get_qmin_qmax_for_qType(
    qtype: QuantType, reduce_range: bool = False, symmetric: bool = False
) -> tuple[int, int]:
    """The smallest and the greatest integer that is used of a type.

    Args:
        qtype: an integer type.
        reduce_range: leave one bit of 8-bit types out, so that 16-bit sums of two products cannot
            overflow on processors without VNNI.
        symmetric: leave the lowest signed value out, so that zero is in the middle.
    """
    bits = qtype.bits
    if reduce_range and bits == 8:
        return (-64, 64) if qtype.is_signed else (0, 127)
    if not qtype.is_signed:
        return 0, (1 << bits) - 1
    half = 1 << (bits - 1)
    return (1 - half if symmetric and bits >= 8 else -half), half - 1


def compute_scale_zp(
    rmin: Any, rmax: Any, qtype: QuantType, symmetric: bool = False, reduce_range: bool = False
) -> tuple[Array, Array]:
    """Scale (float32) and zero point of ranges, of any shape, that are widened to hold zero.

    A range of one point gets the scale 1.
    """
    low = np.minimum(np.asarray(rmin, np.float64), 0)
    high = np.maximum(np.asarray(rmax, np.float64), 0)
    if symmetric or qtype.is_float:
        high = np.maximum(high, -low)
        low = -high
    if qtype.is_float:
        top = float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max)
        scale = np.where(high > 0, high / top, 1).astype(np.float32)
        return scale, np.zeros(scale.shape, qtype.dtype)
    qmin, qmax = get_qmin_qmax_for_qType(qtype, reduce_range, symmetric)
    scale = ((high - low) / (qmax - qmin)).astype(np.float32)
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)
    if symmetric:
        zero = np.full(scale.shape, (qmin + qmax + 1) // 2 if qmin == 0 else 0)
    else:
        zero = np.clip(np.rint(qmin - low / scale), qmin, qmax)
    return scale, zero.astype(qtype.dtype)


def quantize_array(
    array: Array, scale: Array, zero_point: Array, qtype: QuantType, axis: int | None = None
) -> Array:
    """The values of `array` in a quantized type, by one scale, or one for each index of `axis`."""
    if axis is not None:
        shape = [1] * array.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    values = array.astype(np.float32) / scale
    if qtype.is_float:
        narrow: Array = values.astype(qtype.dtype)
        return narrow
    qmin, qmax = get_qmin_qmax_for_qType(qtype)
    rounded = np.rint(values) + zero_point.astype(np.float32)
    integers: Array = np.clip(rounded, qmin, qmax).astype(np.int32).astype(qtype.dtype)
    return integers


def quantize_weight(
    array: Array, qtype: QuantType, axis: int | None, symmetric: bool, reduce_range: bool
) -> tuple[Array, Array, Array]:
    """(integers, scale, zero point) of a weight, by its own range or those along `axis`.

    Scale and zero point are scalars, or one-dimensional.
    """
    others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
    empty = array.size == 0
    low = 0.0 if empty else array.min(axis=others)
    high = 0.0 if empty else array.max(axis=others)
    scale, zero = compute_scale_zp(low, high, qtype, symmetric, reduce_range)
    return quantize_array(array, scale, zero, qtype, axis), scale, zero


def write_calibration_table(
    calibration_cache: Mapping[str, Any], dir: str | os.PathLike[str] = "."
) -> None:
    """Write ranges to ``calibration.json`` and ``calibration.cache`` in `dir`.

    Args:
        calibration_cache: TensorData, or (lowest, highest), by the tensors' names.
        dir: a folder.
    """
    ranges = {}
    for name, value in calibration_cache.items():
        low, high = value.range_value if hasattr(value, "range_value") else value
        ranges[name] = (float(np.asarray(low).reshape(-1)[0]), float(np.max(high)))
    folder = Path(dir)
    (folder / "calibration.json").write_text(json.dumps(ranges))
    lines = [f"{name} {max(abs(low), abs(high))}\n" for name, (low, high) in ranges.items()]
    (folder / "calibration.cache").write_text("".join(sorted(lines)))
