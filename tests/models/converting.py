# SPDX-License-Identifier: Apache-2.0
"""What the tests of converted models share: data, conversion, and the bounds of equality."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import bascule

Array = np.ndarray[Any, Any]

OPSETS = {"": 21, "ai.onnx.ml": 3}
COLUMNS = 6
SINGLE, DOUBLE = np.float32, np.float64

_rng = np.random.default_rng(0)
X = _rng.normal(size=(150, COLUMNS)).astype(SINGLE)
T = _rng.normal(size=(60, COLUMNS)).astype(SINGLE)
_weights = _rng.normal(size=(COLUMNS, 3))
_noisy = X @ _weights + 0.3 * _rng.normal(size=(150, 3))
TWO = (_noisy[:, 0] > 0).astype(int)
THREE = np.argmax(_noisy, 1)
NAMES = np.array(["red", "green", "blue"])[THREE]
NUMBER = X @ _weights[:, 0] + np.sin(X[:, 1])
NUMBERS = np.stack([NUMBER, X @ _weights[:, 1]], 1)
BOTH = np.stack([TWO, THREE], 1)


def with_gaps(x: Array, seed: int) -> Array:
    return np.where(np.random.default_rng(seed).random(x.shape) < 0.1, np.nan, x).astype(SINGLE)


X_GAPS, T_GAPS = with_gaps(X, 1), with_gaps(T, 2)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Around calls of the libraries: they warn of little data and of their own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fit(estimator: Any, x: Array, y: Array | None = None) -> Any:
    with quiet():
        return estimator.fit(x, y)


def expect(estimator: Any, functions: tuple[Any, ...], x: Array) -> list[Any]:
    """What the library itself says; a function is a method's name, or takes (estimator, x)."""
    with quiet():
        return [
            getattr(estimator, f)(x) if isinstance(f, str) else f(estimator, x) for f in functions
        ]


def convert(
    estimator: Any, types: list[tuple[str, Any]], options: Any = None, opsets: Any = OPSETS
) -> bytes:
    """The model that skl2onnx makes; `options` are those of `estimator`."""
    import skl2onnx

    with quiet():
        model = skl2onnx.to_onnx(
            estimator,
            initial_types=types,
            options={id(estimator): options} if options else None,
            target_opset=opsets,
        )
    data: bytes = model.SerializeToString()
    return data


def predict(model: bytes, feeds: dict[str, Any]) -> list[Any]:
    results: list[Any] = bascule.InferenceSession(model).run(None, feeds)
    return results


def assert_same(actual: list[Any], expected: list[Any], dtype: Any) -> None:
    """Equal labels, and scores within the bound of their type."""
    assert len(actual) >= len(expected) > 0
    for one, wanted in zip(actual, expected):
        assert_close(one, wanted, dtype)


def assert_close(actual: Any, expected: Any, dtype: Any = SINGLE) -> None:
    """Equal labels, or scores of which no column is off by more than the bound of its largest."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    actual = actual.reshape(expected.shape)  # some converters make columns of vectors
    if expected.dtype.kind in "iubOUS":
        np.testing.assert_array_equal(actual, expected)
        return
    bound = 1e-12 if dtype == DOUBLE else 1e-6
    assert np.isfinite(expected).all()
    off, scale = np.abs(actual - expected).max(0), np.abs(expected).max(0)
    assert (off <= bound * scale).all(), f"{np.max(off / scale):.1e} of the largest"
