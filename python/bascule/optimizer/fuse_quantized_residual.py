# SPDX-License-Identifier: Apache-2.0
"""Fuse QLinearAdd of a tensor of the same shape, or of a row, into the product before it.

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
Before:
    g (uint8[2,4] x, uint8[2,2] r) => (uint8[2,2] y) <
        float s = {0.5}, uint8 z = {7}, int8[4,2] w = {1, -2, 3, -4, 5, -6, 7, -8}, int8 wz = {0},
        float t = {0.25}, uint8 u = {3}, uint8[2] b = {4, 9}
    > {
        m = QLinearMatMul(x, s, z, w, s, wz, t, u)
        c = bascule.QLinearAdd(m, t, u, b, s, z, t, z)
        y = bascule.QLinearAdd(c, t, z, r, s, z, s, u)
    }
After:
    g (uint8[2,4] x, uint8[2,2] r) => (uint8[2,2] y) <
        float s = {0.5}, uint8 z = {7}, int8[4,2] w = {1, -2, 3, -4, 5, -6, 7, -8}, int8 wz = {0},
        float t = {0.25}, uint8 u = {3}, uint8[2] b = {4, 9}
    > { y = bascule.QLinearMatMul(x, s, z, w, s, wz, t, u, b, s, z, t, z, r, s, z, s, u) }
Rejects, "the shapes are not known to be equal":
    g (uint8[1,2,4,4] x, int8[2,2,1,1] w, uint8[1,2,1,1] r) => (uint8[1,2,4,4] y) <
        float s = {0.5}, uint8 z = {7}, int8 wz = {0}
    > {
        c = QLinearConv(x, s, z, w, s, wz, s, z)
        y = bascule.QLinearAdd(c, s, z, r, s, z, s, z)
    }
"""

from __future__ import annotations

from collections.abc import Iterator

from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.optimizer.pattern import constant_of, fused, values
from bascule.optimizer.rewrite import Match, Reject, rule

(left,) = values("left")

Operand = list[Value | None]
"""A value, its scale and its zero point."""

_ADDENDS = {"QLinearConv": 9, "QLinearMatMul": 8}
"""The inputs before the first addend, of which each has five."""


@rule(fused.QLinearAdd(left, ...))
def fuse_quantized_residual(match: Match) -> Value | Reject | None:
    root = match.root
    found = [each for each in _operands(root) if _result(each[0]) is not None]
    # With two, the second: what it adds is mostly there before.
    for own, residual, is_first in reversed(found):
        node, added = _result(own), residual[0]
        if node is None or added is None:
            continue
        shape = node.output.shape
        if shape is None or added.shape != shape or None in shape:
            return Reject("the shapes are not known to be equal", added)
        row = node.is_op("QLinearMatMul", domain=FUSED_DOMAIN) or node.is_op("QLinearMatMul")
        return _with_addend(match, node, 13 if row else 9, residual, "residual_first", is_first)
    return None


@rule(fused.QLinearAdd(left, ...))
def fuse_quantized_bias(match: Match) -> Value | None:
    for own, row, is_first in _operands(match.root):
        node, added = _result(own), row[0]
        if node is None or added is None or not node.is_op("QLinearMatMul"):
            continue
        shape = node.output.shape
        if shape is not None and added.shape == shape[-1:] and constant_of(added) is not None:
            return _with_addend(match, node, 8, row, "row_first", is_first)
    return None


def _operands(add: Node) -> Iterator[tuple[Operand, Operand, bool]]:
    """Each operand that is a result nobody else reads, with the other one."""
    inputs = [*add.inputs, None][:8]
    for own, other, is_first in ((inputs[:3], inputs[3:6], False), (inputs[3:6], inputs[:3], True)):
        value = own[0]
        if value is not None and value.only_use() is add:
            yield own, other, is_first


def _result(operand: Operand) -> Node | None:
    """The product that makes an operand, with its scale and zero point, if it takes an addend."""
    value, scale, zero = operand
    node = None if value is None else value.producer
    if node is None or value is None or node.graph is not value.uses[0].node.graph:
        return None
    first = _ADDENDS.get(node.op_type)
    if first is None or node.domain not in ("", FUSED_DOMAIN):
        return None
    if node.op_type == "QLinearMatMul" and not _is_of_weights(node):
        return None
    residual = node.input(13 if node.op_type == "QLinearMatMul" else 9)
    last = 11 if node.op_type == "QLinearMatMul" and node.input(8) is not None else 6
    if residual is not None or _number(node.input(last)) != _number(scale):
        return None
    is_same = _number(node.input(last + 1), 0) == _number(zero, 0)
    known = _number(scale) is not None and _number(zero, 0) is not None
    return node if is_same and known else None


def _is_of_weights(node: Node) -> bool:
    """True if B is a constant matrix, and A has one scale."""
    weights = node.input(3)
    if weights is None or constant_of(weights) is None or weights.rank != 2:
        return False
    return all(_number(node.input(index), 0) is not None for index in (1, 2))


def _with_addend(
    match: Match, node: Node, first: int, added: Operand, attribute: str, is_first: bool
) -> Value:
    sum_scale = [*match.root.inputs, None][6:8]
    inputs = [*node.inputs, *[None] * 18][:first]
    return match.build.node(
        node.op_type,
        [*inputs, *added, *sum_scale],
        {**node.attributes, **({attribute: 1} if is_first else {})},
        domain=FUSED_DOMAIN,
        type=match.root.output.type,
    ).output


def _number(value: Value | None, default: float | None = None) -> float | None:
    """The only element of a constant."""
    if value is None:
        return default
    constant = constant_of(value)
    if constant is None or constant.size != 1:
        return None
    return float(constant.numpy().reshape(()))
