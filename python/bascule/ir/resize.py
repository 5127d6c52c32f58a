# SPDX-License-Identifier: Apache-2.0
"""The sizes that Resize, and Upsample before it, give by scales."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bascule.ir.fixed import fixed_constant
from bascule.ir.graph import Node
from bascule.ir.types import Dim, TensorType, Type

_LARGEST_SCALE = 1e12


def resized_length(length: int, scale: float) -> int:
    """The float32 product rounded down, as in other runtimes: 10 * 0.7 is 7."""
    if scale == 1:
        return length
    return int(np.float32(length) * np.float32(scale))


def type_resized_by_scales(node: Node, types: Sequence[Type | None]) -> TensorType | None:
    """The type of the result where onnx, which takes the product in float64, gets it wrong."""
    scales = _known_scales(node)
    x = types[0] if types else None
    if scales is None or not isinstance(x, TensorType) or x.shape is None:
        return None
    axes = node.attribute("axes", None) or range(len(x.shape))
    if len(axes) != len(scales) or not all(-len(x.shape) <= axis < len(x.shape) for axis in axes):
        return None
    if not all(0 < scale <= _LARGEST_SCALE for scale in scales):
        return None  # the kernel says so
    shape: list[Dim] = list(x.shape)
    is_wrong = False
    for axis, scale in zip(axes, scales):
        length = shape[axis]
        if not isinstance(length, int):
            shape[axis] = length if scale == 1 else None
            continue
        shape[axis] = resized_length(length, scale)
        is_wrong = is_wrong or shape[axis] != math.floor(length * scale)
    return TensorType(x.dtype, tuple(shape)) if is_wrong else None


def type_resized_to_unknown(node: Node, types: Sequence[Type | None]) -> TensorType | None:
    """The type of the result where onnx takes an unknown number of sizes for 0 and gives up."""
    x, _, _, sizes = (*types, None, None, None, None)[:4]
    if not isinstance(x, TensorType) or not isinstance(sizes, TensorType) or x.shape is None:
        return None
    if sizes.shape is None or len(sizes.shape) != 1 or isinstance(sizes.shape[0], int):
        return None
    return TensorType(x.dtype, (None,) * len(x.shape))


def _known_scales(node: Node) -> list[float] | None:
    """The scales, which older forms have as an attribute or as the second input."""
    if node.is_op("Upsample") and "scales" in node.attributes:
        return [float(np.float32(scale)) for scale in node.attributes["scales"]]
    is_old = node.is_op("Upsample") or len(node.inputs) == 2
    value = node.input(1 if is_old else 2)
    constant = None if value is None else fixed_constant(value)
    if constant is None or constant.size == 0:
        return None
    return [float(scale) for scale in constant.numpy().reshape(-1)]
