# SPDX-License-Identifier: Apache-2.0
"""QLinearAdd of the fused operators' domain, against float64 and its own definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import Fail, NotImplemented
from tests.support.native import run_node

SHAPES = [
    ((), ()),
    ((70,), (70,)),
    ((3, 4, 50), (4, 50)),
    ((2, 1, 33), (5, 1)),
    ((1,), (2, 130)),
    ((0, 5), (1,)),
]


def operands(dtype: Any, shapes: Any, steps: tuple[float, float, float]) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    a, b = (rng.integers(info.min, info.max, shape, dtype, endpoint=True) for shape in shapes)
    scales = [np.array(step, np.float32) for step in steps]
    zeros = [np.array(zero, dtype) for zero in (3, 100, 17)]
    return [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]]


def sums(inputs: list[np.ndarray]) -> np.ndarray:
    """In float64, not rounded yet, in steps of the result."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (x.astype(float) for x in inputs)
    return ((a - a_zero) * a_scale + (b - b_zero) * b_scale) / y_scale + y_zero


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_sums(dtype: Any, shapes: Any, threads: int) -> None:
    inputs = operands(dtype, shapes, (0.031, 0.017, 0.043))
    (y,) = run_node("QLinearAdd", inputs, domain="bascule", threads=threads, runs=2)
    exact = np.clip(sums(inputs), np.iinfo(dtype).min, np.iinfo(dtype).max)
    assert y.dtype == dtype and y.shape == exact.shape
    assert (np.abs(y - exact) <= 0.5 + 1e-4).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_ties_go_to_even(dtype: Any) -> None:
    """Steps that are powers of two leave nothing to rounding but the ties themselves."""
    inputs = operands(dtype, ((200,), (200,)), (0.5, 0.25, 1.0))
    (y,) = run_node("QLinearAdd", inputs, domain="bascule")
    exact = np.rint(sums(inputs)).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    np.testing.assert_array_equal(y, exact.astype(dtype))


def test_zero_points_may_be_left_out() -> None:
    inputs: list[Any] = operands(np.int8, ((40,), (3, 40)), (0.031, 0.017, 0.043))
    expected = [x if index not in (2, 5, 7) else np.array(0) for index, x in enumerate(inputs)]
    inputs[2] = inputs[5] = None
    (y,) = run_node("QLinearAdd", inputs[:7], domain="bascule")
    assert (np.abs(y - sums(expected).clip(-128, 127)) <= 0.5 + 1e-4).all()


def test_refusals() -> None:
    inputs = operands(np.int8, ((4,), (4,)), (1.0, 1.0, 1.0))
    mixed = [*inputs[:3], inputs[3].astype(np.uint8), *inputs[4:]]
    with pytest.raises(NotImplemented, match="the types differ"):
        run_node("QLinearAdd", mixed, domain="bascule")
    inputs[1] = np.ones(4, np.float32)
    with pytest.raises(Fail, match=r"input 1 has shape \{4\}, expected one element"):
        run_node("QLinearAdd", inputs, domain="bascule")
