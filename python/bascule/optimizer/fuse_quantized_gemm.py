# SPDX-License-Identifier: Apache-2.0
"""Compute Gemm of dequantized operands in integers.

Before:
    g (uint8[3,4] a, int8[2,4] b) => (uint8[3,2] y) <
        float as = {0.5}, uint8 az = {7}, float[2] bs = {0.5, 0.25}, float ys = {0.5},
        uint8 yz = {9}, int32[2] c = {10, -20}, float[2] cs = {0.25, 0.125}
    > {
        af = DequantizeLinear(a, as, az)
        bf = DequantizeLinear<axis = 0>(b, bs)
        cf = DequantizeLinear<axis = 0>(c, cs)
        g = Gemm<transB = 1>(af, bf, cf)
        y = QuantizeLinear(g, ys, yz)
    }
After:
    g (uint8[3,4] a, int8[2,4] b) => (uint8[3,2] y) <
        uint8 az = {7}, int32[2] c = {10, -20}, float[2] s = {0.5, 0.25}, float one = {1},
        uint8 yz = {9}
    > {
        bt = Transpose<perm = [1, 0]>(b)
        sums = MatMulInteger(a, bt, az)
        t = Add(sums, c)
        f = Cast<to = 1>(t)
        m = Mul(f, s)
        y = QuantizeLinear(m, one, yz)
    }
Before:
    g (int8[3,4] a, int8[4,2] b) => (float[3,2] y) <float as = {0.5}, float bs = {0.25}> {
        af = DequantizeLinear(a, as)
        bf = DequantizeLinear(b, bs)
        y = Gemm(af, bf)
    }
After:
    g (int8[3,4] a, int8[4,2] b) => (float[3,2] y) <float s = {0.125}, int8 az = {0}> {
        sums = MatMulInteger(a, b, az)
        f = Cast<to = 1>(sums)
        y = Mul(f, s)
    }
Rejects, "the bias is not of the scale of the sums":
    g (int8[3,4] a, int8[4,2] b, float[2] c) => (float[3,2] y) <
        float as = {0.5}, float bs = {0.25}
    > {
        af = DequantizeLinear(a, as)
        bf = DequantizeLinear(b, bs)
        y = Gemm(af, bf, c)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType
from bascule.optimizer.pattern import op, values
from bascule.optimizer.quantization import (
    Array,
    accumulated,
    dequantized,
    is_quantized,
    quantized,
)
from bascule.optimizer.rewrite import Builder, Match, Reject, rule

a, b, scale = values("a", "b", "scale")

_PRODUCT = op.Gemm(a, b, ..., alpha=1.0, beta=1.0)


@rule(op.QuantizeLinear(_PRODUCT, scale, ...))
def fuse_quantized_gemm(match: Match) -> Value | Reject | None:
    y, found = quantized(match.root), _sums(match.build, match.node(_PRODUCT))
    if not isinstance(found, tuple) or y is None or not y.of_tensor:
        return found if isinstance(found, Reject) else None
    scaled = _scaled(match.build, found[0], found[1] / y.scale)
    one = np.array(1, np.float32)
    return match.build.QuantizeLinear(scaled, one, y.zero, type=match.root.output.type)


@rule(_PRODUCT)
def fuse_integer_gemm(match: Match) -> Value | Reject | None:
    if is_quantized(match.root.output):
        return None  # the other rule's
    found = _sums(match.build, match.root)
    return _scaled(match.build, *found) if isinstance(found, tuple) else found


def _scaled(build: Builder, sums: Value, factor: Array) -> Value:
    return build.Mul(build.Cast(sums, to=int(DataType.FLOAT)), factor)


def _sums(build: Builder, node: Node) -> tuple[Value, Array] | Reject | None:
    """The products and the bias, in int32, and what they are multiples of."""
    left, right = dequantized(node.input(0)), dequantized(node.input(1))
    if left is None or right is None or not left.of_tensor:
        return None
    transposed = bool(node.attribute("transB", 0))
    if not right.along(-2 if transposed else -1):
        return Reject("B has no scale for each column", right.value)
    factor = left.scale * right.scale
    bias = node.input(2)
    addend = accumulated(bias, factor)
    if bias is not None and addend is None:
        return Reject("the bias is not of the scale of the sums", bias)
    first, second = left.value, right.value
    if node.attribute("transA", 0):
        first = build.Transpose(first, perm=[1, 0])
    if transposed:
        second = build.Transpose(second, perm=[1, 0])
    zeros = (left.zero, right.zero if right.zero.any() else None)
    type = TensorType(DataType.INT32, node.output.shape)
    sums = build.MatMulInteger(first, second, *zeros, type=type)
    if addend is not None:
        sums = build.Add(sums, addend.value, type=type)
    return sums, factor
