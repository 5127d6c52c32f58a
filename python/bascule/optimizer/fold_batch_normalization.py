# SPDX-License-Identifier: Apache-2.0
"""Fold BatchNormalization into the weights of the convolution or matrix product before it.

Before:
    g (float[N,1,3,3] x) => (float[N,2,3,3] y)
    <float[2,1,1,1] w = {2, 3}, float[2] b = {1, 2}, float[2] scale = {4, 8},
     float[2] shift = {1, 2}, float[2] mean = {0, 1}, float[2] variance = {4, 16}> {
        t = Conv(x, w, b)
        y = BatchNormalization<epsilon = 0.0>(t, scale, shift, mean, variance)
    }
After:
    g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {4, 6}, float[2] b = {3, 4}> {
        y = Conv(x, w, b)
    }
Before:
    g (float[N,2] x) => (float[N,2] y)
    <float[2,2] w = {1, 2, 3, 4}, float[2] scale = {4, 8}, float[2] shift = {1, 2},
     float[2] mean = {0, 1}, float[2] variance = {4, 16}> {
        t = Gemm<transB = 1>(x, w)
        y = BatchNormalization<epsilon = 0.0>(t, scale, shift, mean, variance)
    }
After:
    g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {2, 4, 6, 8}, float[2] b = {1, 0}> {
        y = Gemm<transB = 1>(x, w, b)
    }
Rejects, "its parameters are not constant":
    g (float[N,1,3,3] x, float[2] mean) => (float[N,2,3,3] y)
    <float[2,1,1,1] w = {2, 3}, float[2] scale = {4, 8}, float[2] shift = {1, 2},
     float[2] variance = {4, 16}> {
        t = Conv(x, w)
        y = BatchNormalization<epsilon = 0.0>(t, scale, shift, mean, variance)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.affine import rebuild, scale_channels
from bascule.optimizer.pattern import attribute_of, constant_of, op, values
from bascule.optimizer.rewrite import Match, Reject, rule

(x,) = values("x")
_PRODUCT = op["Conv", "ConvTranspose", "Gemm", "MatMul"](x, ...)


@rule(op.BatchNormalization(_PRODUCT, ..., training_mode=0))
def fold_batch_normalization(match: Match) -> Value | Reject | None:
    node = match.root
    if any(not output.is_unused for output in node.outputs[1:]):
        return None
    parameters = [constant_of(value) for value in node.inputs[1:5]]
    if None in parameters:
        return Reject("its parameters are not constant", *filter(None, node.inputs[1:5]))
    scale, shift, mean, variance = (
        constant.numpy().astype(np.float64) for constant in parameters if constant is not None
    )
    with np.errstate(all="ignore"):  # what is not finite is refused below
        factor = scale / np.sqrt(variance + attribute_of(node, "epsilon"))
    scaled = scale_channels(match.node(_PRODUCT), factor, shift - mean * factor)
    if isinstance(scaled, Reject):
        return scaled
    return rebuild(match, match.node(_PRODUCT), scaled)
