# SPDX-License-Identifier: Apache-2.0
"""Convolutions with residual, activation and channels last; those of integers."""

from __future__ import annotations

from bascule.ir.graph import Node
from bascule.optimizer.fused.activation import activate
from bascule.optimizer.fused.body import Body
from bascule.optimizer.fused.channels_last import to_channels_first, to_channels_last
from bascule.optimizer.fused.quantized_sum import add_quantized

_OWN = frozenset(
    (
        *("activation", "activation_alpha", "activation_beta"),
        *("channels_last", "planes", "residual_first"),
    )
)
_QUANTIZED = (
    *("X", "X_scale", "X_zero", "W", "W_scale", "W_zero", "Y_scale", "Y_zero", "B"),
    *("residual", "residual_scale", "residual_zero", "sum_scale", "sum_zero"),
)


def define_convolution(node: Node) -> Body | None:
    """``activation(convolution + B + residual)``."""
    body = Body(node, "X", "W", "B", "residual", "scale")
    attributes = {k: v for k, v in node.attributes.items() if k not in _OWN}
    x, last = body.input("X"), bool(node.attribute("channels_last", 0))
    rank = x.rank if x.rank is not None else body.input("W").rank
    if last and rank is None:
        return None
    scale = body.optional("scale")
    if scale is not None:
        x = body.call("Mul", x, scale)
    if last and rank is not None and not node.attribute("planes", 0):
        x = to_channels_first(body, x, rank)
    inputs = [x, body.input("W")]
    bias, residual = body.optional("B"), body.optional("residual")
    if bias is not None:
        inputs.append(bias)
    y = body.call(node.op_type, *inputs, **attributes)
    if last and rank is not None:
        y = to_channels_last(body, y, rank)
    if residual is not None:
        y = body.call("Add", y, residual)
    return body.output(activate(body, node, y))


def define_pointwise_depthwise(node: Node) -> Body:
    """``activation(depthwise(inner_activation(W * X + B)) + taps_B)``."""
    body = Body(node, "X", "W", "B", "taps", "taps_B")
    attributes = {
        k: v for k, v in node.attributes.items() if k not in _OWN and not k.startswith("inner_")
    }
    x = to_channels_first(body, body.input("X"), 4)
    inner = body.call("Conv", x, body.input("W"), body.optional("B"))
    inner = activate(body, node, inner, "inner_")
    y = body.call("Conv", inner, body.input("taps"), body.optional("taps_B"), **attributes)
    return body.output(activate(body, node, to_channels_last(body, y, 4)))


def define_integer_convolution(node: Node) -> Body | None:
    """ConvInteger and QLinearConv with channels last; QLinearConv with a sum of bytes behind it."""
    names = _QUANTIZED if node.op_type == "QLinearConv" else ("X", "W", "X_zero", "W_zero")
    body = Body(node, *names)
    attributes = {k: v for k, v in node.attributes.items() if k not in _OWN}
    x, last = body.input("X"), bool(node.attribute("channels_last", 0))
    rank, others = x.rank, [body.optional(name) for name in names[1:9]]
    if last and rank is None:
        return None
    if last and rank is not None:
        x = to_channels_first(body, x, rank)
    y = body.call(node.op_type, x, *others, **attributes)
    if last and rank is not None:
        y = to_channels_last(body, y, rank)
    residual = body.optional("residual")
    if residual is None:
        return body.output(y)
    if node.attribute("residual_first", 0):
        return body.output(add_quantized(body, residual, y, "residual", "Y", "sum"))
    return body.output(add_quantized(body, y, residual, "Y", "residual", "sum"))
