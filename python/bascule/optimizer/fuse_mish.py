# SPDX-License-Identifier: Apache-2.0
"""Fuse ``x * Tanh(Softplus(x))`` into Mish.

Before:
    g (float[2,3] x) => (float[2,3] y) { p = Softplus(x) t = Tanh(p) y = Mul(x, t) }
After:
    g (float[2,3] x) => (float[2,3] y) { y = Mish(x) }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.pattern import any_of, op, values
from bascule.optimizer.rewrite import Match, rule

(x,) = values("x")


@rule(op.Mul(x, op.Tanh(any_of(op.Softplus(x), op.Log(op.Add(op.Exp(x), 1.0))))))
def fuse_mish(match: Match) -> Value:
    return match.build.Mish(match[x])
