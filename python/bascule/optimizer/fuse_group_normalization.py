# SPDX-License-Identifier: Apache-2.0
"""Fuse the formulas of instance and group normalization, with their scale and bias.

Before:
    g (float[2,6,4,4] x, float[6,1,1] scale, float[6,1,1] bias) => (float[2,6,4,4] y) {
        grouped = Constant<value_ints = [0, 3, -1]>()
        shape = Constant<value_ints = [2, 6, 4, 4]>()
        ones = Constant<value_floats = [1.0, 1.0, 1.0]>()
        zeros = Constant<value_floats = [0.0, 0.0, 0.0]>()
        groups = Reshape(x, grouped)
        normal = InstanceNormalization(groups, ones, zeros)
        y = Reshape(normal, shape)
    }
After:
    g (float[2,6,4,4] x, float[6,1,1] scale, float[6,1,1] bias) => (float[2,6,4,4] y) {
        ones = Constant<value_floats = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]>()
        zeros = Constant<value_floats = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]>()
        y = GroupNormalization<num_groups = 3>(x, ones, zeros)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.normalization import (
    axes_of,
    epsilon_of,
    is_uniform,
    square,
    standardize,
    uniform,
)
from bascule.optimizer.pattern import attribute_of, constant_of, constants, op, values
from bascule.optimizer.rewrite import Builder, Match, Reject, rule

x, scale, bias, shape, w = values("x", "scale", "bias", "shape", "w")
axes, variance_axes = constants("axes", "variance_axes")

_CENTERED = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))


@rule(*standardize(_CENTERED, op.ReduceMean(square(_CENTERED), variance_axes, keepdims=1)))
def fuse_instance_normalization(match: Match) -> Value | Reject | None:
    value = match[x]
    rank, found, number = value.rank, axes_of(match, x, axes, variance_axes), epsilon_of(match)
    if rank is None or rank < 3 or number is None or found != tuple(range(2, rank)):
        return None
    channels = None if value.shape is None else value.shape[1]
    if not isinstance(channels, int):
        return Reject("the number of channels is not known", value)
    ones = uniform(match.build, value, (channels,), 1.0)
    zeros = uniform(match.build, value, (channels,), 0.0)
    return match.build.InstanceNormalization(value, ones, zeros, epsilon=number)


_INSTANCE = op.InstanceNormalization(op.Reshape(x, ...), scale, bias)


@rule(op.Reshape(_INSTANCE, shape))
def fuse_group_normalization(match: Match) -> Value | Reject | None:
    value, node = match[x], match.node(_INSTANCE)
    outer, inner, last = value.shape, match[_INSTANCE].shape, match.root.output.shape
    if outer is None or inner is None or last is None:
        return None
    if len(outer) < 3 or len(inner) < 3 or outer != last or None in outer or outer[0] != inner[0]:
        return None
    channels, groups = outer[1], inner[1]
    if not isinstance(channels, int) or not isinstance(groups, int) or channels % groups:
        return Reject("the groups do not divide the channels", value)
    per_group_scale, per_group_bias = constant_of(match[scale]), constant_of(match[bias])
    if per_group_scale is None or per_group_bias is None:
        return Reject("scale and bias are not constant", match[scale], match[bias])
    repeat = channels // groups
    return match.build.GroupNormalization(
        value,
        np.repeat(per_group_scale.numpy(), repeat),
        np.repeat(per_group_bias.numpy(), repeat),
        num_groups=groups,
        epsilon=float(attribute_of(node, "epsilon")),
    )


_NORMALIZATION = op["GroupNormalization", "InstanceNormalization"](x, scale, bias)


@rule(op.Mul(_NORMALIZATION, w))
def fuse_group_normalization_scale(match: Match) -> Value | None:
    if not is_uniform(match[scale], 1.0) or not is_uniform(match[bias], 0.0):
        return None
    factor = _per_channel(match.build, match[w], match[x])
    return None if factor is None else _again(match, factor, match[bias])


@rule(op.Add(_NORMALIZATION, w))
def fuse_group_normalization_bias(match: Match) -> Value | None:
    if not is_uniform(match[bias], 0.0):
        return None
    addend = _per_channel(match.build, match[w], match[x])
    return None if addend is None else _again(match, match[scale], addend)


def _again(match: Match, factor: Value, addend: Value) -> Value:
    node: Node = match.node(_NORMALIZATION)
    return match.build.node(node.op_type, [match[x], factor, addend], node.attributes).output


def _per_channel(build: Builder, value: Value, x: Value) -> Value | None:
    """The constant `value` as ``[C]``, if it holds a number for each channel of `x`."""
    constant = constant_of(value)
    if constant is None or x.shape is None or not isinstance(x.shape[1], int):
        return None
    channels, spatial = x.shape[1], len(x.shape) - 2
    dims = (1,) * (len(x.shape) - len(constant.shape)) + constant.shape
    if dims != (1, channels) + (1,) * spatial:
        return None
    return build.constant(constant.numpy().reshape(channels), value.name)
