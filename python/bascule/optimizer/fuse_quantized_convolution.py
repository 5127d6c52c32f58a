# SPDX-License-Identifier: Apache-2.0
"""Fuse Conv between DequantizeLinear and QuantizeLinear into QLinearConv.

Before:
    g (uint8[1,2,4,4] x) => (int8[1,3,2,2] y) <
        float xs = {0.5}, uint8 xz = {7}, float ys = {0.75}, int8 yz = {-3},
        int8[3,2,1,1] w = {1, -2, 3, -4, 5, -6}, float[3] ws = {0.5, 0.25, 1},
        int32[3] b = {10, -20, 30}, float[3] bs = {0.25, 0.125, 0.5}
    > {
        xf = DequantizeLinear(x, xs, xz)
        wf = DequantizeLinear<axis = 0>(w, ws)
        bf = DequantizeLinear<axis = 0>(b, bs)
        c = Conv<strides = [2, 2]>(xf, wf, bf)
        y = QuantizeLinear(c, ys, yz)
    }
After:
    g (uint8[1,2,4,4] x) => (int8[1,3,2,2] y) <
        float xs = {0.5}, uint8 xz = {7}, float ys = {0.75}, int8 yz = {-3},
        int8[3,2,1,1] w = {1, -2, 3, -4, 5, -6}, float[3] ws = {0.5, 0.25, 1},
        int8[3] wz = {0, 0, 0}, int32[3] b = {10, -20, 30}
    > { y = QLinearConv<strides = [2, 2]>(x, xs, xz, w, ws, wz, ys, yz, b) }
Rejects, "the bias is not of the scale of the sums":
    g (uint8[1,2,4,4] x) => (uint8[1,1,4,4] y) <
        float s = {0.5}, uint8 z = {7}, int8[1,2,1,1] w = {1, -2}, int32[1] b = {10}
    > {
        xf = DequantizeLinear(x, s, z)
        wf = DequantizeLinear(w, s)
        bf = DequantizeLinear(b, s)
        c = Conv(xf, wf, bf)
        y = QuantizeLinear(c, s, z)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.pattern import op, values
from bascule.optimizer.quantization import accumulated, dequantized, quantized
from bascule.optimizer.rewrite import Match, Reject, rule

x, w, scale = values("x", "w", "scale")

_CONVOLUTION = op.Conv(x, w, ...)


@rule(op.QuantizeLinear(_CONVOLUTION, scale, ...))
def fuse_quantized_convolution(match: Match) -> Value | Reject | None:
    node = match.node(_CONVOLUTION)
    pixels, weights, y = dequantized(match[x]), dequantized(match[w]), quantized(match.root)
    if pixels is None or weights is None or y is None or not pixels.of_tensor or not y.of_tensor:
        return None
    if not weights.of_tensor and weights.axis != 0:
        return Reject("the weights have no scale for each output channel", match[w])
    bias = node.input(2)
    sums = accumulated(bias, pixels.scale * weights.scale)
    if bias is not None and sums is None:
        return Reject("the bias is not of the scale of the sums", bias)
    return match.build.QLinearConv(
        *(pixels.value, pixels.scale, pixels.zero),
        *(weights.value, weights.scale, weights.zero),
        *(y.scale, y.zero),
        None if sums is None else sums.value,
        type=match.root.output.type,
        **node.attributes,
    )
