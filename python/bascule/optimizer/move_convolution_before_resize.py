# SPDX-License-Identifier: Apache-2.0
"""Compute a 1x1 convolution before its input is enlarged, where there are fewer pixels.

Resize weighs pixels and such a convolution weighs channels, so that their order does not matter.
Of a Concat of images, each gets its part of the weights. So end networks that segment images.

Before:
    g (float[1,2,2,2] x, float[1,1,4,4] z) => (float[1,2,4,4] y) <
        float[4] scales = {1, 1, 2, 2}, float[2,3,1,1] w = {1, 2, 3, 4, 5, 6}, float[2] b = {7, 8}
    > {
        large = Resize<mode = "linear">(x, , scales)
        all = Concat<axis = 1>(large, z)
        y = Conv(all, w, b)
    }
After:
    g (float[1,2,2,2] x, float[1,1,4,4] z) => (float[1,2,4,4] y) <
        float[4] scales = {1, 1, 2, 2}, float[2,1,1,1] wz = {3, 6}, float[2] b = {7, 8},
        float[2,2,1,1] wx = {1, 2, 4, 5}
    > {
        direct = Conv(z, wz, b)
        small = Conv(x, wx)
        large = Resize<mode = "linear">(small, , scales)
        y = Add(direct, large)
    }
Keeps:
    g (float[1,1,4,4] x) => (float[1,1,2,2] y) <
        float[4] scales = {1, 1, 0.5, 0.5}, float[1,1,1,1] w = {3}
    > {
        small = Resize<mode = "linear">(x, , scales)
        y = Conv(small, w)
    }
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType
from bascule.optimizer.pattern import attribute_of, constant_of, op, values
from bascule.optimizer.rewrite import Match, rule

Array = np.ndarray[Any, Any]

x, w = values("x", "w")

_FEWER = 2
"""By what factor there must be fewer pixels before."""


@dataclass(frozen=True)
class _Part:
    """An image that is convolved, with its part of the weights."""

    value: Value
    weights: Array
    resize: Node | None


@rule(op.Conv(x, w, ...))
def move_convolution_before_resize(match: Match) -> Value | None:
    node = match.root
    weights = constant_of(match[w])
    if weights is None or not is_pointwise(node, weights.shape):
        return None
    parts = _parts(match[x], weights.numpy())
    if not any(part.resize for part in parts):
        return None
    shape = node.output.static_shape
    dtype = node.output.dtype
    if shape is None or dtype is None:
        return None
    bias: Any = node.input(2)
    results = []
    for part in sorted(parts, key=lambda part: part.resize is not None):
        source = part.value if part.resize is None else part.resize.inputs[0]
        assert source is not None and source.static_shape is not None
        kind = TensorType(dtype, (*shape[:2], *source.static_shape[2:]))
        y = match.build.Conv(source, part.weights, bias, type=kind)
        bias = None  # once is enough, also before a Resize: its weights add up to 1
        if part.resize is not None:
            inputs = [y, *_sizes(part.resize, shape)]
            again = match.build.node(
                "Resize", inputs, part.resize.attributes, type=TensorType(dtype, shape)
            )
            y = again.output
        results.append(y)
    total = results[-1]
    for y in reversed(results[:-1]):
        total = match.build.Add(y, total, type=TensorType(dtype, shape))
    return total


def is_pointwise(node: Node, shape: tuple[int, ...]) -> bool:
    """Whether a convolution with weights of this shape is a product with each pixel."""
    return (
        math.prod(shape[2:]) == 1
        and node.attribute("group", 1) == 1
        and not any(node.attribute("pads", ()))
        and set(node.attribute("strides", ())) <= {1}
    )


def _parts(value: Value, weights: Array) -> list[_Part]:
    """The images side by side in `value`; none where several of them are not resized."""
    concat = value.producer
    if concat is None or not concat.is_op("Concat"):
        return [_part(value, weights)]
    if attribute_of(concat, "axis") not in (1, 1 - (value.rank or 0)) or _is_read(value):
        return []
    parts, first = [], 0
    for image in concat.inputs:
        if image is None or image.static_shape is None:
            return []
        last = first + image.static_shape[1]
        parts.append(_part(image, weights[:, first:last]))
        first = last
    return parts if sum(part.resize is None for part in parts) <= 1 else []


def _part(value: Value, weights: Array) -> _Part:
    node = value.producer
    if node is None or not node.is_op("Resize") or _is_read(value) or not _enlarges(node):
        return _Part(value, weights, None)
    if weights.shape[0] > _FEWER * weights.shape[1]:  # more would be enlarged than before
        return _Part(value, weights, None)
    return _Part(value, weights, node)


def _is_read(value: Value) -> bool:
    """Whether somebody else reads the value."""
    return bool(value.output_count) or len(list(value.uses)) != 1


def _enlarges(node: Node) -> bool:
    """Whether each new pixel is an average of old ones, of which there are fewer."""
    before = None if node.inputs[0] is None else node.inputs[0].static_shape
    after = node.output.static_shape
    if before is None or after is None or before[:2] != after[:2]:
        return False
    if any(new < old for old, new in zip(before, after)):
        return False
    if attribute_of(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    if attribute_of(node, "keep_aspect_ratio_policy") != "stretch":
        return False
    if node.input(3) is None:
        scales = constant_of(node.input(2))
        axes = node.attribute("axes", None) or range(len(before))
        # A scale near 1 keeps the number of channels, and yet mixes them.
        if scales is None or any(
            axis % len(before) < 2 and scale != 1 for axis, scale in zip(axes, scales.numpy())
        ):
            return False
    return math.prod(after) >= _FEWER * math.prod(before) > 0


def _sizes(node: Node, shape: tuple[int, ...]) -> list[Any]:
    """The other inputs of the Resize, for an image of another number of channels."""
    roi, scales, sizes = (node.input(index) for index in (1, 2, 3))
    if sizes is None:
        return [roi, scales]
    axes = node.attribute("axes", None) or range(len(shape))
    return [roi, None, np.array([shape[axis] for axis in axes], np.int64)]
