# SPDX-License-Identifier: Apache-2.0
"""Fuse the formula of root mean square normalization and its scale into RMSNormalization.

Before:
    g (float[2,4] x, float[4] scale) => (float[2,4] y) {
        axes = Constant<value_ints = [-1]>()
        epsilon = Constant<value_float = 1e-06>()
        two = Constant<value_float = 2.0>()
        square = Pow(x, two)
        mean = ReduceMean(square, axes)
        shifted = Add(mean, epsilon)
        root = Sqrt(shifted)
        inverse = Reciprocal(root)
        normal = Mul(x, inverse)
        y = Mul(scale, normal)
    }
After:
    g (float[2,4] x, float[4] scale) => (float[2,4] y) {
        y = RMSNormalization<axis = -1, epsilon = 1e-06>(x, scale)
    }
"""

from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.optimizer.normalization import (
    epsilon_of,
    is_uniform,
    reshaped,
    sizes_from,
    square,
    standardize,
    trailing_axis,
    uniform,
)
from bascule.optimizer.pattern import constants, op, values
from bascule.optimizer.rewrite import Match, Reject, rule

x, scale, w = values("x", "scale", "w")
(axes,) = constants("axes")


@rule(*standardize(x, op.ReduceMean(square(x), axes, keepdims=1)))
def fuse_rms_normalization(match: Match) -> Value | Reject:
    value = match[x]
    axis, number = trailing_axis(match, x, axes), epsilon_of(match)
    if axis is None or number is None:
        return Reject("the mean is not over the last axes", value)
    sizes = sizes_from(value, axis)
    if sizes is None:
        return Reject("the normalized sizes are not known", value)
    ones = uniform(match.build, value, sizes, 1.0)
    return match.build.RMSNormalization(value, ones, axis=axis, epsilon=number)


_NORMALIZATION = op.RMSNormalization(x, scale, axis=lambda axis: axis < 0)


@rule(op.Mul(_NORMALIZATION, w))
def fuse_rms_normalization_scale(match: Match) -> Value | None:
    node, value = match.node(_NORMALIZATION), match[x]
    sizes = sizes_from(value, node.attribute("axis", -1))
    if sizes is None or value.rank is None or not is_uniform(match[scale], 1.0):
        return None
    factor = reshaped(match.build, match[w], sizes, value.rank)
    if factor is None:
        return None
    return match.build.RMSNormalization(value, factor, **node.attributes)


_WIDE = op.Cast(x, to=int(DataType.FLOAT))
_WIDE_NORMALIZATION = op.RMSNormalization(_WIDE, scale, axis=lambda axis: axis < 0)


@rule(op.Cast(_WIDE_NORMALIZATION))
def fuse_rms_normalization_casts(match: Match) -> Value | None:
    """The operator itself computes in float32 (stash_type)."""
    node, value = match.node(_WIDE_NORMALIZATION), match[x]
    sizes = sizes_from(value, node.attribute("axis", -1))
    if value.dtype is None or match.root.attribute("to") != value.dtype or sizes is None:
        return None
    if not is_uniform(match[scale], 1.0):
        return None
    ones = uniform(match.build, value, sizes, 1.0)
    return match.build.RMSNormalization(value, ones, **node.attributes)
