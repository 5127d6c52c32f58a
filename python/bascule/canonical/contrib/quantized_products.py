# SPDX-License-Identifier: Apache-2.0
"""Products and sums of integers, which other operators scale to floats or to fewer bits."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.arguments import (
    CONTRIB_DOMAIN,
    check,
    integer,
    integers,
    number,
    required,
    scalar,
)
from bascule.canonical.registry import rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value


@rewrite("MatMulIntegerToFloat", until=0, domain=CONTRIB_DOMAIN, types=True)
def matmul_integer_to_float(node: Node, build: Builder) -> None:
    check(node, build, 0, 1, 2, 3, most=7)
    a, b, a_scale, b_scale = (required(node, build, index) for index in range(4))
    sums = build.op("MatMulInteger", a, b, *_zeros(build, node.input(4), node.input(5)))
    bias = node.input(6)
    if a_scale.dtype is not DataType.FLOAT16:
        _become_scaled(build, sums, build.op("Mul", a_scale, b_scale), bias)
        return
    # The sums are beyond the range of float16 more often than not.
    wide = build.op("Mul", *(build.cast(each, DataType.FLOAT) for each in (a_scale, b_scale)))
    scaled = _scaled(build, sums, wide)
    if bias is not None:
        scaled = build.op("Add", scaled, build.cast(bias, DataType.FLOAT))
    build.become("Cast", scaled, to=int(DataType.FLOAT16))


@rewrite("DynamicQuantizeMatMul", until=0, domain=CONTRIB_DOMAIN)
def dynamic_quantize_matmul(node: Node, build: Builder) -> None:
    check(node, build, 0, 1, 2, most=5)
    a, b, b_scale = (required(node, build, index) for index in range(3))
    quantized, a_scale, a_zero = dynamically_quantized(build, a)
    sums = build.op("MatMulInteger", quantized, b, *_zeros(build, a_zero, node.input(3)))
    _become_scaled(build, sums, build.op("Mul", a_scale, b_scale), node.input(4))


def dynamically_quantized(build: Builder, x: Value) -> tuple[Value, Value, Value]:
    """`x` as uint8, its scale and its zero point."""
    y = build.op("DynamicQuantizeLinear", x, outputs=3)
    assert y.producer is not None
    _, scale, zero = y.producer.outputs
    return y, scale, zero


def _zeros(build: Builder, *zeros: Value | None) -> list[Value | None]:
    """Zero points as MatMulInteger wants them: a vector of one element would be one row's."""
    return [
        scalar(zero, build) if zero is not None and zero.static_shape == (1,) else zero
        for zero in zeros
    ]


def _become_scaled(build: Builder, sums: Value, scale: Value, bias: Value | None) -> None:
    scaled = _scaled(build, sums, scale)
    if bias is None:
        build.become("Identity", scaled)
    else:
        build.become("Add", scaled, bias)


def _scaled(build: Builder, sums: Value, scale: Value) -> Value:
    """int32 sums as floats of the type of `scale`, times it."""
    return build.op("Mul", build.op("CastLike", sums, scale), scale)


@rewrite("QGemm", until=0, domain=CONTRIB_DOMAIN, types=True)
def gemm(node: Node, build: Builder) -> None:
    """``alpha * A' B' + C``, where C has the scale of the product.

    The result is quantized if there is a zero point for it.
    """
    check(node, build, *range(6), most=9)
    a, a_scale, a_zero, b, b_scale, b_zero = (required(node, build, i) for i in range(6))
    c, y_scale, y_zero = node.input(6), node.input(7), node.input(8)
    if integer(node, build, "transA", 0):
        a = build.op("Transpose", a, perm=[1, 0])
    if integer(node, build, "transB", 0):
        b = build.op("Transpose", b, perm=[1, 0])
    sums = build.op("MatMulInteger", a, b, *_zeros(build, a_zero, b_zero))
    if c is not None:
        sums = build.op("Add", sums, c)
    scale = build.op("Mul", a_scale, b_scale)
    alpha = number(node, build, "alpha", 1.0)
    if alpha != 1.0:
        scale = build.op("Mul", scale, build.like(alpha, scale))
    if y_scale is not None:
        scale = build.op("Div", scale, y_scale)
    scaled = _scaled(build, sums, scale)
    if y_zero is None:
        build.become("Identity", scaled)
        return
    one = build.like(1, scale)
    build.become("QuantizeLinear", scaled, one, scalar(y_zero, build))


@rewrite("MatMulInteger16", until=0, domain=CONTRIB_DOMAIN)
def matmul_integer_16(node: Node, build: Builder) -> None:
    check(node, build, 0, 1, most=2)
    a, b = (_wide(build, required(node, build, index)) for index in range(2))
    build.become("MatMul", a, b)


@rewrite("MulInteger", until=0, domain=CONTRIB_DOMAIN)
def multiply_integers(node: Node, build: Builder) -> None:
    check(node, build, 0, 2, most=4)
    a, b = (_moved(build, required(node, build, i), node.input(i + 1)) for i in (0, 2))
    build.become("Mul", a, b)


def _moved(build: Builder, x: Value, zero: Value | None) -> Value:
    """``x - zero`` in int32."""
    if zero is None:
        return _wide(build, x)
    return build.op("Sub", _wide(build, x), _wide(build, scalar(zero, build)))


@rewrite("ReduceSumInteger", until=0, domain=CONTRIB_DOMAIN, types=True)
def reduce_sum_integer(node: Node, build: Builder) -> None:
    check(node, build, 0, most=1)
    axes, keep = integers(node, build, "axes"), integer(node, build, "keepdims")
    x = required(node, build, 0)
    wide = DataType.UINT32 if x.dtype is DataType.UINT8 else DataType.INT32
    sums = build.op("Cast", x, to=int(wide))
    build.become("ReduceSum", sums, build.ints(*axes), keepdims=keep)


def _wide(build: Builder, x: Value) -> Value:
    return build.op("Cast", x, to=int(DataType.INT32))
