# SPDX-License-Identifier: Apache-2.0
"""Fuse QLinearAdd of a tensor of the same shape into the QLinearConv before it.

Before:
    g (uint8[1,2,4,4] x, int8[2,2,1,1] w) => (uint8[1,2,4,4] y) <
        float s = {0.5}, uint8 z = {7}, int8 wz = {0}, float t = {0.25}, uint8 u = {3}
    > {
        c = QLinearConv(x, s, z, w, s, wz, t, u)
        y = bascule.QLinearAdd(x, s, z, c, t, u, s, z)
    }
After:
    g (uint8[1,2,4,4] x, int8[2,2,1,1] w) => (uint8[1,2,4,4] y) <
        float s = {0.5}, uint8 z = {7}, int8 wz = {0}, float t = {0.25}, uint8 u = {3}
    > { y = bascule.QLinearConv<residual_first = 1>(x, s, z, w, s, wz, t, u, , x, s, z, s, z) }
Rejects, "the shapes are not known to be equal":
    g (uint8[1,2,4,4] x, int8[2,2,1,1] w, uint8[1,2,1,1] r) => (uint8[1,2,4,4] y) <
        float s = {0.5}, uint8 z = {7}, int8 wz = {0}
    > {
        c = QLinearConv(x, s, z, w, s, wz, s, z)
        y = bascule.QLinearAdd(c, s, z, r, s, z, s, z)
    }
"""

from __future__ import annotations

from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.optimizer.pattern import constant_of, fused, values
from bascule.optimizer.rewrite import Match, Reject, rule

(left,) = values("left")


@rule(fused.QLinearAdd(left, ...))
def fuse_quantized_residual(match: Match) -> Value | Reject | None:
    root = match.root
    inputs = [*root.inputs, None][:8]
    operands = [(inputs[:3], inputs[3:6], False), (inputs[3:6], inputs[:3], True)]
    found = [each for each in operands if _takes_residual(each[0], root)]
    if not found:
        return None
    # With two, the second: what it adds is mostly there before.
    own, residual, is_first = found[-1]
    node, added = own[0].producer if own[0] is not None else None, residual[0]
    if node is None or added is None:
        return None
    shape = node.output.shape
    if shape is None or added.shape != shape or None in shape:
        return Reject("the shapes are not known to be equal", added)
    return match.build.node(
        "QLinearConv",
        [*[*node.inputs, None][:9], *residual, *inputs[6:]],
        {**node.attributes, **({"residual_first": 1} if is_first else {})},
        domain=FUSED_DOMAIN,
        type=root.output.type,
    ).output


def _takes_residual(operand: list[Value | None], reader: Node) -> bool:
    """True for what QLinearConv made, with its own scale and zero point."""
    value, scale, zero = operand
    node = None if value is None else value.producer
    if value is None or node is None or node.graph is not reader.graph:
        return False
    if not (node.is_op("QLinearConv") or node.is_op("QLinearConv", domain=FUSED_DOMAIN)):
        return False
    return (
        node.input(9) is None
        and value.only_use() is reader
        and _number(node.input(6)) == _number(scale) is not None
        and _number(node.input(7), 0) == _number(zero, 0) is not None
    )


def _number(value: Value | None, default: float | None = None) -> float | None:
    """The only element of a constant."""
    if value is None:
        return default
    constant = constant_of(value)
    if constant is None or constant.size != 1:
        return None
    return float(constant.numpy().reshape(()))
