# SPDX-License-Identifier: Apache-2.0
"""Operators that sort, or whose results are as long as the values say, on the emulated device."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.providers.cuda.test_movement import normal, same
from tests.support import cuda_emulation

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

NUMBERS = np.random.default_rng(13)
TYPES = [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, np.int8, np.int64, np.uint64]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_top_k(dtype: Any, largest: int) -> None:
    x = (normal(3, 40, 2, dtype=np.float32) / 10).round().astype(dtype)
    if np.dtype(dtype).kind != "i" and dtype is not np.uint64:
        x[0, 3, 0] = x[0, 9, 0] = np.nan
        x[1, 3, 0], x[1, 4, 0], x[1, 5, 0], x[2, 1, 1] = 0.0, -0.0, np.inf, -np.inf
    for axis, k in ((1, 40), (1, 7), (0, 2), (-1, 1), (1, 0)):
        same("TopK", [x, np.array([k])], {"axis": axis, "largest": largest}, 2)


@pytest.mark.parametrize(("n", "k"), [(1024, 3), (5000, 50), (3000, 300), (3000, 3000)])
def test_top_k_of_long_rows(n: int, k: int) -> None:
    same("TopK", [normal(2, n).round(), np.array([k])], {}, 2)


@pytest.mark.parametrize("dtype", [*TYPES, np.bool_])
def test_non_zero(dtype: Any) -> None:
    for shape in ((), (5,), (30, 3, 41), (0, 3)):
        x = np.asarray(normal(*shape) * (NUMBERS.random(shape) < 0.3)).astype(dtype)
        same("NonZero", [x])


@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_unique(dtype: Any, in_order: int) -> None:
    x = NUMBERS.integers(0, 3, (7, 3, 2)).astype(dtype)
    for axis in ({}, {"axis": 0}, {"axis": 1}, {"axis": -1}):
        same("Unique", [x], {"sorted": in_order, **axis}, 4)


@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_unique_without_elements(dtype: Any, in_order: int) -> None:
    for shape, axis in (((0,), {}), ((0, 3), {"axis": 0}), ((0, 3), {"axis": 1}), ((2, 0), {})):
        same("Unique", [np.zeros(shape, dtype)], {"sorted": in_order, **axis}, 4)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers(dtype: Any) -> None:
    x = NUMBERS.integers(0, 2, (7, 3, 2)) + 1j * NUMBERS.integers(0, 2, (7, 3, 2))
    x[0, 0, 0], x[1, 1, 0] = np.nan, -0.0
    same("NonZero", [x.astype(dtype)])
    for attributes in ({}, {"axis": 0}, {"axis": 2, "sorted": 0}):
        same("Unique", [x.astype(dtype)], attributes, 4)


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("most", [0, 3, 100])
def test_non_max_suppression(center: int, most: int) -> None:
    boxes = NUMBERS.random((2, 60, 4), np.float32)
    scores = (NUMBERS.random((2, 3, 60), np.float32) * 20).round() / 20
    scores[0, 0, 5] = np.nan
    attributes = {"center_point_box": center}
    given = [boxes, scores, np.array([most])]
    same("NonMaxSuppression", given, attributes)
    limits = [np.array([0.3], np.float32), np.array([0.4], np.float32)]
    same("NonMaxSuppression", [*given, *limits], attributes)
