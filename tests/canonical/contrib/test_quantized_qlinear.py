# SPDX-License-Identifier: Apache-2.0
"""The QLinear operators against their definition in float64, and against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from bascule.errors import InvalidGraph

from .quantized import Array, assert_close_steps, run_bascule, run_onnxruntime

BYTES = [np.uint8, np.int8]
KINDS = {np.uint8: onnx.TensorProto.UINT8, np.int8: onnx.TensorProto.INT8}


def random_bytes(dtype: type, *shape: int, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    generator = np.random.default_rng([seed, *shape])
    return generator.integers(info.min, info.max + 1, shape).astype(dtype)


def random_weights(dtype: type, *shape: int, seed: int = 0) -> Array:
    """Of 7 bits where signed: onnxruntime's sums of more overflow on processors without VNNI."""
    weights = random_bytes(dtype, *shape, seed=seed)
    return weights // 2 if dtype is np.int8 else weights


def scale(value: float) -> Array:
    return np.array(value, np.float32)


def dequantized(x: Array, x_scale: Array, zero: Array) -> Array:
    return (x.astype(np.float64) - zero.astype(np.float64)) * x_scale.astype(np.float64)


def quantized(y: Array, y_scale: Array, zero: Array) -> Array:
    info = np.iinfo(zero.dtype)
    steps = np.rint(y / y_scale.astype(np.float64)) + zero.astype(np.float64)
    return np.clip(steps, info.min, info.max).astype(zero.dtype)


def softmax(x: Array, axis: int | tuple[int, ...]) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


UNARY: list[tuple[str, dict[str, Any], float, Callable[[Array], Array], bool]] = [
    ("QLinearSigmoid", {}, 1 / 256, lambda x: 1 / (1 + np.exp(-x)), True),
    ("QLinearLeakyRelu", {}, 0.03, lambda x: np.where(x < 0, 0.01 * x, x), True),
    ("QLinearLeakyRelu", {"alpha": 0.3}, 0.03, lambda x: np.where(x < 0, 0.3 * x, x), True),
    ("QLinearSoftmax", {"opset": 13}, 1 / 256, lambda x: softmax(x, -1), True),
    ("QLinearSoftmax", {"opset": 13, "axis": 1}, 1 / 256, lambda x: softmax(x, 1), True),
    ("QLinearSoftmax", {"opset": 11, "axis": 2}, 1 / 256, lambda x: softmax(x, (2, 3)), True),
    (
        "QLinearGlobalAveragePool",
        {},
        0.004,
        lambda x: x.mean((2, 3), keepdims=True),
        True,
    ),
    (
        "QLinearGlobalAveragePool",
        {"channels_last": 1},
        0.004,
        lambda x: x.mean((1, 2), keepdims=True),
        True,
    ),
    ("QLinearReduceMean", {"axes": [1, 3], "keepdims": 0}, 0.004, lambda x: x.mean((1, 3)), False),
    (
        "QLinearReduceMean",
        {"axes": [-1], "keepdims": 1},
        0.02,
        lambda x: x.mean(3)[..., None],
        False,
    ),
]


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("op_type, attributes, y_scale, reference, in_onnxruntime", UNARY)
def test_of_one_input(dtype, op_type, attributes, y_scale, reference, in_onnxruntime) -> None:
    x = random_bytes(dtype, 2, 3, 7, 9)
    inputs = [x, scale(0.04), np.array(5, dtype), scale(y_scale), np.array(-3).astype(dtype)]
    expected = quantized(reference(dequantized(*inputs[:3])), inputs[3], inputs[4])
    for static in (True, False):
        options = {"output": KINDS[dtype], "static": static}
        (y,) = run_bascule(op_type, inputs, attributes, **options)
        assert_close_steps(y, expected, rare=0.05)
    if in_onnxruntime and op_type != "QLinearSoftmax":
        (theirs,) = run_onnxruntime(op_type, inputs, attributes, output=KINDS[dtype])
        assert_close_steps(y, theirs, rare=0.05)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("attributes", [{"opset": 13, "axis": 1}, {"opset": 11, "axis": 1}])
def test_softmax_of_onnxruntime(dtype, attributes) -> None:
    """With the zero point that makes use of all steps."""
    zero = np.array(np.iinfo(dtype).min, dtype)
    inputs = [random_bytes(dtype, 3, 4, 50), scale(0.05), np.array(7, dtype), scale(1 / 256), zero]
    (y,) = run_bascule("QLinearSoftmax", inputs, attributes, output=KINDS[dtype])
    (theirs,) = run_onnxruntime("QLinearSoftmax", inputs, attributes, output=KINDS[dtype])
    assert_close_steps(y, theirs)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize(
    "shapes", [((3, 4, 50), (4, 50)), ((2, 1), (3,)), ((0, 5), (1,)), ((), ())]
)
def test_binary(dtype, op_type, shapes) -> None:
    a, b = random_bytes(dtype, *shapes[0]), random_bytes(dtype, *shapes[1], seed=1)
    zeros = [np.array(value, dtype) for value in (3, 100, 17)]
    inputs = [a, scale(0.1), zeros[0], b, scale(0.03), zeros[1], scale(0.17), zeros[2]]
    left, right = dequantized(*inputs[:3]), dequantized(*inputs[3:6])
    real = left + right if op_type == "QLinearAdd" else left * right
    (y,) = run_bascule(op_type, inputs, output=KINDS[dtype])
    assert_close_steps(y, quantized(real, inputs[6], inputs[7]), rare=0.05)
    (theirs,) = run_onnxruntime(op_type, inputs, output=KINDS[dtype])
    assert_close_steps(y, theirs)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("steps", [(0.01, 0.005, 0.01), (0.5, 0.25, 0.25), (0.02, 0.01, 0.03)])
def test_binary_with_many_ties(dtype, op_type, steps) -> None:
    a, b = random_bytes(dtype, 40, 50), random_bytes(dtype, 50, seed=1)
    zeros = [np.array(value, dtype) for value in (3, 100, 17)]
    inputs = [v for pair in zip((a, b), map(scale, steps), zeros) for v in pair]
    inputs += [scale(steps[2]), zeros[2]]
    (y,) = run_bascule(op_type, inputs, output=KINDS[dtype])
    (theirs,) = run_onnxruntime(op_type, inputs, output=KINDS[dtype])
    np.testing.assert_array_equal(y, theirs)


@pytest.mark.parametrize("dtype", BYTES)
def test_zero_points_may_be_left_out(dtype) -> None:
    a, b = random_bytes(dtype, 3, 40), random_bytes(dtype, 40, seed=1)
    nothing = np.array(0, dtype)
    inputs = [a, scale(0.1), None, b, scale(0.2), None, scale(0.25)]
    (y,) = run_bascule("QLinearAdd", inputs, output=KINDS[dtype])
    real = dequantized(a, scale(0.1), nothing) + dequantized(b, scale(0.2), nothing)
    assert_close_steps(y, quantized(real, scale(0.25), nothing), rare=0.05)
    (y,) = run_bascule("QLinearSigmoid", [a, scale(0.1), None, scale(0.01)], output=KINDS[dtype])
    real = 1 / (1 + np.exp(-dequantized(a, scale(0.1), nothing)))
    assert_close_steps(y, quantized(real, scale(0.01), nothing), rare=0.05)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 1], "pads": [1, 1, 0, 0]},
        {"pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"strides": [2, 2], "ceil_mode": 1},
        {"auto_pad": "SAME_UPPER"},
    ],
)
@pytest.mark.parametrize("last", [0, 1])
def test_average_pool(dtype, attributes, last) -> None:
    x = random_bytes(dtype, 2, 8, 9, 3) if last else random_bytes(dtype, 2, 3, 8, 9)
    inputs = [x, scale(0.05), np.array(3, dtype), scale(0.02), np.array(6, dtype)]
    attributes = {"kernel_shape": [3, 2], "channels_last": last, **attributes}
    (y,) = run_bascule("QLinearAveragePool", inputs, attributes, output=KINDS[dtype])
    (theirs,) = run_onnxruntime("QLinearAveragePool", inputs, attributes, output=KINDS[dtype])
    assert_close_steps(y, theirs, rare=0.05)


@pytest.mark.parametrize("dtype", BYTES)
def test_concat(dtype) -> None:
    parts = [
        random_bytes(dtype, 2, 3, 4),
        random_bytes(dtype, 2, 5, 4),
        random_bytes(dtype, 2, 0, 4),
    ]
    scales = [scale(0.1), scale(0.23), scale(0.05)]
    zeros = [np.array(value, dtype) for value in (3, 9, 0)]
    inputs = [scales[0], zeros[0]]
    for part in zip(parts, scales, zeros, strict=True):
        inputs += part
    (y,) = run_bascule("QLinearConcat", inputs, {"axis": -2}, output=KINDS[dtype])
    np.testing.assert_array_equal(y[:, :3], parts[0])
    constants = (0, 1, 3, 4, 6, 7, 9, 10)
    (theirs,) = run_onnxruntime(
        "QLinearConcat", inputs, {"axis": -2}, output=KINDS[dtype], constants=constants
    )
    assert_close_steps(y, theirs)
    with pytest.raises(InvalidGraph, match="three for each tensor"):
        run_bascule("QLinearConcat", inputs[:-1], {"axis": 1}, output=KINDS[dtype])


@pytest.mark.parametrize("dtype", BYTES)
def test_where(dtype) -> None:
    condition = np.random.default_rng(1).integers(0, 2, (4, 1, 6)).astype(bool)
    x, y = random_bytes(dtype, 5, 6), random_bytes(dtype, 1, 6)
    zeros = [np.array(value, dtype) for value in (3, 9, 4)]
    inputs = [condition, x, scale(0.1), zeros[0], y, scale(0.2), zeros[1], scale(0.15), zeros[2]]
    (z,) = run_bascule("QLinearWhere", inputs, output=KINDS[dtype])
    real = np.where(condition, dequantized(*inputs[1:4]), dequantized(*inputs[4:7]))
    assert_close_steps(z, quantized(real, scale(0.15), zeros[2]), rare=0.1)
    if dtype is np.uint8:  # onnxruntime reads its table at negative places
        assert_close_steps(z, run_onnxruntime("QLinearWhere", inputs, output=KINDS[dtype])[0])


@pytest.mark.parametrize(
    "x_type, w_type", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]
)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution(x_type, w_type, last, per_channel) -> None:
    channels = (4,) if per_channel else ()
    generator = np.random.default_rng(3)
    x = random_bytes(x_type, 2, 9, 8, 6) if last else random_bytes(x_type, 2, 6, 9, 8)
    w_scale = generator.uniform(0.01, 0.03, channels).astype(np.float32)
    w_zero = np.zeros(channels, w_type) if per_channel else np.array(3, w_type)
    bias = generator.integers(-3000, 3000, 4).astype(np.int32)
    inputs = [
        x,
        scale(0.05),
        np.array(7, x_type),
        random_weights(w_type, 4, 3, 3, 2),
        w_scale,
        w_zero,
    ]
    inputs += [scale(0.6), np.array(11, x_type), bias]
    attributes = {"group": 2, "pads": [1, 0, 1, 1], "strides": [2, 1], "channels_last": last}
    options = {"output": KINDS[x_type], "constants": (1, 2, 3, 4, 5, 6, 7, 8)}
    (y,) = run_bascule("QLinearConv", inputs, attributes, **options)
    (theirs,) = run_onnxruntime("QLinearConv", inputs, attributes, **options)
    assert_close_steps(y, theirs)


def test_refused() -> None:
    x, one = random_bytes(np.uint8, 3), np.array(1, np.uint8)
    with pytest.raises(InvalidGraph, match=r"QLinearSigmoid .*input 3 is missing"):
        run_bascule("QLinearSigmoid", [x, scale(1), one], output=KINDS[np.uint8])
    with pytest.raises(InvalidGraph, match=r"QLinearSigmoid .*7 inputs are more than 5"):
        inputs = [x, scale(1), one, scale(1), one, one, one]
        run_bascule("QLinearSigmoid", inputs, output=KINDS[np.uint8])
    with pytest.raises(InvalidGraph, match="'keepdims' is missing"):
        inputs = [x, scale(1), one, scale(1), one]
        run_bascule("QLinearReduceMean", inputs, {"axes": [0]}, output=KINDS[np.uint8])
    with pytest.raises(InvalidGraph, match="'axes' is not a list of integers"):
        attributes = {"axes": 0, "keepdims": 1}
        run_bascule("QLinearReduceMean", inputs, attributes, output=KINDS[np.uint8])
    with pytest.raises(InvalidGraph, match=r"shape \[2\], expected one element"):
        inputs[1] = np.ones(2, np.float32)
        run_bascule("QLinearSigmoid", inputs, output=KINDS[np.uint8], constants=(1,))
