# SPDX-License-Identifier: Apache-2.0
"""MatMul of the standard and of domain `bascule` against NumPy in float64."""

from __future__ import annotations

from math import erf
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from bascule.providers.cpu.choice import Choice
from tests.support.native import compile_graph, node_graph, run_node

TOLERANCE = {
    np.dtype(np.float32): 2e-6,
    np.dtype(np.float64): 1e-14,
    np.dtype(np.float16): 1e-3,
    np.dtype(ml_dtypes.bfloat16): 8e-3,
}


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(
    actual: np.ndarray,
    expected: np.ndarray,
    dtype: Any = np.float32,
    tolerance: float | None = None,
) -> None:
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    largest = np.abs(expected).max(initial=1.0)
    error = np.abs(actual.astype(np.float64) - expected).max(initial=0.0)
    assert error <= (tolerance or TOLERANCE[np.dtype(dtype)]) * largest


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


@pytest.mark.parametrize("constants", [(), (1,)])
@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 13, 14, 15, 29, 150])
@pytest.mark.parametrize("n", [1, 7, 16, 17, 32, 33, 100])
def test_every_tile_height_and_edge(m: int, n: int, constants: tuple[int, ...]) -> None:
    a, b = normal(m, 37), normal(37, n, seed=1)
    check(run_node("MatMul", [a, b], constants=constants)[0], wide(a) @ wide(b))


@pytest.mark.parametrize("k", [0, 1, 511, 512, 513, 1024, 2100])
@pytest.mark.parametrize("m", [2, 160])
def test_blocks_of_k(k: int, m: int) -> None:
    a, b = normal(m, k), normal(k, 70, seed=1)
    for threads, runs in ((1, 1), (2, 2)):
        actual = run_node("MatMul", [a, b], threads=threads, runs=runs, constants=(1,))[0]
        check(actual, wide(a) @ wide(b))


SHAPES = [
    ((4,), (4,)),
    ((4,), (4, 3)),
    ((3, 4), (4,)),
    ((5, 3, 4), (4,)),
    ((4,), (5, 4, 3)),
    ((5, 3, 4), (4, 6)),
    ((3, 4), (5, 4, 6)),
    ((2, 1, 3, 4), (5, 4, 6)),
    ((2, 5, 3, 4), (2, 5, 4, 6)),
    ((2, 5, 20, 4), (2, 5, 4, 40)),
    ((2, 1, 20, 4), (1, 5, 4, 40)),
    ((1, 1, 20, 4), (3, 2, 4, 40)),
    ((0, 3, 4), (4, 6)),
    ((2, 3, 0), (0, 6)),
    ((2, 0, 4), (4, 6)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shapes", SHAPES)
def test_broadcasting(shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: Any) -> None:
    a, b = normal(*shapes[0], dtype=dtype), normal(*shapes[1], seed=1, dtype=dtype)
    expected = np.asarray(wide(a) @ wide(b))
    for constants in ((), (1,), (0, 1)):
        for threads, runs in ((1, 1), (2, 2)):
            inputs = [a, b]
            actual = run_node("MatMul", inputs, constants=constants, threads=threads, runs=runs)
            check(np.asarray(actual[0]), expected, dtype)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integers(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 1 << 31, (2, 5, 9)).astype(dtype)
    b = rng.integers(0, 1 << 31, (9, 7)).astype(dtype)
    actual = run_node("MatMul", [a, b])[0]
    assert actual.dtype == dtype
    assert (actual == a @ b).all()
    swapped = np.ascontiguousarray(b.T)
    fused = run_node("MatMul", [a, swapped], {"transB": 1}, domain="bascule")[0]
    assert (fused == a @ b).all()


@pytest.mark.parametrize("constants", [(), (1,)])
@pytest.mark.parametrize("shape", [(1, 40, 50), (23, 40, 50), (64, 768, 300)])
def test_same_bits_for_any_rows_and_threads(
    shape: tuple[int, int, int], constants: tuple[int, ...]
) -> None:
    m, k, n = shape
    a, b = normal(m, k), normal(k, n, seed=1)
    whole = run_node("MatMul", [a, b], constants=constants)[0]
    for threads in (2, 3, 4):
        again = run_node("MatMul", [a, b], constants=constants, threads=threads)[0]
        assert (again == whole).all()
    for row in (0, m // 2, m - 1):
        alone = run_node("MatMul", [a[row : row + 1], b], constants=constants)[0]
        assert (alone[0] == whole[row]).all()
    batch = run_node("MatMul", [np.stack([a] * 5), np.stack([b] * 5)], threads=2)[0]
    assert (batch == whole).all()


@pytest.mark.parametrize("n", [70, 128, 2215])
def test_few_rows_have_the_bits_of_many(n: int) -> None:
    a, b = normal(20, 65), normal(65, n, seed=1)
    bias, residual = normal(n, seed=2), normal(20, n, seed=3)
    attributes = {"alpha": 0.5, "activation": "Gelu"}

    def product(rows: int) -> np.ndarray:
        inputs = [a[:rows], b, bias, residual[:rows]]
        run: dict[str, Any] = {"domain": "bascule", "constants": (1, 2), "threads": 2}
        return run_node("MatMul", inputs, attributes, **run)[0]

    whole = product(20)
    for rows in range(1, 8):
        assert (product(rows) == whole[:rows]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3, 4, 5, 66])
@pytest.mark.parametrize("n", [5, 21, 40])
def test_tiles_of_any_height_give_the_same_bits(n: int, k: int, dtype: Any) -> None:
    a, b = normal(29, k, dtype=dtype), normal(k, n, seed=1, dtype=dtype)
    (whole,) = run_node("MatMul", [a, b], constants=(1,))
    check(whole, wide(a) @ wide(b), dtype)
    for rows in range(1, 29):
        (some,) = run_node("MatMul", [a[:rows], b], constants=(1,))
        assert (some == whole[:rows]).all()


def test_special_values() -> None:
    a = np.array([[1, np.inf, 0], [np.nan, 1, 1], [0, 0, 0]], np.float32)
    b = np.array([[1, 2], [1, -1], [3, 4]], np.float32)
    for constants in ((), (1,)):
        actual = run_node("MatMul", [a, b], constants=constants)[0]
        expected = [[np.inf, -np.inf], [np.nan, np.nan], [0, 0]]
        np.testing.assert_array_equal(actual, np.array(expected, np.float32))


ACTIVATIONS = {
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "LeakyRelu": lambda x, a, b: np.where(x < 0, a * x, x),
    "Clip": lambda x, a, b: np.clip(x, a, b),
    "Gelu": lambda x, a, b: x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2))),
    "GeluTanh": lambda x, a, b: x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Swish": lambda x, a, b: x / (1 + np.exp(-a * x)),
    "HardSwish": lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x < 0, a * np.expm1(x), x),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("n", [9, 45])
def test_epilogue(name: str, n: int) -> None:
    a, b = normal(2, 17, 600), normal(600, n, seed=1) / 20
    bias, residual = normal(n, seed=2), normal(2, 17, n, seed=3)
    attributes = {
        "alpha": 0.5,
        "activation": name,
        "activation_alpha": 0.25,
        "activation_beta": 0.75,
    }
    total = 0.5 * (wide(a) @ wide(b)) + bias + residual
    expected = ACTIVATIONS[name](total, 0.25, 0.75)
    for constants in ((), (1, 2)):
        actual = run_node(
            "MatMul",
            [a, b, bias, residual],
            attributes,
            domain="bascule",
            constants=constants,
            threads=2,
            runs=2,
        )[0]
        check(actual, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("flags", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_transposed_operands(flags: tuple[int, int], dtype: Any) -> None:
    a, b = normal(3, 1, 20, 35, dtype=dtype), normal(2, 35, 41, seed=1, dtype=dtype)
    expected = wide(a) @ wide(b)
    given = [
        np.ascontiguousarray(x.swapaxes(-1, -2)) if flag else x for x, flag in zip((a, b), flags)
    ]
    attributes = {"transA": flags[0], "transB": flags[1]}
    for constants in ((), (1,)):
        for threads in (1, 2):
            actual = run_node(
                "MatMul",
                given,
                attributes,
                domain="bascule",
                constants=constants,
                threads=threads,
            )[0]
            check(actual, expected, dtype)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(Fail, match=r"3 columns .* 4 rows"):
        run_node("MatMul", [normal(2, 3), normal(4, 5)])
    with pytest.raises(Fail, match="scalar"):
        run_node("MatMul", [normal(), normal(4, 5)])
    with pytest.raises(Fail, match="bias has shape"):
        run_node("MatMul", [normal(2, 3), normal(3, 5), normal(4)], domain="bascule")
    with pytest.raises(Fail, match="residual has shape"):
        run_node("MatMul", [normal(2, 3), normal(3, 5), None, normal(5)], domain="bascule")


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
@pytest.mark.parametrize("constants", [(), (1,)])
@pytest.mark.parametrize(("m", "n"), [(1, 700), (2, 33), (150, 70), (37, 1000)])
def test_every_cut_gives_the_same_bits(op: str, constants: tuple[int, ...], m: int, n: int) -> None:
    a, b = normal(m, 513), normal(513, n, seed=1)
    (expected,) = run_node(op, [a, b], constants=constants, threads=1)
    check(expected, wide(a) @ wide(b))
    for cut in ("rows", "columns"):
        for threads in (2, 3, 4):
            graph = node_graph(op, [a, b], constants=constants, static=True)
            (node,) = graph
            Choice(cut).give(node)
            fed = [a] if constants else [a, b]
            (y,) = compile_graph(graph, threads=threads).run_values(fed, [])
            assert (y == expected).all()
