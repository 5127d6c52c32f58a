# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from math import erf
from typing import Any

import numpy as np
import pytest

from .comparison import Array, check, model_of, normal, operators, session


def gelu(x: Array) -> Array:
    return x / 2 * (1 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2)))


def tanh_gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("shape", [(2, 3, 8), (5,), (0, 4)])
def test_gelu(shape: tuple[int, ...]) -> None:
    check("Gelu", gelu, [3 * normal(*shape)])


@pytest.mark.parametrize("shape", [(2, 3, 8), (4, 8), (1, 8)])
def test_bias_gelu(shape: tuple[int, ...]) -> None:
    check("BiasGelu", lambda a, b: gelu(a + b), [normal(*shape), normal(8, seed=1)])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 8), (4, 8)])
def test_fast_gelu(shape: tuple[int, ...], bias: bool) -> None:
    inputs = [2 * normal(*shape)] + [normal(8, seed=1)] * bias
    check("FastGelu", lambda x, b=0: tanh_gelu(x + b), inputs)


@pytest.mark.parametrize("alpha", [None, 1.0, -0.5])
def test_quick_gelu(alpha: float | None) -> None:
    factor = 1.702 if alpha is None else alpha
    attributes = {} if alpha is None else {"alpha": alpha}
    check("QuickGelu", lambda x: x / (1 + np.exp(-factor * x)), [normal(3, 7)], attributes)


def test_bias_split_gelu() -> None:
    def reference(x: Array, bias: Array) -> Array:
        left, right = np.split(x + bias, 2, -1)
        return left * gelu(right)

    check("BiasSplitGelu", reference, [normal(2, 3, 8), normal(8, seed=1)])


def test_bias_add() -> None:
    inputs = [normal(2, 3, 8), normal(8, seed=1), normal(2, 3, 8, seed=2)]
    check("BiasAdd", lambda x, bias, skip: x + bias + skip, inputs)


@pytest.mark.parametrize(
    "op_type, inputs",
    [
        ("Gelu", [normal(2, 8)]),
        ("BiasGelu", [normal(2, 8), normal(8)]),
        ("FastGelu", [normal(2, 8), normal(8)]),
        ("QuickGelu", [normal(2, 8)]),
    ],
)
def test_is_one_kernel(op_type: str, inputs: list[Any]) -> None:
    assert len(operators(session(model_of(op_type, inputs)))) == 1
