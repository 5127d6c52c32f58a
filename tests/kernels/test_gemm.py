# SPDX-License-Identifier: Apache-2.0
"""Gemm against NumPy in float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.kernels.test_matmul import check, normal, wide
from tests.support.native import run_node


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("flags", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_transposes_and_scales(flags: tuple[int, int], dtype: Any) -> None:
    a, b, c = (normal(*shape, dtype=dtype) for shape in ((21, 50), (50, 37), (21, 37)))
    expected = 0.5 * (wide(a) @ wide(b)) + 2 * wide(c)
    given = [np.ascontiguousarray(x.T) if flag else x for x, flag in zip((a, b), flags)]
    attributes = {"transA": flags[0], "transB": flags[1], "alpha": 0.5, "beta": 2.0}
    for constants in ((), (1,), (1, 2)):
        for threads in (1, 2):
            actual = run_node("Gemm", [*given, c], attributes, constants=constants, threads=threads)
            check(actual[0], expected, dtype)


@pytest.mark.parametrize("beta", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 7), (5, 1), (1, 1), (5, 7)])
def test_broadcast_of_c(shape: tuple[int, ...], beta: float) -> None:
    a, b, c = normal(5, 3), normal(3, 7, seed=1), normal(*shape, seed=2)
    actual = run_node("Gemm", [a, b, c], {"beta": beta})[0]
    check(actual, wide(a) @ wide(b) + beta * wide(c))


def test_without_c_and_empty() -> None:
    a, b = normal(5, 3), normal(3, 7)
    check(run_node("Gemm", [a, b], {"alpha": 2.0})[0], 2 * (wide(a) @ wide(b)))
    c = normal(7)
    empty = run_node("Gemm", [normal(5, 0), normal(0, 7), c])[0]
    check(empty, np.broadcast_to(wide(c), (5, 7)))
    assert run_node("Gemm", [normal(0, 3), b, c])[0].shape == (0, 7)


def test_integers() -> None:
    a = np.arange(6, dtype=np.int32).reshape(2, 3)
    b = np.arange(12, dtype=np.int32).reshape(3, 4)
    c = np.array([[10], [20]], np.int32)
    actual = run_node("Gemm", [a, b, c], {"alpha": 2.0, "beta": 3.0})[0]
    assert (actual == 2 * (a @ b) + 3 * c).all()


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(Fail, match=r"3 columns .* 4 rows"):
        run_node("Gemm", [normal(2, 3), normal(4, 5)])
    with pytest.raises(Fail, match="does not broadcast"):
        run_node("Gemm", [normal(2, 3), normal(3, 5), normal(3)])
    with pytest.raises(Fail, match="two axes"):
        run_node("Gemm", [normal(1, 2, 3), normal(3, 5)])
