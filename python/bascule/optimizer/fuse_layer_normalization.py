# SPDX-License-Identifier: Apache-2.0
"""Fuse the formula of layer normalization, its scale and its bias into LayerNormalization.

Before:
    g (float[2,4] x, float[4] scale, float[4] bias) => (float[2,4] y) {
        axes = Constant<value_ints = [-1]>()
        epsilon = Constant<value_float = 1e-05>()
        two = Constant<value_float = 2.0>()
        mean = ReduceMean(x, axes)
        centered = Sub(x, mean)
        square = Pow(centered, two)
        variance = ReduceMean(square, axes)
        shifted = Add(variance, epsilon)
        deviation = Sqrt(shifted)
        normal = Div(centered, deviation)
        scaled = Mul(normal, scale)
        y = Add(scaled, bias)
    }
After:
    g (float[2,4] x, float[4] scale, float[4] bias) => (float[2,4] y) {
        y = LayerNormalization<axis = -1, epsilon = 1e-05>(x, scale, bias)
    }
"""

from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.optimizer.channels_last import to_first, to_last
from bascule.optimizer.normalization import (
    axes_of,
    epsilon_of,
    is_uniform,
    reciprocal_root,
    reshaped,
    sizes_from,
    square,
    standardize,
    trailing_axis,
    uniform,
)
from bascule.optimizer.pattern import Pattern, any_of, constant_of, constants, op, optional, values
from bascule.optimizer.rewrite import Match, Reject, rule

x, scale, bias, w = values("x", "scale", "bias", "w")
axes, other_axes, variance_axes = constants("axes", "other_axes", "variance_axes")


def _mean() -> Pattern:
    return op.ReduceMean(x, axes, keepdims=1)


def _centered() -> Pattern:
    return op.Sub(x, _mean())


_CENTERED, _MEAN = _centered(), _mean()
_VARIANCE = any_of(
    op.ReduceMean(square(_CENTERED), variance_axes, keepdims=1),
    # The formula may compute mean and difference twice.
    op.ReduceMean(
        square(op.Sub(x, op.ReduceMean(x, other_axes, keepdims=1))), variance_axes, keepdims=1
    ),
    op.Sub(op.ReduceMean(square(x), variance_axes, keepdims=1), square(_MEAN)),
)
_INVERSE = any_of(
    op.Mul(reciprocal_root(_VARIANCE), scale),
    reciprocal_root(_VARIANCE),
)
_SHIFT = any_of(
    op.Sub(bias, op.Mul(_MEAN, _INVERSE)),
    op.Add(op.Mul(op.Neg(_MEAN), _INVERSE), bias),
    op.Mul(op.Neg(_MEAN), _INVERSE),
)


@rule(
    *standardize(_CENTERED, _VARIANCE),
    op.Mul(_CENTERED, op.Mul(reciprocal_root(_VARIANCE), scale)),
    op.Add(op.Mul(x, _INVERSE), _SHIFT),
    op.Sub(op.Mul(x, _INVERSE), op.Mul(_MEAN, _INVERSE)),
)
def fuse_layer_normalization(match: Match) -> Value | Reject:
    value = match[x]
    axis = trailing_axis(match, x, axes, other_axes, variance_axes)
    number = epsilon_of(match)
    if axes_of(match, x, axes, other_axes, variance_axes) == (1,) and axis is None:
        return _over_channels(match)
    if axis is None or number is None:
        return Reject("the means are not over the last axes", value)
    sizes = sizes_from(value, axis)
    if sizes is None or value.rank is None:
        return Reject("the normalized sizes are not known", value)
    factor: Value | None = uniform(match.build, value, sizes, 1.0)
    addend = None
    if scale in match:
        factor = reshaped(match.build, match[scale], sizes, value.rank)
    if bias in match:
        addend = reshaped(match.build, match[bias], sizes, value.rank)
    if factor is None or (bias in match and addend is None):
        return Reject("scale or bias do not have the normalized sizes", value)
    return match.build.LayerNormalization(value, factor, addend, axis=axis, epsilon=number)


def _over_channels(match: Match) -> Value | Reject:
    """The normalization over axis 1 of ``[N, C, spatial...]``, between Transposes."""
    value, number = match[x], epsilon_of(match)
    shape, rank = value.shape, value.rank
    if shape is None or rank is None or number is None or not isinstance(shape[1], int):
        return Reject("the number of channels is not known", value)
    if scale in match:
        return Reject("the scale is not applied to the result", match[scale])
    last = match.build.Transpose(value, perm=to_last(rank))
    ones = uniform(match.build, value, (shape[1],), 1.0)
    normal = match.build.LayerNormalization(last, ones, axis=-1, epsilon=number)
    return match.build.Transpose(normal, perm=to_first(rank))


_NORMALIZATION = op.LayerNormalization(x, scale, optional(bias), axis=lambda axis: axis < 0)


@rule(op.Mul(_NORMALIZATION, w))
def fuse_layer_normalization_scale(match: Match) -> Value | None:
    node, value = match.node(_NORMALIZATION), match[x]
    sizes = sizes_from(value, node.attribute("axis", -1))
    if sizes is None or bias in match or value.rank is None or not is_uniform(match[scale], 1.0):
        return None
    factor = reshaped(match.build, match[w], sizes, value.rank)
    if factor is None:
        return None
    return match.build.LayerNormalization(value, factor, **node.attributes)


@rule(op.Add(_NORMALIZATION, w))
def fuse_layer_normalization_bias(match: Match) -> Value | None:
    node, value = match.node(_NORMALIZATION), match[x]
    sizes = sizes_from(value, node.attribute("axis", -1))
    if sizes is None or bias in match or value.rank is None:
        return None
    addend = reshaped(match.build, match[w], sizes, value.rank)
    if addend is None:
        return None
    return match.build.LayerNormalization(value, match[scale], addend, **node.attributes)


_CHANNELS_FIRST = op.Transpose(_NORMALIZATION)


@rule(op.Mul(_CHANNELS_FIRST, w), op.Add(_CHANNELS_FIRST, w))
def fuse_layer_normalization_channels(match: Match) -> Value | None:
    """Scale and bias of each channel behind the Transpose back to the standard layout."""
    node, value, rank = match.node(_NORMALIZATION), match[x], match[_CHANNELS_FIRST].rank
    if rank is None or rank < 3 or value.shape is None or bias in match:
        return None
    row = constant_of(match[w])
    if match.node(_CHANNELS_FIRST).attribute("perm") != to_first(rank) or row is None:
        return None
    if node.attribute("axis", -1) != -1 or row.shape[-rank + 1 :] != (row.size, *[1] * (rank - 2)):
        return None
    inputs = [value, match[scale], row.numpy().reshape(-1)]
    if match.root.is_op("Mul"):
        if not is_uniform(match[scale], 1.0):
            return None
        inputs = [value, row.numpy().reshape(-1)]
    normal = match.build.node("LayerNormalization", inputs, node.attributes).output
    return match.build.Transpose(normal, perm=to_first(rank))


_WIDE = op.Cast(x, to=int(DataType.FLOAT))
_WIDE_NORMALIZATION = op.LayerNormalization(_WIDE, scale, axis=lambda axis: axis < 0)


@rule(op.Cast(_WIDE_NORMALIZATION))
def fuse_layer_normalization_casts(match: Match) -> Value | None:
    """The operator itself computes in float32 (stash_type)."""
    node, value = match.node(_WIDE_NORMALIZATION), match[x]
    sizes = sizes_from(value, node.attribute("axis", -1))
    if value.dtype is None or match.root.attribute("to") != value.dtype or sizes is None:
        return None
    if not is_uniform(match[scale], 1.0):
        return None
    ones = uniform(match.build, value, sizes, 1.0)
    return match.build.LayerNormalization(value, ones, **node.attributes)
