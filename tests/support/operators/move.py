# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements, and those that look at them only to choose or to order."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from tests.support.operators import references
from tests.support.operators.case import case, dtype_number
from tests.support.typed import (
    Binding,
    Call,
    Fixed,
    Numbers,
    fixed,
    numbers,
    small,
    tensor_proto,
)

_MATRIX = numbers(3, 5)
_IMAGE = numbers(1, 4, 4, 6)
_PIXELS = numbers(1, 4, 4, 6, integers=(-(2**40), 2**40))
_PLACES = numbers(1, 3, 2, 2, low=-1, high=1)


def _same_width(binding: Binding) -> bool:
    return binding["T1"].dtype.bits == binding["T2"].dtype.bits


def _constant(material: Numbers | Fixed, parameter: str):
    """A tensor attribute of the type that `parameter` stands for."""

    def make(binding: Binding, captured: str):
        return tensor_proto(material(binding[parameter].dtype, np.random.default_rng(0)))

    return make


def _constants(call: Call) -> list[Any]:
    return [_MATRIX(call.binding["T"].dtype, np.random.default_rng(0))]


def _bits(call: Call) -> list[Any]:
    """The bits as the other type; of packed integers the value that they stand for."""
    [x] = call.inputs
    to = call.binding["T2"].dtype
    if to.bits >= 8:
        return [x.view(to.numpy)]
    bits = x.view(np.uint8) & (2**to.bits - 1)
    if to.is_float:
        return [bits.view(to.numpy)]
    sign = 0 if to.name.startswith("U") else 2 ** (to.bits - 1)
    return [((bits.astype(np.int64) ^ sign) - sign).astype(to.numpy)]


def _numeric(binding: Binding) -> bool:
    """Text cannot be interpolated."""
    return binding["T1"].dtype is not DataType.STRING


def _nearest(x: Any, roi: None, scales: Any) -> Any:
    """One and a half times as high, half as wide."""
    return x[:, :, [0, 0, 1, 2, 2, 3]][:, :, :, [0, 2, 4]]


CASES = [
    case("Identity", _MATRIX),
    case("Reshape", _MATRIX, fixed([5, -1])),
    case("Flatten", numbers(2, 3, 2)),
    case("Squeeze", numbers(3, 1, 5), fixed([1])),
    case("Unsqueeze", _MATRIX, fixed([1])),
    case("Transpose", numbers(2, 3, 5), perm=[2, 0, 1]),
    case("Shape", _MATRIX),
    case("Size", _MATRIX),
    case("Concat", _MATRIX, numbers(3, 2), axis=1),
    case("Split", numbers(3, 7), fixed([2, 4, 1]), outputs=3, axis=1),
    case("Slice", numbers(5, 7), fixed([4, 1]), fixed([0, 6]), fixed([0, 1]), fixed([-2, 3])),
    case("Gather", _MATRIX, fixed([[2, 0], [-1, 1]]), axis=1),
    case("GatherElements", _MATRIX, fixed([[0, 1, 2, 0, -1]]), axis=0),
    case("GatherND", _MATRIX, fixed([[0, 4], [2, 1]])),
    case("ScatterElements", _MATRIX, fixed([[0, 1, 2, 0, -1]]), numbers(1, 5)),
    case(
        "Scatter",
        _MATRIX,
        fixed([[0, 1, 2, 0, -1]]),
        numbers(1, 5),
        opset=10,
        expect=references.plainly(references.scattered),
    ),
    case("ScatterND", _MATRIX, fixed([[0, 4], [2, 1]]), numbers(2)),
    case(
        "TensorScatter", numbers(2, 4, 3), numbers(2, 2, 3), fixed([1, 3]), mode="circular", axis=1
    ),
    case("Expand", numbers(3, 1), fixed([2, 3, 5])),
    case("Tile", _MATRIX, fixed([2, 3])),
    case("Pad", _MATRIX, fixed([1, 2, 0, 1]), fixed(1)),
    case(
        "Pad",
        _MATRIX,
        fixed([1, 2, 0, 1]),
        label="default",
        expect=references.plainly(references.constant_padded),
    ),
    case("Pad", _MATRIX, fixed([1, 2]), None, fixed([-1]), label="reflect", mode="reflect"),
    case("Pad", _MATRIX, fixed([1, 2]), None, fixed([0]), label="edge", mode="edge"),
    case("Pad", _MATRIX, fixed([1, 2]), None, fixed([1]), label="wrap", mode="wrap"),
    case(
        "CenterCropPad",
        _MATRIX,
        fixed([5, 3]),
        expect=references.by(references.center_padded),
    ),
    case("Compress", _MATRIX, fixed([1, 0, 1]), axis=0),
    case("NonZero", small(3, 5, high=1, step=1)),
    case("Trilu", _MATRIX, fixed(1), expect=references.triangle(True)),
    case("Trilu", _MATRIX, label="lower", expect=references.triangle(False), upper=0),
    case("ReverseSequence", _MATRIX, fixed([2, 5, 1]), batch_axis=0, time_axis=1),
    case("DepthToSpace", _IMAGE, blocksize=2),
    case("DepthToSpace", _IMAGE, label="CRD", blocksize=2, mode="CRD"),
    case("SpaceToDepth", _IMAGE, blocksize=2),
    case(
        "Col2Im",
        numbers(1, 4, 6),
        fixed([4, 6]),
        fixed([2, 2]),
        expect=references.by(references.overlapped),
        strides=[2, 2],
    ),
    case(
        "Col2Im",
        numbers(1, 9, 2),
        fixed([5, 3]),
        fixed([3, 3]),
        label="overlap",
        expect=references.by(references.overlapped),
        strides=[2, 2],
    ),
    case("Unique", small(3, 5, high=2, step=1), outputs=4),
    case(
        "Unique",
        small(6, 2, high=1, step=1),
        outputs=4,
        label="axis",
        expect=references.by(references.unique_rows),
        axis=0,
    ),
    case(
        "OneHot",
        fixed([1, 0, 2, -1]),
        fixed(3),
        fixed([1, 2]),
        expect=references.by(references.one_hot),
    ),
    case("EyeLike", _MATRIX, k=1, dtype=dtype_number("T2")),
    case("ConstantOfShape", fixed([2, 3]), value=_constant(fixed([1]), "T2")),
    case("Constant", expect=_constants, value=_constant(_MATRIX, "T")),
    case("Range", fixed(1), fixed(11), fixed(3)),
    case("BitCast", _MATRIX, expect=_bits, allows=_same_width, to=dtype_number("T2")),
    case(
        "Upsample",
        _IMAGE,
        fixed([1, 1, 2, 3]),
        opset=9,
        expect=references.plainly(lambda x, scales: x.repeat(2, axis=2).repeat(3, axis=3)),
        mode="nearest",
    ),
    case(
        "Resize",
        _PIXELS,
        None,
        fixed([1, 1, 2, 0.5]),
        allows=_numeric,
        expect=references.interpolated,
        mode="linear",
    ),
    case(
        "Resize",
        _IMAGE,
        None,
        fixed([1, 1, 1.5, 0.5]),
        label="nearest",
        expect=references.plainly(_nearest),
        mode="nearest",
    ),
    case(
        "Resize",
        _PIXELS,
        fixed([0, 0, 0.25, 0.25, 1, 1, 1, 0.75]),
        fixed([1, 1, 1, 0.5]),
        label="crop",
        allows=_numeric,
        expect=references.interpolated,
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    ),
    case("GridSample", _PIXELS, _PLACES, allows=_numeric, expect=references.interpolated),
    case("GridSample", _IMAGE, _PLACES, label="nearest", mode="nearest"),
]
