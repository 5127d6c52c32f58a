# SPDX-License-Identifier: Apache-2.0
"""Merge a product with constant weights and the 1x1 convolution of its result.

Both are linear maps of each row, and so is the one after the other; what comes out is exact up to
rounding. The new weights are computed in float64.

Before:
    g (float[1,4,2] x) => (float[1,2,2,1] y) <
        float[2,3] v = {1, 2, 3, 4, 5, 6}, float[3] b = {1, 2, 3}, int64[4] shape = {1, 2, 2, 3},
        float[1,3,1,1] w = {1, -1, 2}
    > {
        t = bascule.MatMul(x, v, b)
        image = Reshape(t, shape)
        y = bascule.Conv<channels_last = 1>(image, w)
    }
After:
    g (float[1,4,2] x) => (float[1,2,2,1] y) <
        int64[4] shape = {1, 2, 2, 2}, float[1,2,1,1] w = {5, 11}, float[1] b = {5}
    > {
        image = Reshape(x, shape)
        y = bascule.Conv<channels_last = 1>(image, w, b)
    }
Rejects, "one map would take more multiplications than two":
    g (float[1,4,4] x) => (float[1,2,2,4] y) <
        float[4,1] v = {1, 2, 3, 4}, int64[4] shape = {1, 2, 2, 1},
        float[4,1,1,1] w = {1, -1, 2, 3}
    > {
        t = MatMul(x, v)
        image = Reshape(t, shape)
        y = bascule.Conv<channels_last = 1>(image, w)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import FUSED_DOMAIN, Value
from bascule.optimizer.move_convolution_before_resize import is_pointwise
from bascule.optimizer.pattern import any_of, constant_of, constants, fused, op, optional, values
from bascule.optimizer.rewrite import Match, Reject, rule

x, shape = values("x", "shape")
v, w, bias = constants("v", "w", "bias")


def _off(attribute: object) -> bool:
    return not attribute


def _neutral(factor: object) -> bool:
    return factor in (None, 1.0)


_PRODUCT = any_of(
    op.MatMul(x, v),
    fused.MatMul(x, v, optional(bias), transA=_off, alpha=_neutral, activation=_off),
)
_IMAGE = op.Reshape(_PRODUCT, shape)


@rule(fused.Conv(_IMAGE, w, ..., channels_last=1))
def merge_linear_maps(match: Match) -> Value | Reject | None:
    node, product = match.root, match.node(_PRODUCT)
    image = match[_IMAGE].static_shape
    first, second = constant_of(match[v]), constant_of(match[w])
    addend = constant_of(node.input(2))
    if first is None or second is None or (node.input(2) is not None and addend is None):
        return None
    if not is_pointwise(node, second.shape) or len(first.shape) != 2 or not first.dtype.is_float:
        return None
    left = first.numpy().astype(np.float64)
    if product.attribute("transB", 0):
        left = left.T
    right = second.numpy().astype(np.float64).reshape(second.shape[:2]).T
    if image is None or 0 in image or not image[-1] == left.shape[1] == right.shape[0]:
        return None
    if left.shape[0] * right.shape[1] > left.size + right.size:
        return Reject("one map would take more multiplications than two", match[_PRODUCT])
    row = constant_of(product.input(2))
    with np.errstate(all="ignore"):
        weights = (left @ right).T.astype(first.dtype.numpy)
        total = np.zeros(right.shape[1]) if addend is None else addend.numpy().astype(np.float64)
        if row is not None:
            total = total + row.numpy().astype(np.float64).reshape(-1) @ right
    sums = None
    if row is not None or addend is not None:
        sums = total.astype(first.dtype.numpy)
    if not np.isfinite(weights.astype(np.float64)).all():
        return Reject("the new weights are not finite", match[v])
    rows = match.build.Reshape(match[x], np.array([*image[:-1], left.shape[0]], np.int64))
    inputs = [rows, weights.reshape(*weights.shape, *second.shape[2:]), sums, *node.inputs[3:]]
    return match.build.node(
        "Conv", inputs, node.attributes, domain=FUSED_DOMAIN, type=node.output.type
    ).output
