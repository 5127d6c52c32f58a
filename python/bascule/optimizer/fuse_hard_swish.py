# SPDX-License-Identifier: Apache-2.0
"""Fuse the formulas of hard sigmoid and hard swish into HardSigmoid and HardSwish.

Before:
    g (float[2,3] x) => (float[2,3] y) {
        three = Constant<value_float = 3.0>()
        zero = Constant<value_float = 0.0>()
        six = Constant<value_float = 6.0>()
        shifted = Add(x, three)
        clipped = Clip(shifted, zero, six)
        product = Mul(x, clipped)
        y = Div(product, six)
    }
After:
    g (float[2,3] x) => (float[2,3] y) { y = HardSwish(x) }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.attribute_precision import fits_attribute
from bascule.optimizer.pattern import any_of, op, values
from bascule.optimizer.rewrite import Match, rule

(x,) = values("x")

_RAMP = any_of(
    op.Clip(op.Add(x, 3.0), 0.0, 6.0),
    op.Min(op.Relu(op.Add(x, 3.0)), 6.0),
    op.Min(op.Max(op.Add(x, 3.0), 0.0), 6.0),
)


@rule(
    op.Mul(x, op.HardSigmoid(x, alpha=1 / 6, beta=0.5)),
    op.Div(op.Mul(x, _RAMP), 6.0),
    op.Mul(op.Mul(x, _RAMP), 1 / 6),
    op.Mul(x, op.Div(_RAMP, 6.0)),
    op.Mul(x, op.Mul(_RAMP, 1 / 6)),
    op.Mul(op.Div(x, 6.0), _RAMP),
    op.Mul(op.Mul(x, 1 / 6), _RAMP),
)
def fuse_hard_swish(match: Match) -> Value:
    return match.build.HardSwish(match[x])


@rule(op.Div(_RAMP, 6.0), op.Mul(_RAMP, 1 / 6))
def fuse_hard_sigmoid(match: Match) -> Value | None:
    if not fits_attribute(1 / 6, match[x].dtype):
        return None
    return match.build.HardSigmoid(match[x], alpha=1 / 6, beta=0.5)
