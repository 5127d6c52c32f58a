# SPDX-License-Identifier: Apache-2.0
"""The QLinear operators: an operator of the standard on quantized tensors.

Its inputs are dequantized and its result is quantized, which is how they are defined; only the
products keep their sums in integers.
"""

from __future__ import annotations

import numpy as np
import onnx

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
from bascule.canonical.contrib.linear_quantization import become_quantized, dequantize
from bascule.canonical.registry import rewrite
from bascule.canonical.softmax import coerced_to_matrix
from bascule.ir.graph import FUSED_DOMAIN, Node, Value


@rewrite("QLinearAdd", until=0, domain=CONTRIB_DOMAIN)
def add(node: Node, build: Builder) -> None:
    """Ours is the same, but that it is defined."""
    check(node, build, 0, 1, 3, 4, 6, most=8)
    node.domain = FUSED_DOMAIN


@rewrite("QLinearMul", until=0, domain=CONTRIB_DOMAIN, types=True)
def multiply(node: Node, build: Builder) -> None:
    """In steps of the result, with scales multiplied beforehand: ties fall as in onnxruntime."""
    check(node, build, 0, 1, 3, 4, 6, most=8)
    inputs = [required(node, build, 0), required(node, build, 3)]
    scales = [scalar(required(node, build, index), build) for index in (1, 4, 6)]
    zeros = [_number(build, node.input(index)) for index in (2, 5, 7)]
    a, b = (build.op("Cast", x, to=onnx.TensorProto.FLOAT) for x in inputs)
    factor = build.op("Div", build.op("Mul", *scales[:2]), scales[2])
    product = build.op("Mul", build.op("Sub", a, zeros[0]), build.op("Sub", b, zeros[1]))
    y = build.op("Add", build.op("Mul", product, factor), zeros[2])
    become_quantized(build, y, build.floats(1), None, inputs[0])


@rewrite("QLinearSigmoid", "QLinearLeakyRelu", until=0, domain=CONTRIB_DOMAIN)
def activation(node: Node, build: Builder) -> None:
    check(node, build, 0, 1, 3, most=5)
    x = _dequantized(node, build, 0)
    if node.op_type == "QLinearSigmoid":
        y = build.op("Sigmoid", x)
    else:
        y = build.op("LeakyRelu", x, alpha=number(node, build, "alpha", 0.01))
    _quantize(node, build, y)


@rewrite("QLinearSoftmax", until=0, domain=CONTRIB_DOMAIN, types=True)
def softmax(node: Node, build: Builder) -> None:
    """`opset` tells whether it works along one axis, or on all axes from `axis` on together."""
    check(node, build, 0, 1, 3, most=5)
    opset, axis = integer(node, build, "opset"), integer(node, build, "axis", -1)
    y = build.op("Softmax", _dequantized(node, build, 0), axis=axis)
    if opset < 13 and y.producer is not None:
        coerced_to_matrix(y.producer, Builder(y.producer, opset))
    _quantize(node, build, y)


@rewrite("QLinearReduceMean", until=0, domain=CONTRIB_DOMAIN)
def reduce_mean(node: Node, build: Builder) -> None:
    check(node, build, 0, 1, 3, most=5)
    axes, keep = integers(node, build, "axes"), integer(node, build, "keepdims")
    x = _dequantized(node, build, 0)
    _quantize(node, build, build.op("ReduceMean", x, build.ints(*axes), keepdims=keep))


@rewrite("QLinearGlobalAveragePool", until=0, domain=CONTRIB_DOMAIN, types=True)
def global_average_pool(node: Node, build: Builder) -> None:
    check(node, build, 0, 1, 2, 3, 4, most=5)
    x = _dequantized(node, build, 0)
    if integer(node, build, "channels_last", 0):
        last = build.op("Sub", build.rank(required(node, build, 0)), build.int_scalar(1))
        axes = build.op("Range", build.int_scalar(1), last, build.int_scalar(1))
        y = build.op("ReduceMean", x, axes)
    else:
        y = build.op("GlobalAveragePool", x)
    _quantize(node, build, y)


@rewrite("QLinearAveragePool", until=0, domain=CONTRIB_DOMAIN)
def average_pool(node: Node, build: Builder) -> None:
    check(node, build, 0, 1, 3, most=5)
    rank = len(integers(node, build, "kernel_shape")) + 2
    last = integer(node, build, "channels_last", 0)
    attributes = {k: v for k, v in node.attributes.items() if k != "channels_last"}
    x = required(node, build, 0)
    if last:
        x = _to_channels_first(build, x, rank)
    x = dequantize(build, x, required(node, build, 1), node.input(2))
    _quantize(node, build, build.op("AveragePool", x, **attributes))
    if last:
        _result_to_channels_last(build, rank)


@rewrite("QLinearConcat", until=0, domain=CONTRIB_DOMAIN)
def concat(node: Node, build: Builder) -> None:
    axis, count = integer(node, build, "axis"), len(node.inputs)
    if count < 5 or (count - 2) % 3:
        raise build.invalid(
            f"{count} inputs are not a scale, a zero point and three for each tensor"
        )
    scale, zero = required(node, build, 0), required(node, build, 1)
    x = [_dequantized(node, build, index) for index in range(2, count, 3)]
    become_quantized(build, build.op("Concat", *x, axis=axis), scale, zero, zero)


@rewrite("QLinearWhere", until=0, domain=CONTRIB_DOMAIN)
def where(node: Node, build: Builder) -> None:
    check(node, build, *range(9), most=9)
    x, y = _dequantized(node, build, 1), _dequantized(node, build, 4)
    zero = required(node, build, 8)
    z = build.op("Where", required(node, build, 0), x, y)
    become_quantized(build, z, required(node, build, 7), zero, zero)


@rewrite("QLinearConv", until=0, domain=CONTRIB_DOMAIN, types=True)
def convolution(node: Node, build: Builder) -> None:
    """The standard's, whose channels may also be last."""
    check(node, build, *range(8), most=9)
    attributes = {k: v for k, v in node.attributes.items() if k != "channels_last"}
    x, *others = node.inputs
    last = integer(node, build, "channels_last", 0)
    w = required(node, build, 3)
    rank = w.rank
    if last and rank is None:
        raise build.invalid("the rank of the weights is not known")
    if last and rank is not None and x is not None:
        x = _to_channels_first(build, x, rank)
    build.become("QLinearConv", x, *others, **attributes)
    if last and rank is not None:
        _result_to_channels_last(build, rank)


def _number(build: Builder, zero: Value | None) -> Value:
    """A zero point as float32."""
    if zero is None:
        return build.constant(np.float32(0))
    return build.op("Cast", scalar(zero, build), to=onnx.TensorProto.FLOAT)


def _dequantized(node: Node, build: Builder, index: int) -> Value:
    """Input `index`, which its scale and its zero point, if any, follow."""
    x, scale = required(node, build, index), required(node, build, index + 1)
    return dequantize(build, x, scale, node.input(index + 2))


def _quantize(node: Node, build: Builder, y: Value) -> None:
    """The end of an operator ``(X, x_scale, x_zero_point, y_scale, y_zero_point)``."""
    become_quantized(build, y, required(node, build, 3), node.input(4), required(node, build, 0))


def _to_channels_first(build: Builder, x: Value, rank: int) -> Value:
    return build.op("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])


def _result_to_channels_last(build: Builder, rank: int) -> None:
    build.convert_output(0, "Transpose", perm=[0, *range(2, rank), 1])
