# SPDX-License-Identifier: Apache-2.0
"""Quantization on the CUDA provider agrees with the CPU provider's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.ir.dtype import DataType
from tests.providers.cuda.elementwise_bodies import Body
from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

RANDOM = np.random.default_rng(11)
INTEGERS = [
    *(DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16),
    *(DataType.INT4, DataType.UINT4, DataType.INT2, DataType.UINT2),
]
NARROW_FLOATS = [
    *(DataType.FLOAT8E4M3FN, DataType.FLOAT8E4M3FNUZ, DataType.FLOAT8E5M2),
    *(DataType.FLOAT8E5M2FNUZ, DataType.FLOAT4E2M1, DataType.FLOAT6E2M3, DataType.FLOAT6E3M2),
]
CASES = [  # shape of x, of the scale, axis, block size
    ((3, 5, 37), (), 1, 0),
    ((3, 5, 37), (1,), 1, 0),
    ((3, 5, 37), (5,), 1, 0),
    ((3, 5, 37), (37,), -1, 0),
    ((3, 8, 32), (3,), 0, 0),
    ((3, 8, 32), (3, 8, 4), 2, 8),
    ((3, 8, 32), (3, 2, 32), 1, 4),
    ((3, 5, 37), (3, 5, 5), 2, 8),
    ((3, 5, 37), (3, 2, 37), 1, 3),
    ((70,), (70,), 0, 0),
    ((0, 4), (4,), 1, 0),
    ((), (), 1, 0),
]


def same(actual: np.ndarray, expected: np.ndarray, name: str = "") -> None:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, name
    np.testing.assert_array_equal(actual.astype(np.float64), expected.astype(np.float64), name)


@pytest.mark.parametrize("x_shape, s_shape, axis, block", CASES)
@pytest.mark.parametrize("numbers, integer", [("float32", np.int8), ("float16", ml_dtypes.int4)])
def test_granularity(
    x_shape: Any, s_shape: Any, axis: int, block: int, numbers: str, integer: Any
) -> None:
    x = (RANDOM.standard_normal(x_shape) * 20).astype(numbers)
    scale = RANDOM.uniform(0.5, 2, s_shape).astype(numbers)
    zero = RANDOM.integers(-4, 4, s_shape).astype(integer)
    attributes = {"axis": axis, "block_size": block}
    (expected,) = native.run_node("QuantizeLinear", [x, scale, zero], attributes)
    (y,) = run_node("QuantizeLinear", [x, scale, zero], attributes)
    same(y, expected)
    (expected,) = native.run_node("DequantizeLinear", [y, scale, zero], attributes)
    (back,) = run_node("DequantizeLinear", [y, scale, zero], attributes)
    same(back, expected)


def test_all_types() -> None:
    """Every type, precision and output type, with the scalars of a body."""
    x = np.concatenate([RANDOM.standard_normal(80) * 30, [np.nan, np.inf, -np.inf, 0.5, 1.5]])
    body = Body()
    expected: list[np.ndarray] = []
    inputs: dict[tuple[str, bytes], Any] = {}

    def add(op_type: str, array: np.ndarray, scale: Any, zero: Any, **attributes: Any) -> None:
        key = str(array.dtype), array.tobytes()
        if key not in inputs:
            inputs[key] = body.input(array)
        numbers = [None if v is None else body.number(v, v.dtype) for v in (scale, zero)]
        (result,) = native.run_node(op_type, [array, scale, zero], attributes)
        body.output(op_type, inputs[key], *numbers, dtype=result.dtype, **attributes)
        expected.append(result)

    wide, half = x.astype(np.float32), x.astype(np.float16)
    for dtype in INTEGERS:
        zero = np.asarray(1, dtype.numpy)
        add("QuantizeLinear", wide, np.float32(0.3), zero)
        patterns = np.resize(expected[-1], x.size)
        add("DequantizeLinear", patterns, np.float32(0.3), zero)
    for dtype in NARROW_FLOATS:
        zero = np.asarray(0, dtype.numpy)
        add("QuantizeLinear", wide, np.float32(0.01), zero)
        add("QuantizeLinear", wide, np.float32(0.01), zero, saturate=0)
        patterns = np.resize(expected[-1], x.size)
        add("DequantizeLinear", patterns, ml_dtypes.bfloat16(0.3), None)
    add("QuantizeLinear", half, np.float16(0.3), None)
    add("QuantizeLinear", half, ml_dtypes.bfloat16(0.3), None, output_dtype=int(DataType.INT4))
    add("QuantizeLinear", wide, np.float32(0.3), None, precision=int(DataType.FLOAT16))
    add("QuantizeLinear", wide, np.asarray(4, ml_dtypes.float8_e8m0fnu), None)
    whole = RANDOM.integers(-500, 500, x.size, np.int32)
    add("QuantizeLinear", whole, np.int32(4), np.int8(3))
    add("DequantizeLinear", whole, np.float16(0.5), None, output_dtype=int(DataType.FLOAT))
    results = run_node(
        "Elementwise",
        body.feeds,
        {"body": body.graph},
        len(expected),
        "bascule",
        [array.dtype for array in expected],
    )
    for value, actual, wanted in zip(body.graph.outputs, results, expected):
        assert value.producer is not None
        same(actual, wanted, repr(value.producer))


@pytest.mark.parametrize("dtype", NARROW_FLOATS)
@pytest.mark.parametrize("has_zero", [False, True])
def test_the_sign_of_a_zero(dtype: DataType, has_zero: bool) -> None:
    x, scale = np.array([-0.0, 0.0, -1e-9, 1], np.float32), np.float32(1)
    inputs = [x, scale, np.zeros((), dtype.numpy) if has_zero else None]
    attributes = {} if has_zero else {"output_dtype": int(dtype)}
    (expected,) = native.run_node("QuantizeLinear", inputs, attributes)
    (y,) = run_node("QuantizeLinear", inputs, attributes, output_dtypes=[dtype.numpy])
    assert y.view(np.uint8).tolist() == expected.view(np.uint8).tolist()


def test_chain_of_bytes() -> None:
    a, b = (RANDOM.integers(0, 256, (7, 12)).astype(np.uint8) for _ in range(2))
    body = Body(a, b)
    scale, zero = body.number(0.05), body.number(120, np.uint8)
    wide = [body.node("DequantizeLinear", v, scale, zero, dtype=np.float32) for v in body.inputs]
    total = body.node("Relu", body.node("Add", *wide))
    body.output("QuantizeLinear", total, scale, zero, dtype=np.uint8)
    body.check()


def test_shapes_that_do_not_fit() -> None:
    x = np.ones((2, 6), np.float32)
    for scale, attributes in [
        (np.ones(5, np.float32), {}),
        (np.ones((2, 2), np.float32), {"block_size": 4, "axis": 0}),
        (np.ones(6, np.float32), {"axis": 2}),
        (np.ones(6, np.float32), {"block_size": -1}),
    ]:
        with pytest.raises(Exception, match=r"scale|axis|block"):
            run_node("QuantizeLinear", [x, scale], attributes, output_dtypes=[np.uint8])


@pytest.mark.parametrize("size", [0, 1, 5, 64, 100003])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_dynamic(size: int, shift: float) -> None:
    x = (RANDOM.standard_normal(size) + shift).astype(np.float32)
    expected = native.run_node("DynamicQuantizeLinear", [x], outputs=3)
    for actual, wanted in zip(run_node("DynamicQuantizeLinear", [x], outputs=3), expected):
        same(actual, wanted)
