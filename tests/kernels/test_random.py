# SPDX-License-Identifier: Apache-2.0
"""Random operators: distributions, seeds, and equal numbers on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidArgument
from bascule.ir.dtype import DataType
from bascule.native import _native
from tests.support.native import compile_graph, node_graph, run_node

SIZE = 100_000


def draws(op_type: str, attributes: dict[str, Any], *inputs: np.ndarray, runs: int = 1) -> Any:
    return run_node(op_type, list(inputs), attributes, runs=runs)[0]


@pytest.mark.parametrize("dtype", [1, 11, 10, 16])
def test_normal(dtype: int) -> None:
    x = draws("RandomNormal", {"shape": [SIZE], "mean": 3.0, "scale": 2.0, "dtype": dtype})
    x = x.astype(np.float64)
    assert abs(x.mean() - 3) < 0.05
    assert abs(x.std() - 2) < 0.05
    # Skewness and kurtosis of a normal distribution: 0 and 3.
    z = (x - x.mean()) / x.std()
    assert abs((z**3).mean()) < 0.06
    assert abs((z**4).mean() - 3) < 0.15
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("dtype", [1, 11])
def test_uniform(dtype: int) -> None:
    x = draws("RandomUniform", {"shape": [SIZE], "low": -1.0, "high": 3.0, "dtype": dtype})
    counts, _ = np.histogram(x, 16, (-1, 3))
    assert counts.sum() == SIZE
    assert abs(counts / SIZE * 16 - 1).max() < 0.06


def test_like() -> None:
    x = np.zeros((3, 5), np.float64)
    assert draws("RandomNormalLike", {}, x).dtype == np.float64
    assert draws("RandomUniformLike", {"dtype": 1}, x).dtype == np.float32
    assert draws("RandomUniformLike", {}, x).shape == (3, 5)


def test_seeds() -> None:
    attributes = {"shape": [50], "seed": 7.0}
    first = draws("RandomUniform", attributes)
    assert (first == draws("RandomUniform", attributes)).all()
    assert (first == draws("RandomUniform", attributes, runs=2)).all()
    assert (first != draws("RandomUniform", {"shape": [50], "seed": 8.0})).any()


def test_without_a_seed() -> None:
    unseeded = {"shape": [50]}
    assert (draws("RandomUniform", unseeded) != draws("RandomUniform", unseeded)).any()
    _native.set_random_seed(5)
    pair = [draws("RandomUniform", unseeded) for _ in range(2)]
    _native.set_random_seed(5)
    again = [draws("RandomUniform", unseeded) for _ in range(2)]
    assert np.array_equal(pair, again)
    assert (pair[0] != pair[1]).any()
    _native.set_random_seed(5)
    assert (pair[0] != draws("RandomUniform", unseeded, runs=2)).any()
    # NaN stands for no seed.
    nan = {"shape": [50], "seed": float("nan")}
    assert (draws("RandomUniform", nan) != draws("RandomUniform", nan)).any()


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**24])
def test_seeded_draws_are_those_of_the_reference(seed: int) -> None:
    """That is, of NumPy's legacy generator: bit by bit, but for a rounding of 16-bit types."""
    for dtype, ulps in ((np.float64, 0), (np.float32, 0), (np.float16, 1)):
        common = {"seed": float(seed), "shape": [333], "dtype": int(DataType.from_numpy(dtype))}
        low, high = np.float32(-1.5), np.float32(2.3)
        expected = np.random.RandomState(seed).rand(333).astype(dtype)
        expected = expected * dtype(float(high) - float(low)) + dtype(low)
        actual = draws("RandomUniform", {**common, "low": float(low), "high": float(high)})
        np.testing.assert_array_max_ulp(actual, expected, ulps)
        expected = np.random.RandomState(seed).randn(333).astype(dtype)
        expected = expected * dtype(high) + dtype(low)
        actual = draws("RandomNormal", {**common, "mean": float(low), "scale": float(high)})
        np.testing.assert_array_max_ulp(actual, expected, ulps)
    p = np.random.RandomState(3).rand(3000)
    p[[1, 5]] = 0, 1
    actual = draws("Bernoulli", {"seed": float(seed), "dtype": 7}, p)
    assert (actual == np.random.RandomState(seed).binomial(1, p)).all()


@pytest.mark.parametrize("seed", [0, 42, 2**31, 2**32 - 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_seeded_dropout_is_that_of_the_reference(seed: int, dtype: type) -> None:
    x = np.arange(1, 601, dtype=dtype).reshape(20, 30)
    ratio = np.array(0.3, np.float32)
    y, mask = run_node("Dropout", [x, ratio, np.array(True)], {"seed": seed}, outputs=2, runs=2)
    assert (mask == (np.random.RandomState(seed).uniform(0, 1, x.shape) >= ratio)).all()
    np.testing.assert_allclose(
        y, mask * x / (1 - ratio), rtol=1e-3 if dtype is np.float16 else 1e-6
    )


def test_seeds_beyond_32_bits() -> None:
    """The reference refuses them; here they differ from each other."""
    x, training = np.ones(64, np.float32), np.array(True)
    seeds = [-1, -2, 2**32, 2**32 + 1, 2**40, 2**63 - 1, -(2**63), 0, 1]
    masks = {run_node("Dropout", [x, None, training], {"seed": s})[0].tobytes() for s in seeds}
    assert len(masks) == len(seeds)
    for seed in (-3.5, 1e10, 3e38, float("inf"), -float("inf")):
        draws("RandomUniform", {"shape": [2], "seed": seed})


@pytest.mark.parametrize("seed", [{}, {"seed": 1.0}])
def test_threads_draw_the_same_numbers(seed: dict[str, float]) -> None:
    for op_type in ("RandomNormal", "RandomUniform"):
        results = []
        for threads in (1, 3):
            _native.set_random_seed(9)
            graph = node_graph(op_type, [], {"shape": [10_001], **seed})
            results.append(compile_graph(graph, threads).run_values([], [])[0])
        assert (results[0] == results[1]).all()


def test_bernoulli() -> None:
    p = np.repeat(np.array([0, 0.25, 1], np.float32), SIZE // 4)
    x = draws("Bernoulli", {"dtype": 7}, p).reshape(3, -1)
    assert x.dtype == np.int64
    assert x[0].max() == 0
    assert x[2].min() == 1
    assert abs(x[1].mean() - 0.25) < 0.01


def test_multinomial() -> None:
    p = np.array([[0.1, 0.2, 0.0, 0.7], [0, 0, 1, 0]])
    with np.errstate(divide="ignore"):
        x = draws("Multinomial", {"sample_size": SIZE // 4, "dtype": 7}, np.log(p * 3))
    shares = np.stack([np.bincount(row, minlength=4) for row in x]) / (SIZE // 4)
    assert abs(shares - p).max() < 0.02
    assert shares[0, 2] == 0


def test_dropout() -> None:
    x = np.arange(1, SIZE + 1, dtype=np.float32)
    y, mask = run_node("Dropout", [x, np.array(0.25, np.float32), np.array(True)], outputs=2)
    assert mask.dtype == np.bool_
    assert abs(mask.mean() - 0.75) < 0.01
    assert (y[~mask] == 0).all()
    np.testing.assert_allclose(y[mask], x[mask] / 0.75, rtol=1e-6)
    for rest in ([], [np.array(0.25, np.float32)], [np.array(0, np.float32), np.array(True)]):
        y, mask = run_node("Dropout", [x, *rest], outputs=2)
        assert (y == x).all()
        assert mask.all()
    with pytest.raises(InvalidArgument):
        run_node("Dropout", [x, np.array(1.5, np.float32), np.array(True)])
