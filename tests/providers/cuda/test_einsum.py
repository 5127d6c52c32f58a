# SPDX-License-Identifier: Apache-2.0
"""Einsum and Det of the CUDA provider, on the emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule import errors
from tests.support import cuda_emulation
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

ERRORS = {"float32": 1e-5, "float64": 1e-13, "float16": 2e-3}

CASES = [
    ("ij,jk->ik", [(3, 4), (4, 5)]),
    ("ij,jk", [(3, 4), (4, 5)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ("bqhd,bkhd->bhqk", [(2, 4, 3, 5), (2, 6, 3, 5)]),
    ("bhqk,bkhd->bqhd", [(2, 3, 4, 6), (2, 6, 3, 5)]),
    ("...ij,...jk->...ik", [(2, 3, 4, 5), (3, 5, 6)]),
    ("...ij,...jk->...ik", [(2, 1, 4, 5), (3, 5, 6)]),
    ("ii->i", [(4, 4)]),
    ("ii", [(4, 4)]),
    ("ij->ji", [(3, 4)]),
    ("ij->i", [(3, 4)]),
    ("ij->", [(3, 4)]),
    ("ij->ij", [(3, 4)]),
    ("i,j->ij", [(3,), (4,)]),
    ("i,i->", [(5,), (5,)]),
    ("ij,k->jk", [(3, 4), (5,)]),
    ("iji,jk->ki", [(3, 4, 3), (4, 5)]),
    ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 2)]),
    ("ab,bc,cd,de->ae", [(2, 3), (3, 4), (4, 5), (5, 6)]),
    ("a...,...->a...", [(2, 3, 4), (3, 4)]),
    ("ij,jk->ik", [(3, 0), (0, 4)]),
    ("ij,jk->ik", [(0, 3), (3, 4)]),
    (",ij->ji", [(), (2, 3)]),
]


@pytest.mark.parametrize("equation,shapes", CASES)
@pytest.mark.parametrize("dtype", sorted(ERRORS))
def test_einsum(equation: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    (y,) = run_node("Einsum", inputs, {"equation": equation})
    expected = np.einsum(equation, *(x.astype("float64") for x in inputs))
    assert y.dtype == dtype and y.shape == expected.shape
    np.testing.assert_allclose(
        y.astype("float64"), expected, rtol=ERRORS[dtype], atol=ERRORS[dtype]
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("equation,shapes", [CASES[4], CASES[11], CASES[18]])
def test_einsum_of_integers(dtype: str, equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(2)
    inputs = [rng.integers(0, 100, shape).astype(dtype) for shape in shapes]
    (y,) = run_node("Einsum", inputs, {"equation": equation})
    expected: Any = np.einsum(equation, *(x.astype("int64") for x in inputs))
    np.testing.assert_array_equal(y, expected.astype(dtype))


def test_wrong_shapes_are_refused() -> None:
    x, w = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    with pytest.raises(errors.Fail, match="axis 0 of input 1 has size 4"):
        run_node("Einsum", [x, w], {"equation": "ij,jk->ik"})


@pytest.mark.parametrize("dtype", sorted(ERRORS))
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 3, 5, 5), (20, 20), (2, 0, 0), (0, 3, 3)])
def test_determinant(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).normal(size=shape).astype(dtype)
    if len(shape) == 4:
        x[0, 0] = 0
        x[1, 0, :, 0] = x[1, 0, :, 1]  # singular, with a pivot that is found late
    x = x / np.asarray(2, dtype)
    (y,) = run_node("Det", [x])
    expected = np.linalg.det(x.astype("float64"))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype("float64"), expected, rtol=ERRORS[dtype], atol=1e-6)
