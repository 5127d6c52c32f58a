# SPDX-License-Identifier: Apache-2.0
"""Fuse Add between DequantizeLinear and QuantizeLinear into one sum of bytes.

Before:
    g (uint8[N,4] x, uint8[4] z) => (uint8[N,4] y) <
        float xs = {0.5}, uint8 xz = {7}, float zs = {0.25}, uint8 zz = {9}, float ys = {0.75},
        uint8 yz = {3}
    > {
        xf = DequantizeLinear(x, xs, xz)
        zf = DequantizeLinear(z, zs, zz)
        s = Add(xf, zf)
        y = QuantizeLinear(s, ys, yz)
    }
After:
    g (uint8[N,4] x, uint8[4] z) => (uint8[N,4] y) <
        float xs = {0.5}, uint8 xz = {7}, float zs = {0.25}, uint8 zz = {9}, float ys = {0.75},
        uint8 yz = {3}
    > { y = bascule.QLinearAdd(x, xs, xz, z, zs, zz, ys, yz) }
Rejects, "the types differ":
    g (uint8[N] x, int8[N] z) => (uint8[N] y) <float s = {0.5}, uint8 u = {7}, int8 i = {0}> {
        xf = DequantizeLinear(x, s, u)
        zf = DequantizeLinear(z, s, i)
        a = Add(xf, zf)
        y = QuantizeLinear(a, s, u)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.pattern import op, values
from bascule.optimizer.quantization import dequantized, is_quantized, quantized
from bascule.optimizer.rewrite import Match, Reject, rule

a, b, scale = values("a", "b", "scale")

_SUM = op.Add(a, b)


@rule(op.QuantizeLinear(_SUM, scale, ...))
def fuse_quantized_add(match: Match) -> Value | Reject | None:
    parts = [dequantized(match[a]), dequantized(match[b]), quantized(match.root)]
    if not is_quantized(match.node(_SUM).output):
        return None
    found = [each for each in parts if each is not None and each.of_tensor]
    if len(found) < len(parts):
        return None
    if len({each.dtype for each in found}) > 1:
        return Reject("the types differ", match.root.output)
    left, right, y = found
    return match.fused.QLinearAdd(
        *(left.value, left.scale, left.zero),
        *(right.value, right.scale, right.zero),
        *(y.scale, y.zero),
        type=match.root.output.type,
    )
