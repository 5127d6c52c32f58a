# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements, and those that look at them only to choose or to order."""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from tests.support.operators.case import case, dtype_number
from tests.support.typed import (
    COMPLEX,
    Binding,
    Fixed,
    Numbers,
    fixed,
    numbers,
    small,
    tensor_proto,
)

_MATRIX = numbers(3, 5)
_IMAGE = numbers(1, 4, 4, 6)


def _same_width(binding: Binding) -> bool:
    return binding["T1"].dtype.bits == binding["T2"].dtype.bits


def _constant(material: Numbers | Fixed, parameter: str):
    """A tensor attribute of the type that `parameter` stands for."""

    def make(binding: Binding, captured: str):
        return tensor_proto(material(binding[parameter].dtype, np.random.default_rng(0)))

    return make


def _ordered(binding: Binding) -> bool:
    return binding["T1"].dtype not in (*COMPLEX, DataType.STRING)


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
    case("ScatterND", _MATRIX, fixed([[0, 4], [2, 1]]), numbers(2)),
    case(
        "TensorScatter", numbers(2, 4, 3), numbers(2, 2, 3), fixed([1, 3]), mode="circular", axis=1
    ),
    case("Expand", numbers(3, 1), fixed([2, 3, 5])),
    case("Tile", _MATRIX, fixed([2, 3])),
    case("Pad", _MATRIX, fixed([1, 2, 0, 1]), fixed(1)),
    case("Pad", _MATRIX, fixed([1, 2, 0, 1]), label="default"),
    case("Pad", _MATRIX, fixed([1, 2]), None, fixed([-1]), label="reflect", mode="reflect"),
    case("Pad", _MATRIX, fixed([1, 2]), None, fixed([0]), label="edge", mode="edge"),
    case("Pad", _MATRIX, fixed([1, 2]), None, fixed([1]), label="wrap", mode="wrap"),
    case("CenterCropPad", _MATRIX, fixed([5, 3])),
    case("Compress", _MATRIX, fixed([1, 0, 1]), axis=0),
    case("NonZero", small(3, 5, high=1, step=1)),
    case("Trilu", _MATRIX, fixed(1)),
    case("Trilu", _MATRIX, label="lower", upper=0),
    case("ReverseSequence", _MATRIX, fixed([2, 5, 1]), batch_axis=0, time_axis=1),
    case("DepthToSpace", _IMAGE, blocksize=2),
    case("DepthToSpace", _IMAGE, label="CRD", blocksize=2, mode="CRD"),
    case("SpaceToDepth", _IMAGE, blocksize=2),
    case("Col2Im", numbers(1, 4, 6), fixed([4, 6]), fixed([2, 2]), strides=[2, 2]),
    case("Unique", small(3, 5, high=2, step=1), outputs=4),
    case("Unique", small(6, 2, high=1, step=1), outputs=4, label="axis", axis=0),
    case("OneHot", fixed([1, 0, 2, -1]), fixed(3), fixed([1, 2])),
    case("EyeLike", _MATRIX, k=1, dtype=dtype_number("T2")),
    case("ConstantOfShape", fixed([2, 3]), value=_constant(fixed([1]), "T2")),
    case("Constant", value=_constant(_MATRIX, "T")),
    case("Range", fixed(1), fixed(11), fixed(3)),
    case("BitCast", _MATRIX, allows=_same_width, to=dtype_number("T2")),
    case("Resize", _IMAGE, None, fixed([1, 1, 1.5, 0.5]), allows=_ordered, mode="linear"),
    case("Resize", _IMAGE, None, fixed([1, 1, 1.5, 0.5]), label="nearest", mode="nearest"),
    case("GridSample", _IMAGE, numbers(1, 3, 2, 2, low=-1, high=1), allows=_ordered),
    case(
        "GridSample", _IMAGE, numbers(1, 3, 2, 2, low=-1, high=1), label="nearest", mode="nearest"
    ),
]
