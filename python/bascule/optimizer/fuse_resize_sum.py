# SPDX-License-Identifier: Apache-2.0
"""Resize images to one size and add them up in one pass.

Before:
    g (float[1,2,2,3] x, float[1,4,1,3] z) => (float[1,4,4,3] y) <int64[4] sizes = {1, 4, 4, 3}> {
        a = Resize<mode = "linear">(x, , , sizes)
        b = Resize<mode = "linear">(z, , , sizes)
        y = Add(a, b)
    }
After:
    g (float[1,2,2,3] x, float[1,4,1,3] z) => (float[1,4,4,3] y) {
        y = bascule.ResizeSum<mode = "linear", sizes = [1, 4, 4, 3]>(x, z)
    }
Keeps:
    g (float[1,2,2,3] x, float[1,4,1,3] z) => (float[1,4,4,3] y) <int64[4] sizes = {1, 4, 4, 3}> {
        a = Resize<mode = "linear">(x, , , sizes)
        b = Resize<mode = "cubic">(z, , , sizes)
        y = Add(a, b)
    }
"""

from __future__ import annotations

from typing import Any

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import any_of, attribute_of, fused, op
from bascule.optimizer.rewrite import Match, rule

_LEFT, _RIGHT = (any_of(op.Resize(...), fused.ResizeSum(...)) for _ in range(2))


@rule(op.Add(_LEFT, _RIGHT))
def fuse_resize_sum(match: Match) -> Value | None:
    left, right = match.node(_LEFT), match.node(_RIGHT)
    sampling = _sampling(left)
    if sampling is None or sampling != _sampling(right):
        return None
    images = [image for node in (left, right) for image in _images(node)]
    return match.fused.ResizeSum(*images, type=match.root.output.type, **sampling)


def _images(node: Node) -> list[Value | None]:
    return list(node.inputs if node.is_op("ResizeSum", domain="bascule") else node.inputs[:1])


def _sampling(node: Node) -> dict[str, Any] | None:
    """The attributes of the sum; None where a Resize does more than enlarge [N, H, W, C]."""
    if not node.is_op("Resize"):
        return node.attributes
    x, shape = node.inputs[0], node.output.static_shape
    before = None if x is None else x.static_shape
    if shape is None or before is None or len(shape) != 4 or 0 in before:
        return None
    if (before[0], before[3]) != (shape[0], shape[3]) or node.output.dtype is not DataType.FLOAT:
        return None
    if node.input(3) is None or attribute_of(node, "mode") == "nearest":
        return None  # scales need not be the quotients of the sizes
    if attribute_of(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    if attribute_of(node, "keep_aspect_ratio_policy") != "stretch":
        return None
    ignored = ("axes", "keep_aspect_ratio_policy", "extrapolation_value", "nearest_mode")
    kept = {name: value for name, value in node.attributes.items() if name not in ignored}
    return kept | {"sizes": list(shape)}
