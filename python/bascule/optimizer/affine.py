# SPDX-License-Identifier: Apache-2.0
"""A factor and a summand per channel, worked into the weights of a convolution or product.

Everything is computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import attribute_of, constant_of
from bascule.optimizer.rewrite import Match, Reject

Array = np.ndarray[Any, Any]


class Weights(NamedTuple):
    """New weights and bias."""

    weight: Array
    bias: Array


def channels_of(node: Node) -> int | None:
    """How many output channels `node` has, when its weights are constant."""
    weight = constant_of(node.input(1))
    if weight is None or len(weight.shape) < 2:
        return None
    if node.is_op("Conv"):
        return weight.shape[0]
    if node.is_op("ConvTranspose"):
        return weight.shape[1] * int(attribute_of(node, "group"))
    if len(weight.shape) > 2:
        return None
    return weight.shape[0 if node.attribute("transB", 0) else 1]


@np.errstate(all="ignore")
def scale_channels(node: Node, factor: Array | None, summand: Array) -> Weights | Reject:
    """The weights of `node` for a result of ``factor * result + summand`` per channel."""
    weight, bias = constant_of(node.input(1)), constant_of(node.input(2))
    channels = channels_of(node)
    if weight is None or channels is None or not weight.dtype.is_float:
        return Reject("the weights are not constant", *filter(None, node.inputs[1:2]))
    if node.input(2) is not None and (bias is None or bias.size not in (1, channels)):
        return Reject("the bias is not constant", *filter(None, node.inputs[2:3]))
    if bias is not None and bias.size > 1 and bias.shape[-1] != channels:
        return Reject("the bias is not one row", *filter(None, node.inputs[2:3]))
    old = np.zeros(channels) if bias is None else bias.numpy().astype(np.float64).reshape(-1)
    old = old * node.attribute("beta", 1.0)
    dtype = weight.dtype.numpy
    new_weight, new_bias = weight.numpy(), np.broadcast_to(old + summand, (channels,))
    if factor is not None:
        factor = np.broadcast_to(factor, (channels,))
        shape = _factor_shape(node, weight.shape)
        scaled = _split_groups(node, new_weight.astype(np.float64)) * factor.reshape(shape)
        new_weight = scaled.reshape(weight.shape).astype(dtype)
        new_bias = old * factor + summand
    new_bias = np.ascontiguousarray(new_bias).astype(dtype)
    for array in (new_bias, new_weight) if factor is not None else (new_bias,):
        if not np.isfinite(array.astype(np.float64)).all():
            return Reject("the new weights are not finite", *filter(None, node.inputs[1:2]))
    return Weights(new_weight, new_bias)


def rebuild(match: Match, node: Node, weights: Weights) -> Value:
    """`node` with other weights, in front of the root of the match."""
    old_weight, old_bias = node.input(1), node.input(2)
    assert old_weight is not None
    weight = old_weight
    if weights.weight is not constant_array(old_weight):
        weight = match.build.constant(weights.weight, old_weight.name)
    bias = match.build.constant(
        weights.bias, old_bias.name if old_bias is not None else f"{old_weight.name}_bias"
    )
    attributes = dict(node.attributes)
    type = node.output.type
    if node.is_op("MatMul"):
        product = match.build.MatMul(node.input(0), weight, type=type)
        return match.build.Add(product, bias, type=type)
    attributes.pop("beta", None)
    return match.build.node(
        node.op_type, [node.input(0), weight, bias], attributes, type=type
    ).output


def constant_array(value: Value) -> Array | None:
    """The elements of a constant."""
    constant = constant_of(value)
    return None if constant is None else constant.numpy()


def _split_groups(node: Node, weight: Array) -> Array:
    """Weights with the groups of a ConvTranspose as an axis of their own."""
    if not node.is_op("ConvTranspose"):
        return weight
    groups = int(attribute_of(node, "group"))
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


def _factor_shape(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How one factor per output channel broadcasts over the weights as `_split_groups` has them."""
    spatial = (1,) * (len(shape) - 2)
    if node.is_op("Conv"):
        return (shape[0], 1, *spatial)
    if node.is_op("ConvTranspose"):
        return (int(attribute_of(node, "group")), 1, shape[1], *spatial)
    return (shape[0], 1) if node.attribute("transB", 0) else (1, shape[1])
