# SPDX-License-Identifier: Apache-2.0
"""Rewrites that change results by more than rounding: they run only where a session asks for it."""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.pattern import attribute_of, constant_of, op, values
from bascule.optimizer.rewrite import Match, rule

x, scale, other_scale = values("x", "scale", "other_scale")


@rule(op.Gelu(x, approximate="none"))
def approximate_gelu(match: Match) -> Value:
    """Gelu by tanh instead of erf: up to 5e-4 away."""
    return match.build.Gelu(match[x], approximate="tanh", type=match.root.output.type)


_QUANTIZE = op.QuantizeLinear(x, scale, ...)


@rule(op.DequantizeLinear(_QUANTIZE, other_scale, ...))
def eliminate_quantize_dequantize(match: Match) -> Value | None:
    """Numbers that would only be rounded to the steps of a quantization, and cut to its range."""
    before, after = match.node(_QUANTIZE), match.root
    if match[x].dtype is not after.output.dtype:
        return None
    for name in ("axis", "block_size"):
        if attribute_of(before, name) != attribute_of(after, name):
            return None
    same = all(_same(before.input(index), after.input(index)) for index in (1, 2))
    return match[x] if same else None


def _same(a: Value | None, b: Value | None) -> bool:
    """Whether two scales or zero points are one, or equal constants."""
    if a is b:
        return True
    one, other = constant_of(a), constant_of(b)
    if one is None or other is None:
        return False
    return one.dtype is other.dtype and np.array_equal(one.numpy(), other.numpy())


APPROXIMATIONS = (approximate_gelu, eliminate_quantize_dequantize)
