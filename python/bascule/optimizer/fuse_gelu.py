# SPDX-License-Identifier: Apache-2.0
"""Fuse the formulas of GELU, exact (erf) and approximate (tanh), into Gelu.

Before:
    g (float[2,3] x) => (float[2,3] y) {
        root = Constant<value_float = 1.4142135623730951>()
        one = Constant<value_float = 1.0>()
        half = Constant<value_float = 0.5>()
        scaled = Div(x, root)
        e = Erf(scaled)
        sum = Add(e, one)
        product = Mul(x, sum)
        y = Mul(product, half)
    }
After:
    g (float[2,3] x) => (float[2,3] y) { y = Gelu(x) }
"""

from __future__ import annotations

import math

from bascule.ir.graph import Value
from bascule.optimizer.pattern import Pattern, any_of, op, values
from bascule.optimizer.rewrite import Match, rule

(x,) = values("x")


def _half_of_product(cdf: Pattern) -> tuple[Pattern, ...]:
    """``0.5 * x * cdf`` in each association."""
    return (
        op.Mul(op.Mul(x, cdf), 0.5),
        op.Mul(op.Mul(x, 0.5), cdf),
        op.Mul(x, op.Mul(cdf, 0.5)),
        op.Div(op.Mul(x, cdf), 2.0),
        op.Mul(op.Div(x, 2.0), cdf),
    )


_ERF = op.Add(op.Erf(any_of(op.Div(x, math.sqrt(2)), op.Mul(x, math.sqrt(0.5)))), 1.0)

_KAPPA = 0.044715
_SQUARE = any_of(op.Mul(x, x), op.Pow(x, 2.0))
_CUBE = any_of(op.Pow(x, 3.0), op.Mul(x, _SQUARE))
_INNER = any_of(
    op.Add(x, op.Mul(_CUBE, _KAPPA)),
    op.Add(x, op.Mul(x, op.Mul(_SQUARE, _KAPPA))),
    op.Add(x, op.Mul(_SQUARE, op.Mul(x, _KAPPA))),
    op.Mul(x, op.Add(op.Mul(_SQUARE, _KAPPA), 1.0)),
    op.Mul(x, op.Add(op.Mul(x, op.Mul(x, _KAPPA)), 1.0)),
)
_BETA = math.sqrt(2 / math.pi)
_TANH = op.Add(
    op.Tanh(
        any_of(
            op.Mul(_INNER, _BETA),
            op.Mul(op.Mul(x, _BETA), op.Add(op.Mul(_SQUARE, _KAPPA), 1.0)),
            op.Mul(op.Mul(x, _BETA), op.Add(op.Mul(x, op.Mul(x, _KAPPA)), 1.0)),
            op.Mul(x, op.Add(op.Mul(_SQUARE, _KAPPA * _BETA), _BETA)),
        )
    ),
    1.0,
)


@rule(*_half_of_product(_ERF))
def fuse_gelu(match: Match) -> Value:
    return match.build.Gelu(match[x], approximate="none")


@rule(*_half_of_product(_TANH))
def fuse_gelu_tanh(match: Match) -> Value:
    return match.build.Gelu(match[x], approximate="tanh")
