# SPDX-License-Identifier: Apache-2.0
"""Move Transposes behind elementwise operators and Concat, towards each other.

Before:
    g (float[2,3,4] x) => (float[2,3,4] y) <float half = {0.5}> {
        t = Transpose<perm = [1, 2, 0]>(x)
        u = Relu(t)
        v = Mul(u, half)
        w = Transpose<perm = [2, 0, 1]>(v)
        y = Neg(w)
    }
After:
    g (float[2,3,4] x) => (float[2,3,4] y) <float half = {0.5}> {
        u = Relu(x)
        v = Mul(u, half)
        w = Neg(v)
        s = Transpose<perm = [1, 2, 0]>(w)
        y = Transpose<perm = [2, 0, 1]>(s)
    }
Before:
    g (float[2,3] x, float[2,3] z) => (float[3,4] y) <float[3,1] c = {1, 2, 3}> {
        s = Transpose(x)
        t = Transpose(z)
        u = Add(s, t)
        v = Sub(c, u)
        y = Concat<axis = 1>(v, s)
    }
After:
    g (float[2,3] x, float[2,3] z) => (float[3,4] y) <float[1,3] c = {1, 2, 3}> {
        u = Add(x, z)
        v = Sub(c, u)
        w = Concat<axis = 0>(v, x)
        y = Transpose<perm = [1, 0]>(w)
    }
Keeps:
    g (float[2,3] x, float[3,2] z) => (float[3,2] y) { t = Transpose(x) y = Add(t, z) }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.merge_transposes import permutation
from bascule.optimizer.pattern import constant_of, op, values
from bascule.optimizer.rewrite import Builder, Match, rule

(x,) = values("x")

_UNARY = [
    "Abs",
    "Acos",
    "Asin",
    "Atan",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
]
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
    "PRelu",
    "Sub",
    "Where",
    "Xor",
]
_SMALL = 1 << 16
"""Constants up to this many elements are transposed at once."""


@rule(*(op[name](op.Transpose(x), ...) for name in _UNARY))
def move_transposes_unary(match: Match) -> Value | None:
    transpose = _transpose(match.root.inputs[0])
    axes = None if transpose is None else permutation(transpose)
    if axes is None:
        return None
    inputs = [match[x], *match.root.inputs[1:]]
    made = match.build.node(match.root.op_type, inputs, match.root.attributes)
    return match.build.Transpose(made.output, perm=axes)


@rule(op[tuple(_BROADCASTING)](...), op.Concat(...))
def move_transposes(match: Match) -> Value | None:
    """Where all operands are transposed alike, or are constants, which are transposed back."""
    node = match.root
    transposes = [each for each in map(_transpose, node.inputs) if each is not None]
    if not transposes:
        return None
    axes = permutation(transposes[0])
    if axes is None or any(permutation(each) != axes for each in transposes[1:]):
        return None
    # The new Transpose must not be one more than before.
    if not any(_is_private(each, node) for each in transposes):
        return None
    operands = [_before(value, axes, match.build) for value in node.inputs]
    if any(operand is None for operand in operands):
        return None
    attributes = dict(node.attributes)
    if node.is_op("Concat"):
        attributes["axis"] = axes[attributes["axis"]]
    made = match.build.node(node.op_type, operands, attributes)
    return match.build.Transpose(made.output, perm=axes)


def _transpose(value: Value | None) -> Node | None:
    node = None if value is None else value.producer
    return node if node is not None and node.is_op("Transpose") else None


def _is_private(transpose: Node, reader: Node) -> bool:
    output = transpose.output
    return not output.is_graph_output and all(use.node is reader for use in output.uses)


def _before(value: Value | None, axes: list[int], build: Builder) -> Value | None:
    """What `value` is the transpose of."""
    if value is None:
        return None
    transpose = _transpose(value)
    if transpose is not None:
        return transpose.inputs[0]
    constant = constant_of(value)
    if constant is None or constant.size > _SMALL or len(constant.shape) > len(axes):
        return None
    if constant.size == 1:
        return value
    array = constant.numpy()
    array = array.reshape((1,) * (len(axes) - array.ndim) + array.shape)
    inverse = [axes.index(axis) for axis in range(len(axes))]
    return build.constant(np.ascontiguousarray(array.transpose(inverse)), value.name)
