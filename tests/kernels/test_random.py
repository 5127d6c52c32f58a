# SPDX-License-Identifier: Apache-2.0
"""Random operators: distributions, seeds, and equal numbers on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidArgument
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
    assert (first != draws("RandomUniform", attributes, runs=2)).any()
    assert (first != draws("RandomUniform", {"shape": [50], "seed": 8.0})).any()
    unseeded = {"shape": [50]}
    assert (draws("RandomUniform", unseeded) != draws("RandomUniform", unseeded)).any()
    _native.set_random_seed(5)
    pair = [draws("RandomUniform", unseeded) for _ in range(2)]
    _native.set_random_seed(5)
    again = [draws("RandomUniform", unseeded) for _ in range(2)]
    assert np.array_equal(pair, again)
    assert (pair[0] != pair[1]).any()


def test_threads_draw_the_same_numbers() -> None:
    for op_type in ("RandomNormal", "RandomUniform"):
        graphs = [node_graph(op_type, [], {"shape": [10_001], "seed": 1.0}) for _ in range(2)]
        one, two = (compile_graph(g, n).run_values([], [])[0] for g, n in zip(graphs, (1, 3)))
        assert (one == two).all()


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
