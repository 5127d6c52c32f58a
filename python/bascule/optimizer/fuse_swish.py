# SPDX-License-Identifier: Apache-2.0
"""Fuse ``x * Sigmoid(alpha * x)`` into Swish (SiLU when alpha is 1, "quick GELU" at 1.702).

Before:
    g (float[2,3] x) => (float[2,3] y) { s = Sigmoid(x) y = Mul(x, s) }
After:
    g (float[2,3] x) => (float[2,3] y) { y = Swish<alpha = 1.0>(x) }
Rejects:
    g (float[2,3] x, float[2,3] z) => (float[2,3] y) { s = Sigmoid(z) y = Mul(x, s) }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.attribute_precision import fits_attribute
from bascule.optimizer.pattern import constant_of, constants, op, uniform_value, values
from bascule.optimizer.rewrite import Match, rule

(x,) = values("x")
(alpha,) = constants("alpha")


@rule(op.Mul(x, op.Sigmoid(x)))
def fuse_swish(match: Match) -> Value:
    return match.build.Swish(match[x], alpha=1.0)


@rule(op.Mul(x, op.Sigmoid(op.Mul(x, alpha))))
def fuse_swish_alpha(match: Match) -> Value | None:
    constant = constant_of(match[alpha])
    if constant is None or constant.size != 1 or match[alpha].rank != 0:
        return None
    number = float(uniform_value(constant))
    if not fits_attribute(number, match[x].dtype):
        return None
    return match.build.Swish(match[x], alpha=number)
