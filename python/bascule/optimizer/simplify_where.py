# SPDX-License-Identifier: Apache-2.0
"""Simplify Where with a constant condition or equal branches, and leave out Expands.

An Expand in front of an operator that broadcasts is not needed where the other operands have the
expanded sizes anyway.

Before:
    g (float[N,4] x, float[N,4] z, bool[N,1] c) => (float[N,4] y, float[N,4] w) <
        bool[1] true = {1}, int64[2] shape = {1, 4}
    > {
        s = Where(true, x, z)
        t = Where(c, s, s)
        y = Neg(t)
        u = Expand(c, shape)
        w = Where(u, x, z)
    }
After:
    g (float[N,4] x, float[N,4] z, bool[N,1] c) => (float[N,4] y, float[N,4] w) {
        y = Neg(x)
        w = Where(c, x, z)
    }
Keeps:
    g (float[4] x, float[N,4] z) => (float[N,4] y) <bool true = {1}> {
        s = Where(true, x, z)
        y = Neg(s)
    }
Keeps:
    g (float[1,4] x, float[N,1] z, int64[2] shape) => (float[N,4] y) {
        s = Expand(z, shape)
        y = Add(s, x)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.ir.types import Shape
from bascule.optimizer.pattern import constant_of, constants, op, uniform_value, values
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.shapes import broadcasts_to, certain_shape, same_shape

x, z, c = values("x", "z", "c")
(condition,) = constants("condition")


@rule(op.Where(condition, x, z))
def simplify_where(match: Match) -> Value | None:
    constant = constant_of(match[condition])
    chosen = None if constant is None else uniform_value(constant)
    if chosen is None:
        return None
    branch = match[x] if chosen else match[z]
    return branch if _covers(branch, match[x], match[z], match[condition]) else None


@rule(op.Where(c, x, x))
def eliminate_where(match: Match) -> Value | None:
    return match[x] if _covers(match[x], match[c]) else None


def _covers(result: Value, *operands: Value) -> bool:
    shape = certain_shape(result)
    return all(broadcasts_to(certain_shape(operand), shape) for operand in operands)


_BROADCASTING = [
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mul",
    "Or",
    "Pow",
    "Sub",
    "Where",
    "Xor",
]


@rule(op[tuple(_BROADCASTING)](...))
def eliminate_expand_operand(match: Match) -> Value | None:
    node = match.root
    inputs = list(node.inputs)
    changed = False
    for index, value in enumerate(inputs):
        producer = None if value is None else value.producer
        if value is None or producer is None or not producer.is_op("Expand"):
            continue
        small = producer.inputs[0]
        others = [each for i, each in enumerate(inputs) if i != index and each is not None]
        if small is not None and _is_covered(small, value, others):
            inputs[index] = small
            changed = True
    if not changed:
        return None
    return match.build.node(node.op_type, inputs, node.attributes, type=node.output.type).output


def _is_covered(small: Value, large: Value, others: list[Value]) -> bool:
    """True when each axis that the Expand enlarges has that size in another operand."""
    before, after = certain_shape(small), certain_shape(large)
    if before is None or after is None:
        return same_shape(small, large)
    shapes = [shape for shape in map(certain_shape, others) if shape is not None]
    before = (1,) * (len(after) - len(before)) + before
    for axis, (old, new) in enumerate(zip(before, after)):
        if old is not None and old == new:
            continue
        if not any(_size_at(shape, axis - len(after)) == new for shape in shapes if new):
            return False
    return len(after) <= max(map(len, [small.shape or (), *shapes]))


def _size_at(shape: Shape, axis: int) -> object:
    return shape[axis] if -axis <= len(shape) else 1
