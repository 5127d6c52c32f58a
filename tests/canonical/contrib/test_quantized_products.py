# SPDX-License-Identifier: Apache-2.0
"""Products of integers against NumPy and onnxruntime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from .quantized import Array, assert_close_steps, run_bascule, run_onnxruntime
from .test_quantized_qlinear import BYTES, KINDS, random_bytes, random_weights, scale

TYPES = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]
INT32, UINT32 = onnx.TensorProto.INT32, onnx.TensorProto.UINT32


def moved(x: Array, zero: Array) -> Array:
    return x.astype(np.int64) - zero.astype(np.int64)


def assert_close(found: Array, expected: Array) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("a_type, b_type", TYPES)
@pytest.mark.parametrize("columns", [(), (1,), (17,)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_matmul_integer_to_float(a_type, b_type, columns, has_bias) -> None:
    generator = np.random.default_rng(2)
    a, b = random_bytes(a_type, 2, 13, 20), random_weights(b_type, 20, 17)
    b_scale = generator.uniform(0.01, 0.03, columns).astype(np.float32)
    a_zero, b_zero = np.array([9], a_type), random_bytes(b_type, *columns)
    bias = generator.normal(size=17).astype(np.float32) if has_bias else None
    inputs = [a, b, scale(0.05), b_scale, a_zero, b_zero, bias]
    expected = moved(a, a_zero) @ moved(b, b_zero) * (0.05 * b_scale.astype(np.float64))
    expected = expected + (0 if bias is None else bias)
    for constants in [(), (1, 3, 5, 6)]:
        (y,) = run_bascule("MatMulIntegerToFloat", inputs, constants=constants)
        assert_close(y, expected)
    if a_type is np.uint8:
        assert_close(y, run_onnxruntime("MatMulIntegerToFloat", inputs)[0])


def test_matmul_integer_to_float16() -> None:
    """The sums of the products are beyond float16, the result is not."""
    a = np.full((2, 20), 255, np.uint8)
    b = np.full((20, 3), 127, np.int8)
    factor, bias = np.array(2**-6, np.float16), np.array([1, 2, 3], np.float16)
    inputs = [a, b, factor, factor, None, None, bias]
    (y,) = run_bascule("MatMulIntegerToFloat", inputs, output=TensorProto.FLOAT16)
    assert y.dtype == np.float16
    exact = 20 * 255 * 127 / 2**12 + bias.astype(np.float64)
    np.testing.assert_array_equal(y, np.broadcast_to(exact.astype(np.float16), (2, 3)))


@pytest.mark.parametrize("b_type", BYTES)
@pytest.mark.parametrize("columns", [(), (17,)])
def test_dynamic_quantize_matmul(b_type, columns) -> None:
    generator = np.random.default_rng(4)
    a = generator.normal(size=(2, 13, 20)).astype(np.float32)
    b_scale = generator.uniform(0.01, 0.03, columns).astype(np.float32)
    bias = generator.normal(size=17).astype(np.float32)
    inputs = [a, random_weights(b_type, 20, 17), b_scale, random_bytes(b_type, *columns), bias]
    for static in (True, False):
        (y,) = run_bascule("DynamicQuantizeMatMul", inputs, static=static)
        assert_close(y, run_onnxruntime("DynamicQuantizeMatMul", inputs)[0])
    (y,) = run_bascule("DynamicQuantizeMatMul", [a[:, :0], *inputs[1:]])
    assert y.shape == (2, 0, 17)


@pytest.mark.parametrize("a_type, b_type", TYPES)
@pytest.mark.parametrize("transpose", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("c_shape", [None, (17,), (13, 1), (13, 17)])
def test_gemm(a_type, b_type, transpose, c_shape) -> None:
    generator = np.random.default_rng(5)
    a = random_bytes(a_type, *((20, 13) if transpose[0] else (13, 20)))
    b = random_weights(b_type, *((17, 20) if transpose[1] else (20, 17)))
    b_scale = generator.uniform(0.01, 0.03, 17).astype(np.float32)
    a_zero, b_zero = np.array(3, a_type), np.zeros(17, b_type)
    c = None if c_shape is None else generator.integers(-4000, 4000, c_shape).astype(np.int32)
    attributes = {"transA": transpose[0], "transB": transpose[1], "alpha": 0.5}
    sums = moved(a.T if transpose[0] else a, a_zero) @ moved(b.T if transpose[1] else b, b_zero)
    real = (sums + (0 if c is None else c)) * (0.5 * 0.05 * b_scale.astype(np.float64))

    inputs = [a, scale(0.05), a_zero, b, b_scale, b_zero, c]
    (y,) = run_bascule("QGemm", inputs, attributes)
    assert_close(y, real)
    inputs += [scale(0.4), np.array(11, a_type)]
    (y,) = run_bascule("QGemm", inputs, attributes, output=KINDS[a_type], constants=(3, 4, 5))
    info = np.iinfo(a_type)
    expected = np.clip(np.rint(real / np.float32(0.4)) + 11, info.min, info.max).astype(a_type)
    assert_close_steps(y, expected)
    (theirs,) = run_onnxruntime("QGemm", inputs, attributes, output=KINDS[a_type])
    assert_close_steps(y, theirs)


def test_matmul_integer_16() -> None:
    generator = np.random.default_rng(6)
    a = generator.integers(-32768, 32768, (2, 5, 6)).astype(np.int16)
    b = generator.integers(-32768, 32768, (6, 7)).astype(np.int16)
    (y,) = run_bascule("MatMulInteger16", [a, b], output=INT32)
    np.testing.assert_array_equal(y, a.astype(np.int32) @ b.astype(np.int32))
    np.testing.assert_array_equal(y, run_onnxruntime("MatMulInteger16", [a, b], output=INT32)[0])


@pytest.mark.parametrize("dtype", BYTES)
def test_integers_multiplied_and_added(dtype) -> None:
    a, b = random_bytes(dtype, 3, 4), random_bytes(dtype, 4)
    zeros = [np.array(3, dtype), np.array([9], dtype)]
    (y,) = run_bascule("MulInteger", [a, zeros[0], b, zeros[1]], output=INT32)
    np.testing.assert_array_equal(y, (moved(a, zeros[0]) * moved(b, zeros[1])).astype(np.int32))
    (y,) = run_bascule("MulInteger", [a, None, b], output=INT32)
    np.testing.assert_array_equal(y, a.astype(np.int32) * b)

    kind = UINT32 if dtype is np.uint8 else INT32
    (y,) = run_bascule("ReduceSumInteger", [a], {"axes": [1], "keepdims": 0}, output=kind)
    np.testing.assert_array_equal(y, a.astype(y.dtype).sum(1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_linear_quantization(dtype) -> None:
    x = (np.random.default_rng(7).normal(size=(3, 4, 5)) * 90).astype(np.float32)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    parameters = [
        ([scale(0.1), np.array(3, dtype)], {}),
        ([scale([0.1]), np.array([3], dtype)], {}),
        ([scale([0.1, 0.2, 0.3, 0.4]), np.arange(4).astype(dtype)], {"axis": 1}),
    ]
    for values, attributes in parameters:
        (y,) = run_bascule("QuantizeLinear", [x, *values], attributes, output=kind)
        (theirs,) = run_onnxruntime("QuantizeLinear", [x, *values], attributes, output=kind)
        np.testing.assert_array_equal(y, theirs)
        (back,) = run_bascule("DequantizeLinear", [y, *values], attributes)
        (theirs,) = run_onnxruntime("DequantizeLinear", [y, *values], attributes)
        np.testing.assert_array_equal(back, theirs)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize("real", [np.float32, np.float16])
def test_linear_quantization_to_4_bits(dtype, real) -> None:
    x = np.arange(-24, 24, dtype=np.float32).reshape(6, 8).astype(real)
    values = [np.array(2, real), np.array(1).astype(dtype)]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    (y,) = run_bascule("QuantizeLinear", [x, *values], output=kind)
    info = ml_dtypes.iinfo(dtype)
    expected = np.clip(np.rint(x.astype(np.float64) / 2) + 1, info.min, info.max)
    np.testing.assert_array_equal(y.astype(np.float64), expected)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(real))
    (back,) = run_bascule("DequantizeLinear", [y, *values], output=kind)
    assert back.dtype == real
    np.testing.assert_array_equal(back, (expected - 1) * 2)
