# SPDX-License-Identifier: Apache-2.0
"""Fold a constant factor or summand per channel into the convolution before it.

Before:
    g (float[N,1,3,3] x) => (float[N,2,3,3] y)
    <float[2,1,1,1] w = {2, 3}, float[2,1,1] scale = {4, 8}, float[1,2,1,1] shift = {1, 2}> {
        t = Conv(x, w)
        u = Mul(t, scale)
        y = Add(shift, u)
    }
After:
    g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {8, 24}, float[2] b = {1, 2}> {
        y = Conv(x, w, b)
    }
Before:
    g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2, 3}, float shift = {4}> {
        t = Conv(x, w)
        y = Sub(t, shift)
    }
After:
    g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2, 3}, float[2] b = {-4, -4}> {
        y = Conv(x, w, b)
    }
Rejects, "the operand is not one number per channel":
    g (float[N,1,3,2] x) => (float[N,2,3,2] y)
    <float[2,1,1,1] w = {2, 3}, float[2] scale = {4, 8}> {
        t = Conv(x, w)
        y = Mul(t, scale)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.affine import Array, channels_of, rebuild, scale_channels
from bascule.optimizer.pattern import constants, op, values
from bascule.optimizer.rewrite import Match, Reject, rule

(x,) = values("x")
(operand,) = constants("operand")
_CONVOLUTION = op["Conv", "ConvTranspose"](x, ...)


@rule(op["Add", "Sub", "Mul", "Div"](_CONVOLUTION, operand))
def fold_scale_bias(match: Match) -> Value | Reject:
    convolution, rank = match.node(_CONVOLUTION), match[_CONVOLUTION].rank
    channels = channels_of(convolution)
    if rank is None or channels is None:
        return Reject("the weights are not constant", *filter(None, convolution.inputs[1:2]))
    numbers = _per_channel(match.array(operand), rank, channels)
    if numbers is None:
        return Reject("the operand is not one number per channel", match[operand])
    if match.root.is_op("Mul", "Div"):
        with np.errstate(divide="ignore"):
            factor = numbers if match.root.is_op("Mul") else 1 / numbers
        scaled = scale_channels(convolution, factor, np.zeros(1))
    else:
        sign = 1 if match.root.is_op("Add") else -1
        scaled = scale_channels(convolution, None, sign * numbers)
    if isinstance(scaled, Reject):
        return scaled
    return rebuild(match, convolution, scaled)


def _per_channel(array: Array, rank: int, channels: int) -> Array | None:
    """The operand as one number, or one for each channel, in float64; None if it is not that."""
    if array.ndim > rank or array.size not in (1, channels):
        return None
    if array.size != 1 and (array.ndim < rank - 1 or array.shape[-(rank - 1)] != channels):
        return None
    return array.astype(np.float64).reshape(-1)
