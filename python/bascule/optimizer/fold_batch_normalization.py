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
Before:
    g (float[1,N,2] x) => (float[N,2] y)
    <float[2,2] w = {1, 2, 3, 4}, float[2] scale = {4, 8}, float[2] shift = {1, 2},
     float[2] mean = {0, 1}, float[2] variance = {4, 16}, int64[2] shape = {-1, 2}> {
        t = MatMul(x, w)
        u = Reshape(t, shape)
        y = BatchNormalization<epsilon = 0.0>(u, scale, shift, mean, variance)
    }
After:
    g (float[1,N,2] x) => (float[N,2] y)
    <float[2,2] w = {2, 4, 6, 8}, float[2] b = {1, 0}, int64[2] shape = {-1, 2}> {
        t = MatMul(x, w)
        u = Add(t, b)
        y = Reshape(u, shape)
    }
Rejects, "the channels are not the last axis of the product":
    g (float[2,N,2] x) => (float[N,2,2] y)
    <float[2,2] w = {1, 2, 3, 4}, float[2] scale = {4, 8}, float[2] shift = {1, 2},
     float[2] mean = {0, 1}, float[2] variance = {4, 16}, int64[3] shape = {-1, 2, 2}> {
        t = MatMul(x, w)
        u = Reshape(t, shape)
        y = BatchNormalization<epsilon = 0.0>(u, scale, shift, mean, variance)
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
from bascule.optimizer.affine import channels_of, rebuild, scale_channels
from bascule.optimizer.pattern import any_of, attribute_of, constant_of, op, values
from bascule.optimizer.rewrite import Match, Reject, rule

x, shape = values("x", "shape")
_CONVOLUTION = op["Conv", "ConvTranspose"](x, ...)
_PRODUCT = op["Gemm", "MatMul"](x, ...)
_RESHAPED = op.Reshape(_PRODUCT, shape)
_NORMALIZED = any_of(_CONVOLUTION, _PRODUCT, _RESHAPED)


@rule(op.BatchNormalization(_NORMALIZED, ..., training_mode=0))
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
    source = match.node(_CONVOLUTION if _CONVOLUTION in match else _PRODUCT)
    if _PRODUCT in match and (channels := channels_of(source)) is not None:
        # A Reshape that keeps the last axis keeps what is in a column of the product.
        columns = (match[_NORMALIZED].shape or ())[1:]
        if len(columns) != 1 or columns[0] != channels:
            return Reject("the channels are not the last axis of the product", source.output)
    scaled = scale_channels(source, factor, shift - mean * factor)
    if isinstance(scaled, Reject):
        return scaled
    rebuilt = rebuild(match, source, scaled)
    if _RESHAPED not in match:
        return rebuilt
    attributes = match.node(_RESHAPED).attributes
    return match.build.Reshape(rebuilt, match[shape], type=node.output.type, **attributes)
