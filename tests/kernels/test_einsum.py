# SPDX-License-Identifier: Apache-2.0
"""Einsum against NumPy's in float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument
from tests.support.native import run_node

SIZES = {"a": 2, "b": 3, "c": 5, "h": 4, "i": 7, "j": 6, "k": 9, "d": 33}

EQUATIONS = [
    "ij,jk->ik",
    "ij,jk->ki",
    "ij,kj->ik",
    "ji,jk->ik",
    "bij,bjk->bik",
    "bhid,bhjd->bhij",
    "bihd,bjhd->bhij",
    "bhij,bjhd->bihd",
    "i,j->ij",
    "i,j->ji",
    "i,i->",
    "i,i->i",
    "i,i",
    "ij->ji",
    "ij->",
    "ij->j",
    "ii->i",
    "ii->",
    "iji->j",
    "iij,jk->ik",
    "b,bij->bij",
    "ij,k->",
    "ij,jk,kd->id",
    "i,ij,j->",
    "ab,bc,ca->",
    "ij,ik,id->jkd",
    "abcd,cdi->abi",
    "kij , jd -> kid",
    "ba",
    "cab,bc",
    "ijk,ijk->i",
]


def arrays(equation: str, dtype: Any = np.float32) -> list[np.ndarray]:
    terms = equation.split("->")[0].replace(" ", "").split(",")
    random = np.random.default_rng(0)
    return [random.standard_normal([SIZES[x] for x in term]).astype(dtype) for term in terms]


def check(equation: str, inputs: list[np.ndarray], tolerance: float = 3e-6) -> None:
    expected = np.einsum(equation, *(x.astype(np.float64) for x in inputs))
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    for threads in (1, 2):
        y = run_node("Einsum", inputs, {"equation": equation}, threads=threads, runs=threads)[0]
        assert y.dtype == inputs[0].dtype
        assert y.shape == expected.shape
        np.testing.assert_allclose(y.astype(np.float64), expected, tolerance, tolerance * scale)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equations(equation: str) -> None:
    check(equation, arrays(equation))


@pytest.mark.parametrize(
    "equation, shapes",
    [
        ("...ij,...jk->...ik", [(2, 3, 4, 5), (3, 5, 6)]),
        ("...ij,...jk", [(2, 3, 4, 5), (5, 6)]),
        ("...ij,jk->ik...", [(2, 3, 4, 5), (5, 6)]),
        ("i...->...", [(3, 4, 5)]),
        ("...,...->...", [(2, 1, 5), (4, 1)]),
        ("...i,i->...", [(2, 3, 4), (4,)]),
        ("i...j->ji...", [(3, 4)]),
        ("...", [(2, 3)]),
        ("ij,jk->ik", [(2, 0), (0, 3)]),
        ("ij,jk->ik", [(0, 2), (2, 3)]),
        ("i->", [(0,)]),
        ("bhwc,hkc->bhwk", [(2, 5, 5, 16), (5, 7, 16)]),
        (",i->i", [(), (3,)]),
        ("->", [()]),
    ],
)
def test_ellipsis_and_empty(equation: str, shapes: list[tuple[int, ...]]) -> None:
    random = np.random.default_rng(0)
    check(equation, [random.standard_normal(s).astype(np.float32) for s in shapes])


@pytest.mark.parametrize(
    "dtype, tolerance", [(np.float64, 1e-13), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("equation", ["bij,bjk->bik", "ij,kj", "ij->i", "i,i->"])
def test_floats(dtype: Any, tolerance: float, equation: str) -> None:
    check(equation, arrays(equation, dtype), tolerance)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("width", [0, 1, 7, 8, 15, 16, 17, 33, 100])
def test_halves_are_rounded_once(dtype: Any, width: int) -> None:
    random = np.random.default_rng(width)
    x = random.standard_normal((5, width)).astype(dtype)
    scale = np.array([2.0], dtype)
    for equation, inputs in [
        ("ij->ji", [x]),
        ("ij,k->ji", [x, scale]),
        ("ij,kj->ik", [x, x]),
        ("ij,kj,il->lk", [x, x, x]),
    ]:
        tolerance = 2 * float(ml_dtypes.finfo(dtype).eps)
        check(equation, inputs, tolerance)
    [moved] = run_node("Einsum", [x], {"equation": "ij->ji"})
    assert moved.tobytes() == np.ascontiguousarray(x.T).tobytes()
    special = np.array([[np.inf, -0.0, 60000.0, 1e-7]]).astype(dtype)
    [y] = run_node("Einsum", [special, scale], {"equation": "ij,k->ij"})
    with np.errstate(over="ignore"):
        assert (y == (special.astype(np.float32) * 2).astype(dtype)).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij->i", "i,i->", "i,j->ij"])
def test_integers_wrap_around(dtype: Any, equation: str) -> None:
    random = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    inputs = [
        random.integers(limits.min, limits.max, x.shape, dtype, endpoint=True)
        for x in arrays(equation)
    ]
    y = run_node("Einsum", inputs, {"equation": equation})[0]
    with np.errstate(over="ignore"):
        expected = np.einsum(equation, *(x.astype(np.uint64) for x in inputs)).astype(dtype)
    assert np.array_equal(y, expected)


def test_errors() -> None:
    x = np.ones((2, 3), np.float32)
    for equation in ("i.j->ij", "ij->ik", "ij->ii", "i-j"):
        with pytest.raises(InvalidArgument, match="equation"):
            run_node("Einsum", [x], {"equation": equation})
    with pytest.raises(InvalidArgument, match="2 terms"):
        run_node("Einsum", [x], {"equation": "ij,j"})
    with pytest.raises(Fail, match="does not fit its term"):
        run_node("Einsum", [x], {"equation": "ijk->i"})
    with pytest.raises(Fail, match="another axis"):
        run_node("Einsum", [x, x], {"equation": "ij,jk"})
