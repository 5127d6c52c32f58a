# SPDX-License-Identifier: Apache-2.0
"""Replace operations by cheaper ones with the same results, special values included.

Before:
    g (float[4] x) => (float[4] y) <float two = {2}, float half = {0.5}, float eight = {8}> {
        a = Pow(x, two)
        b = Pow(a, half)
        c = Div(b, eight)
        d = Neg(c)
        e = Neg(d)
        f = Relu(e)
        y = Relu(f)
    }
After:
    g (float[4] x) => (float[4] y) <float eighth = {0.125}> {
        a = Mul(x, x)
        b = Sqrt(a)
        c = Mul(b, eighth)
        y = Relu(c)
    }
Before:
    g (float[4] x, float[4] z) => (float[4] y, float[4] u, float[4] v, float[4] w)
    <float zero = {0}, float six = {6}, float minus = {-1}> {
        a = Neg(x)
        y = Add(a, z)
        b = Neg(z)
        u = Sub(x, b)
        c = Relu(x)
        v = Clip(c, zero, six)
        w = Pow(z, minus)
    }
After:
    g (float[4] x, float[4] z) => (float[4] y, float[4] u, float[4] v, float[4] w)
    <float zero = {0}, float six = {6}> {
        y = Sub(z, x)
        u = Add(x, z)
        v = Clip(x, zero, six)
        w = Reciprocal(z)
    }
Keeps:
    g (float[4] x) => (float[4] y) <float half = {0.5}, float three = {3}> {
        a = Pow(x, half)
        y = Div(a, three)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.pattern import constant_of, constants, op, shared, uniform_value, values
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.shapes import same_shape

x, z = values("x", "z")
c, low, high = constants("c", "low", "high")

_NOT_NEGATIVE = frozenset(["Abs", "Exp", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt"])
_DEPTH = 4


@rule(op.Pow(x, c))
def simplify_pow(match: Match) -> Value | None:
    base, exponent = match[x], constant_of(match[c])
    number = None if exponent is None else uniform_value(exponent)
    is_scalar = exponent is not None and exponent.size == 1
    if not (is_scalar and (base.rank or 0) >= len(match[c].shape or ())) and not same_shape(
        base, match.root.output
    ):
        return None
    if number == 2:
        return match.build.Mul(base, base)
    if number == 3:
        return match.build.Mul(match.build.Mul(base, base), base)
    if base.dtype is None or not base.dtype.is_float:
        return None
    if number == -1:
        return match.build.Reciprocal(base)
    if number == 0.5 and _is_not_negative(base, _DEPTH):
        return match.build.Sqrt(base)
    return None


def _is_not_negative(value: Value, depth: int) -> bool:
    """True when no element is below zero: there Pow and Sqrt differ at minus infinity."""
    constant, node = constant_of(value), value.producer
    if constant is not None:
        number = uniform_value(constant)
        return number is not None and bool(number >= 0)
    if node is None or node.domain or depth == 0:
        return False
    inputs = [each for each in node.inputs if each is not None]
    if node.op_type in _NOT_NEGATIVE or (node.op_type == "Mul" and inputs[0] is inputs[1]):
        return True
    if node.op_type in ("Add", "Div", "Max", "Mul"):
        return all(_is_not_negative(each, depth - 1) for each in inputs)
    return node.op_type in ("ReduceMean", "ReduceSum") and _is_not_negative(inputs[0], depth - 1)


@rule(op.Div(x, c))
def simplify_div(match: Match) -> Value | None:
    """Multiply by the reciprocal of a power of two, which is exact."""
    divisor = match.array(c)
    dtype = match[c].dtype
    if dtype is None or not dtype.is_float or not 0 < divisor.size <= 1 << 16:
        return None
    exact = divisor.astype(np.float64)
    if not np.isfinite(exact).all() or (np.abs(np.frexp(exact)[0]) != 0.5).any():
        return None
    # Of subnormal reciprocals a processor may make zeros.
    tiny = np.finfo(np.float32).tiny if dtype.bits >= 32 else 2.0**-14
    if (np.abs(1 / exact) < tiny).any() or (np.abs(1 / exact) > 1 / tiny).any():
        return None
    return match.build.Mul(match[x], (1 / exact).astype(divisor.dtype))


@rule(op.Mul(x, -1))
def simplify_mul(match: Match) -> Value | None:
    dtype = match[x].dtype
    if dtype is None or dtype.name.startswith("UINT"):
        return None
    return match.build.Neg(match[x])


@rule(op.Neg(op.Neg(x)), op.Not(op.Not(x)))
def eliminate_double_negation(match: Match) -> Value:
    return match[x]


_IDEMPOTENT = [
    (op[name](inner), inner)
    for name in ("Abs", "Ceil", "Floor", "Relu", "Round", "Sign")
    for inner in [shared(op[name](x))]
]


@rule(*(outer for outer, _ in _IDEMPOTENT))
def eliminate_repetition(match: Match) -> Value:
    inner = match.root.inputs[0]
    assert inner is not None
    return inner


@rule(op.Abs(op.Neg(x)))
def simplify_abs(match: Match) -> Value:
    return match.build.Abs(match[x])


@rule(op.Add(op.Neg(x), z))
def simplify_add(match: Match) -> Value:
    return match.build.Sub(match[z], match[x])


@rule(op.Sub(x, op.Neg(z)))
def simplify_sub(match: Match) -> Value:
    return match.build.Add(match[x], match[z])


@rule(op.Clip(op.Relu(x), low, ...))
def simplify_clip(match: Match) -> Value | None:
    """Clip from 0 up does what Relu did."""
    bounds = match.array(low)
    if bounds.size != 1 or not float(bounds.reshape(-1)[0]) >= 0:
        return None
    return match.build.Clip(match[x], *match.root.inputs[1:])
