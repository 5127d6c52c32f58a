# SPDX-License-Identifier: Apache-2.0
"""Softmax, LogSoftmax and Hardmax against NumPy in float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.support.native import run_node

RANDOM = np.random.default_rng(3)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    x = x.astype(np.float64)
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "shape, axis",
    [
        ((1,), 0),
        ((2, 3, 37), -1),
        ((5, 1000), 1),
        ((3, 4097), 1),
        ((4, 7, 33), 1),
        ((70, 5), 0),
        ((3, 2, 5, 130), 1),
        ((2, 1, 3), 1),
    ],
)
def test_softmax(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    tolerance = {2: 1e-2, 4: 3e-6, 8: 1e-13}[np.dtype(dtype).itemsize]
    x = (RANDOM.standard_normal(shape) * 5).astype(dtype)
    expected = softmax(x, axis)
    [actual] = run_node("Softmax", [x], {"axis": axis}, runs=2)
    np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance / 100)
    [actual] = run_node("LogSoftmax", [x], {"axis": axis})
    np.testing.assert_allclose(actual.astype(np.float64), np.log(expected), tolerance, tolerance)
    if dtype == np.float32:
        threads = run_node("LogSoftmax", [x], {"axis": axis}, threads=4)[0]
        assert threads.tobytes() == actual.tobytes()


def test_special_values() -> None:
    x = np.array([[-np.inf, 0, 1], [-np.inf] * 3, [np.nan, 0, 1], [1e30, -1e30, 0]], np.float32)
    [actual] = run_node("Softmax", [x])
    np.testing.assert_allclose(actual[0], softmax(x[:1], 1)[0], 1e-6)
    assert np.isnan(actual[1:3]).all()
    np.testing.assert_array_equal(actual[3], [1, 0, 0])
    [columns] = run_node("Softmax", [np.ascontiguousarray(x.T)], {"axis": 0})
    np.testing.assert_allclose(columns.T, actual, 1e-6)
    assert run_node("Softmax", [np.zeros((0, 4), np.float32)])[0].shape == (0, 4)
    assert run_node("Softmax", [np.zeros((4, 0), np.float32)])[0].shape == (4, 0)


def test_sums_beyond_the_range_of_float16() -> None:
    x = np.zeros((1, 70000), np.float16)
    expected = np.full(x.shape, 1 / 70000).astype(np.float16)
    np.testing.assert_array_equal(run_node("Softmax", [x])[0], expected)
    [columns] = run_node("Softmax", [x.T.copy()], {"axis": 0})
    np.testing.assert_array_equal(columns.T, expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_hardmax(axis: int) -> None:
    x = RANDOM.integers(0, 4, (3, 5, 6)).astype(np.float32)
    expected = np.zeros_like(x)
    np.put_along_axis(expected, x.argmax(axis, keepdims=True), 1, axis)
    np.testing.assert_array_equal(run_node("Hardmax", [x], {"axis": axis})[0], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("n", [0, 1, 3, 15, 16, 17, 31, 32, 33, 100])
def test_hardmax_of_rows(n: int, dtype: Any) -> None:
    generator = np.random.default_rng(n)
    x = generator.integers(-3, 4, (23, n)).astype(dtype)
    if n > 1:
        # NaN is larger than nothing, and nothing is larger than a NaN at the front.
        x[3, 1:] = np.nan
        x[4, 0] = np.nan
        x[5] = np.nan
        x[6, n // 2] = np.nan
        x[7], x[8, :1] = -np.inf, -0.0
    expected = np.zeros_like(x)
    for row, values in zip(expected, x.astype(np.float64)):
        best = 0
        for i, value in enumerate(values):
            best = i if value > values[best] else best
        row[best : best + 1] = 1
    for threads in (1, 3):
        [actual] = run_node("Hardmax", [x], threads=threads)
        assert actual.dtype == x.dtype
        assert (actual == expected).all()
        columns = np.ascontiguousarray(x.T)
        [actual] = run_node("Hardmax", [columns], {"axis": 0}, threads=threads)
        np.testing.assert_array_equal(actual.T, expected)
