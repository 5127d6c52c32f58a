# SPDX-License-Identifier: Apache-2.0
"""Products of 8-bit integers of the CUDA provider, on the emulated device."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule import errors
from tests.support import cuda_emulation
from tests.support.cuda_emulation import run_node
from tests.support.native import run_node as run_on_cpu

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

SHAPES = [
    ((5, 7), (7, 9)),
    ((66, 33), (33, 70)),
    ((2, 3, 4, 5), (2, 3, 5, 6)),
    ((2, 1, 4, 5), (3, 5, 6)),
    ((5,), (5, 6)),
    ((4, 5), (5,)),
    ((0, 5), (5, 6)),
]


def numbers(seed: int, dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("a_type", ["int8", "uint8"])
@pytest.mark.parametrize("b_type", ["int8", "uint8"])
@pytest.mark.parametrize("a,b", SHAPES)
@pytest.mark.parametrize("each", [None, False, True])
def test_matmul_integer(
    a_type: str, b_type: str, a: tuple[int, ...], b: tuple[int, ...], each: bool | None
) -> None:
    left, right = numbers(1, a_type, *a), numbers(2, b_type, *b)
    x, w = left.astype(np.int32), right.astype(np.int32)
    inputs = [left, right]
    if each is not None:
        rows = (a[-2],) if each and len(a) > 1 else ()
        columns = (b[-1],) if each and len(b) > 1 else ()
        inputs += [numbers(3, a_type, *rows), numbers(4, b_type, *columns)]
        x = x - (inputs[2].astype(np.int32)[:, None] if rows else inputs[2])
        w = w - inputs[3].astype(np.int32)
    (y,) = run_node("MatMulInteger", inputs)
    np.testing.assert_array_equal(y, np.matmul(x, w))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("scale_type", ["float32", "float16"])
@pytest.mark.parametrize("a,b", SHAPES)
@pytest.mark.parametrize("each", [False, True])
def test_qlinear_matmul(
    dtype: str, scale_type: str, a: tuple[int, ...], b: tuple[int, ...], each: bool
) -> None:
    rng = np.random.default_rng(5)
    left, right = numbers(1, dtype, *a), numbers(2, "int8", *b)
    columns = (b[-1],) if each and len(b) > 1 else ()
    a_scale = np.array(0.011, scale_type)
    b_scale = rng.uniform(0.01, 0.05, columns).astype(scale_type)
    y_scale = np.array(0.07, scale_type)
    a_zero, b_zero = numbers(3, dtype), numbers(4, "int8", *columns)
    y_zero = np.array(3, dtype)
    inputs = [left, a_scale, a_zero, right, b_scale, b_zero, y_scale, y_zero]
    (y,) = run_node("QLinearMatMul", inputs)
    sums = np.matmul(left.astype(np.int32) - a_zero, right.astype(np.int32) - b_zero)
    factor = np.float32(a_scale) * b_scale.astype(np.float32) / np.float32(y_scale)
    limits = np.iinfo(dtype)
    expected = np.rint(sums.astype(np.float32) * factor) + 3
    assert y.dtype == y_zero.dtype
    np.testing.assert_array_equal(y, np.clip(expected, limits.min, limits.max).astype(dtype))


FLOAT8 = [
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e5m2fnuz,
]


@pytest.mark.parametrize("kinds", [*((t, t, t) for t in FLOAT8), (FLOAT8[0], np.int8, np.uint8)])
@pytest.mark.parametrize("a,b", SHAPES)
@pytest.mark.parametrize("each", [False, True])
def test_qlinear_matmul_of_float8(
    kinds: tuple[Any, ...], a: tuple[int, ...], b: tuple[int, ...], each: bool
) -> None:
    rng = np.random.default_rng(6)
    a_type, b_type, y_type = kinds
    columns = (b[-1],) if each and len(b) > 1 else ()
    inputs = [
        *(np.round(rng.normal(0, 4, a)).astype(a_type), np.array(0.25, np.float32)),
        *(np.array(2, a_type), np.round(rng.normal(0, 4, b)).astype(b_type)),
        *(rng.choice([0.5, 0.25], columns).astype(np.float32), np.ones(columns).astype(b_type)),
        *(np.array(1.5, np.float32), np.array(3, y_type)),
    ]
    (y,) = run_node("QLinearMatMul", inputs)
    (expected,) = run_on_cpu("QLinearMatMul", inputs)
    # Whole numbers add up exactly, so results are the same bits.
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y.view(np.uint8), expected.view(np.uint8))


def test_zero_points_of_a_wrong_size_are_refused() -> None:
    inputs = [numbers(1, "int8", 4, 5), numbers(2, "int8", 5, 6), numbers(3, "int8", 3)]
    with pytest.raises(errors.Fail, match="a_zero_point has 3 elements, expected 1 or 4"):
        run_node("MatMulInteger", inputs)
