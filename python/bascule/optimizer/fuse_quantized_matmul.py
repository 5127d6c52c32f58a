# SPDX-License-Identifier: Apache-2.0
"""Compute MatMul of dequantized operands in integers.

Before:
    g (uint8[2,3,4] a, int8[4,2] b) => (uint8[2,3,2] y) <
        float as = {0.5}, uint8 az = {7}, float[2] bs = {0.5, 0.25},
        float ys = {0.75}, uint8 yz = {9}
    > {
        af = DequantizeLinear(a, as, az)
        bf = DequantizeLinear<axis = 1>(b, bs)
        c = MatMul(af, bf)
        y = QuantizeLinear(c, ys, yz)
    }
After:
    g (uint8[2,3,4] a, int8[4,2] b) => (uint8[2,3,2] y) <
        float as = {0.5}, uint8 az = {7}, float[2] bs = {0.5, 0.25}, int8[2] bz = {0, 0},
        float ys = {0.75}, uint8 yz = {9}
    > { y = QLinearMatMul(a, as, az, b, bs, bz, ys, yz) }
Before:
    g (uint8[3,4] a, int8[4,2] b) => (float[3,2] y) <
        float as = {0.5}, uint8 az = {7}, float[2] bs = {0.5, 0.25}, int8[2] bz = {1, -2}
    > {
        af = DequantizeLinear(a, as, az)
        bf = DequantizeLinear<axis = 1>(b, bs, bz)
        y = MatMul(af, bf)
    }
After:
    g (uint8[3,4] a, int8[4,2] b) => (float[3,2] y) <
        uint8 az = {7}, int8[2] bz = {1, -2}, float[2] s = {0.25, 0.125}
    > {
        sums = MatMulInteger(a, b, az, bz)
        f = Cast<to = 1>(sums)
        y = Mul(f, s)
    }
Rejects, "B has no scale for each column":
    g (uint8[3,2] a, int8[2,2] b) => (float[3,2] y) <
        float as = {0.5}, uint8 az = {7}, float[2] bs = {0.5, 0.25}
    > {
        af = DequantizeLinear(a, as, az)
        bf = DequantizeLinear<axis = 0>(b, bs)
        y = MatMul(af, bf)
    }
"""

from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType
from bascule.optimizer.pattern import op, values
from bascule.optimizer.quantization import Quantization, dequantized, is_quantized, quantized
from bascule.optimizer.rewrite import Match, Reject, rule

a, b, scale = values("a", "b", "scale")

_PRODUCT = op.MatMul(a, b)


@rule(op.QuantizeLinear(_PRODUCT, scale, ...))
def fuse_quantized_matmul(match: Match) -> Value | Reject | None:
    operands, y = _operands(match), quantized(match.root)
    if not isinstance(operands, tuple) or y is None or not y.of_tensor:
        return operands if isinstance(operands, Reject) else None
    inputs = [part for each in operands for part in (each.value, each.scale, each.zero)]
    return match.build.QLinearMatMul(*inputs, y.scale, y.zero, type=match.root.output.type)


@rule(_PRODUCT)
def fuse_integer_matmul(match: Match) -> Value | Reject | None:
    operands, y = _operands(match), match.root.output
    if is_quantized(y):
        return None  # the other rule's
    if not isinstance(operands, tuple):
        return operands
    left, right = operands
    zeros = (left.zero, right.zero if right.zero.any() else None)
    build = match.build
    sums = build.MatMulInteger(
        left.value, right.value, *zeros, type=TensorType(DataType.INT32, y.shape)
    )
    return build.Mul(build.Cast(sums, to=int(DataType.FLOAT)), left.scale * right.scale)


def _operands(match: Match) -> tuple[Quantization, Quantization] | Reject | None:
    left, right = dequantized(match[a]), dequantized(match[b])
    if left is None or right is None or not left.of_tensor:
        return None
    if left.value.rank in (None, 1) or right.value.rank in (None, 1):
        return None
    if not right.of_tensor and not (right.value.rank == 2 and right.along(-1)):
        return Reject("B has no scale for each column", match[b])
    return left, right
