# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.support.native import run_node

RANGES = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint2": (0, 3),
    "int2": (-2, 1),
}
ONNX_TYPES = {"uint16": 4, "int8": 3, "float16": 10, "bfloat16": 16, "int4": 22}


def dtype_of(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


def spread(values: np.ndarray, shape: tuple[int, ...], axis: int, block: int) -> np.ndarray:
    """Scales or zero points, repeated for the elements that share them."""
    if values.size == 1 and not block:
        return np.broadcast_to(values.reshape(()), shape)
    if block:
        repeated = np.repeat(values, block, axis)
        return np.take(repeated, range(shape[axis]), axis)
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return np.broadcast_to(values.reshape(sizes), shape)


CASES = [  # shape of x, of the scale, axis, block size
    ((3, 5, 37), (), 1, 0),
    ((3, 5, 37), (1,), 1, 0),
    ((3, 5, 37), (5,), 1, 0),
    ((3, 5, 37), (37,), -1, 0),
    ((3, 5, 37), (3,), 0, 0),
    ((3, 5, 37), (3, 5, 5), 2, 8),
    ((3, 5, 37), (3, 2, 37), 1, 3),
    ((70,), (70,), 0, 0),
    ((1300,), (), 1, 0),
    ((2, 1000), (1000,), 1, 0),
    ((0, 4), (4,), 1, 0),
    ((), (), 1, 0),
]


@pytest.mark.parametrize("x_shape, s_shape, axis, block", CASES)
@pytest.mark.parametrize("name", RANGES)
def test_quantize_to_integers(x_shape, s_shape, axis, block, name) -> None:
    rng = np.random.default_rng(1)
    low, high = RANGES[name]
    x = rng.normal(size=x_shape).astype(np.float32) * (high - low) * 0.3
    scale = rng.uniform(0.5, 2, s_shape).astype(np.float32)
    zero = rng.integers(low, high + 1, s_shape).astype(dtype_of(name))
    attributes = {"axis": axis, "block_size": block}
    (y,) = run_node("QuantizeLinear", [x, scale, zero], attributes)
    scales = spread(scale, x_shape, axis, block)
    zeros = spread(zero.astype(np.float32), x_shape, axis, block)
    expected = np.clip(np.rint(x / scales) + zeros, low, high)
    assert y.dtype == zero.dtype
    np.testing.assert_array_equal(y.astype(np.float32), expected)

    (back,) = run_node("DequantizeLinear", [y, scale, zero], attributes)
    np.testing.assert_array_equal(back, ((expected - zeros) * scales).astype(np.float32))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("x_shape, s_shape, axis, block", CASES[:8])
def test_narrow_floats(name, x_shape, s_shape, axis, block) -> None:
    rng = np.random.default_rng(2)
    dtype = dtype_of(name)
    x = (rng.normal(size=x_shape) * 40).astype(dtype)
    scale = rng.uniform(0.5, 2, s_shape).astype(dtype)
    zero = rng.integers(-20, 20, s_shape).astype(np.int8)
    attributes = {"axis": axis, "block_size": block}
    (y,) = run_node("QuantizeLinear", [x, scale, zero], attributes)
    scales = spread(scale, x_shape, axis, block)
    zeros = spread(zero, x_shape, axis, block).astype(np.float32)
    quotient = (x.astype(np.float32) / scales.astype(np.float32)).astype(dtype)
    expected = np.clip(np.rint(quotient.astype(np.float32)) + zeros, -128, 127)
    np.testing.assert_array_equal(y.astype(np.float32), expected)

    (back,) = run_node("DequantizeLinear", [y, scale, zero], attributes)
    assert back.dtype == dtype
    exact = (expected - zeros) * scales.astype(np.float32)
    np.testing.assert_array_equal(back.astype(np.float32), exact.astype(dtype).astype(np.float32))


def test_types_that_attributes_name() -> None:
    x = np.array([-300.4, -1.5, 2.5, 3.5, 1e9, np.inf, np.nan], np.float32)
    scale = np.array(0.5, np.float16)
    (y,) = run_node("QuantizeLinear", [x, scale], {"output_dtype": ONNX_TYPES["int8"]})
    assert y.dtype == np.int8
    np.testing.assert_array_equal(y, [-128, -3, 5, 7, 127, 127, -128])
    (y,) = run_node("QuantizeLinear", [x, scale])
    assert y.dtype == np.uint8
    (y,) = run_node("QuantizeLinear", [x, scale, None], {"output_dtype": ONNX_TYPES["int4"]})
    assert y.dtype == ml_dtypes.int4
    (back,) = run_node("DequantizeLinear", [y, scale], {"output_dtype": 1})
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back[:5], [-4, -1.5, 2.5, 3.5, 3.5])


def test_precision_of_the_division() -> None:
    x = np.array([2049.0, 3001.0], np.float32)
    scale = np.array(1.0, np.float32)
    (y,) = run_node(
        "QuantizeLinear",
        [x, scale],
        {"precision": ONNX_TYPES["float16"], "output_dtype": ONNX_TYPES["uint16"]},
    )
    np.testing.assert_array_equal(y, [2048, 3000])


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn"]
)
def test_floats_of_few_bits(name) -> None:
    rng = np.random.default_rng(3)
    dtype = dtype_of(name)
    top = float(ml_dtypes.finfo(dtype).max)
    x = rng.uniform(-3 * top, 3 * top, (5, 33)).astype(np.float32)
    scale = rng.uniform(0.5, 2, 33).astype(np.float32)
    (y,) = run_node("QuantizeLinear", [x, scale, np.zeros(33, dtype)], {"axis": 1})
    expected = np.clip(x / scale, -top, top).astype(dtype)
    np.testing.assert_array_equal(y.astype(np.float32), expected.astype(np.float32))
    (back,) = run_node("DequantizeLinear", [y, scale], {"axis": 1})
    np.testing.assert_array_equal(back, expected.astype(np.float32) * scale)


def test_integer_inputs() -> None:
    x = np.array([[7, -7, 5, 2**30], [1, 3, -9, -(2**31)]], np.int32)
    (y,) = run_node("QuantizeLinear", [x, np.array(2, np.int32), np.array(1, np.int8)])
    np.testing.assert_array_equal(y, [[5, -3, 3, 127], [1, 3, -3, -128]])
    (y,) = run_node("DequantizeLinear", [x, np.array([0.5, 2], np.float32)], {"axis": 0})
    np.testing.assert_array_equal(y, x.astype(np.float32) * [[0.5], [2]])


def test_shapes_that_do_not_fit() -> None:
    x = np.zeros((2, 6), np.float32)
    for scale, attributes in [
        (np.ones(5, np.float32), {}),
        (np.ones((2, 2), np.float32), {"block_size": 4, "axis": 0}),
        (np.ones(6, np.float32), {"axis": 2}),
    ]:
        with pytest.raises(Exception, match=r"scale|axis"):
            run_node("QuantizeLinear", [x, scale], attributes)
    with pytest.raises(Exception, match="zero point"):
        run_node("QuantizeLinear", [x, np.ones(6, np.float32), np.zeros(2, np.uint8)])


@pytest.mark.parametrize("size", [0, 1, 5, 64, 100003])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_dynamic(size, shift) -> None:
    x = (np.random.default_rng(size).normal(size=size) + shift).astype(np.float32)
    y, scale, zero = run_node("DynamicQuantizeLinear", [x], outputs=3, threads=2)
    low, high = min(0, x.min(initial=0)), max(0, x.max(initial=0))
    expected = np.float32(high - low) / np.float32(255) if high > low else np.float32(1)
    assert scale == expected
    assert zero == np.rint(np.clip(-np.float32(low) / scale, 0, 255))
    np.testing.assert_array_equal(y, np.clip(np.rint(x / scale) + zero, 0, 255))


def test_threads_give_the_same_bits() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(64, 33, 65)).astype(np.float32)
    scale = rng.uniform(0.01, 0.1, 33).astype(np.float32)
    one, two = (run_node("QuantizeLinear", [x, scale], threads=t)[0] for t in (1, 2))
    np.testing.assert_array_equal(one, two)
