# SPDX-License-Identifier: Apache-2.0
"""Tensors that the CUDA provider makes of few numbers are those of the CPU provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

NUMBERS = ["float32", "float64", "float16", ml_dtypes.bfloat16, "int8", "int16", "int32", "int64"]
NUMBERS += ["uint8", "uint16", "uint32", "uint64"]


def check(op_type: str, inputs: list[Any], attributes: dict[str, Any], rtol: float = 0) -> None:
    (expected,) = native.run_node(op_type, inputs, attributes)
    (actual,) = run_node(op_type, inputs, attributes, output_dtypes=[expected.dtype])
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol, rtol / 100
    )


@pytest.mark.parametrize("value", [
    np.ones(1, bool), np.full(1, -3, np.int8), np.full(1, 1.5, ml_dtypes.bfloat16),
    np.full(1, 1e-5, np.float32), np.full(1, -(2**40)), np.zeros(1), np.full(1, 5, ml_dtypes.int4),
])  # fmt: skip
@pytest.mark.parametrize("shape", [[], [0, 3], [3, 70], [1000]])
def test_constant_of_shape(value: np.ndarray, shape: list[int]) -> None:
    check("ConstantOfShape", [np.array(shape, np.int64)], {"value": value})


def test_wide_and_default_constants() -> None:
    shape = np.array([2, 3])
    check("ConstantOfShape", [shape], {})
    value = np.array([1 + 2j])
    (y,) = run_node("ConstantOfShape", [shape], {"value": value}, output_dtypes=[np.complex128])
    np.testing.assert_array_equal(y, np.full((2, 3), 1 + 2j))
    with pytest.raises(Exception, match="negative"):
        run_node("ConstantOfShape", [np.array([-1])], {}, output_dtypes=[np.float32])


@pytest.mark.parametrize("dtype", [1, 7, 9, 16, 2, 10])
@pytest.mark.parametrize("k", [0, 2, -2, 5, -5, 100, -100])
def test_eye_like(dtype: int, k: int) -> None:
    for shape in ((4, 6), (6, 3), (0, 3)):
        check("EyeLike", [np.ones(shape, np.float32)], {"dtype": dtype, "k": k})


@pytest.mark.parametrize("start, limit, delta", [
    (0, 10, 1), (3, -40, -7), (1, 1, 2), (5, 2, 1), (-3, 1000, 2), (0, 9, 4),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [*NUMBERS[:4], "int16", "int32", "int64"])
def test_range(start: int, limit: int, delta: int, dtype: Any) -> None:
    check("Range", [np.array(v, dtype) for v in (start, limit, delta)], {})
    if np.dtype(dtype).kind in "fV":
        check("Range", [np.array(v, dtype) for v in (start + 0.25, limit, delta * 0.5)], {}, 1e-6)


def test_ranges_that_have_no_end() -> None:
    check("Range", [np.int64(v) for v in (-(2**63), 2**63 - 1, 2**62)], {})
    for numbers in ((0.0, 1.0, 0.0), (0.0, np.inf, 1.0), (0.0, np.nan, 1.0)):
        with pytest.raises(Exception, match=r"delta|too many"):
            run_node("Range", [np.array(v) for v in numbers], {})


@pytest.mark.parametrize("op_type", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows(op_type: str) -> None:
    for size in (0, 1, 2, 100):
        for periodic in (0, 1):
            check(op_type, [np.array(size, np.int64)], {"periodic": periodic}, 1e-6)
    for dtype in (10, 11, 16, 6, 3):
        check(op_type, [np.array(33, np.int32)], {"output_datatype": dtype}, 1e-2)
