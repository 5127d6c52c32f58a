# SPDX-License-Identifier: Apache-2.0
"""The public ONNX backend suite through InferenceSession: every case passes at every level."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import bascule
from bascule import GraphOptimizationLevel as Level
from tests.support.suite import KINDS, Case, cases, compare

LEVELS = (
    Level.ORT_DISABLE_ALL,
    Level.ORT_ENABLE_BASIC,
    Level.ORT_ENABLE_EXTENDED,
    Level.ORT_ENABLE_ALL,
)

# Their outputs are random draws: shape, type and range are what can be checked.
_RANDOM = ("test_bernoulli",)

_EPSILON = {
    "float64": 2.0**-52,
    "complex128": 2.0**-52,
    "float32": 2.0**-23,
    "complex64": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}


def tolerance(case: Case, level: Level, expected: Any) -> float:
    """The suite's own; of float16, where no fusion keeps intermediate results from being rounded,
    at least two spacings, which is also what the suite's expected values are off by.
    """
    if level < Level.ORT_ENABLE_EXTENDED and getattr(expected, "dtype", None) == np.float16:
        return max(case.rtol, 2 * _EPSILON["float16"])
    return case.rtol


def run(case: Case, level: Level) -> list[list[Any]]:
    """The outputs of each data set; raises when one differs from what the suite expects."""
    data, sets = case.read()
    options = bascule.SessionOptions()
    options.graph_optimization_level = level
    session = bascule.InferenceSession(data, options)
    names = [arg.name for arg in session.get_inputs()]
    found = []
    for inputs, outputs in sets:
        feeds = {name: value for name, value in zip(names, inputs) if value is not None}
        # The memory plan made in the first run serves the second.
        for _ in range(2):
            results = session.run(None, feeds)
            assert len(results) == len(outputs)
            for actual, expected in zip(results, outputs):
                if case.name.startswith(_RANDOM):
                    assert actual.shape == expected.shape
                    assert actual.dtype == expected.dtype
                else:
                    compare(actual, expected, tolerance(case, level, expected), case.atol)
        found.append(results)
    return found


@functools.lru_cache(maxsize=8)
def unoptimized(case: Case) -> list[list[Any]]:
    return run(case, Level.ORT_DISABLE_ALL)


def assert_rounded_alike(actual: Any, expected: Any) -> None:
    """Both have the same type and shape, and the same numbers but for rounding.

    Optimizing changes the order of sums, so what may differ is relative to the largest element.
    """
    assert type(actual) is type(expected)
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected):
            assert_rounded_alike(one, other)
        return
    if not isinstance(expected, np.ndarray):
        assert actual == expected
        return
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if expected.dtype == object:
        assert actual.tolist() == expected.tolist()
        return
    epsilon = _EPSILON.get(expected.dtype.name)
    if epsilon is None:
        assert actual.tobytes() == expected.tobytes()
        return
    actual, expected = actual.astype(np.complex128), expected.astype(np.complex128)
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(actual, expected, 0, 8 * epsilon * largest)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize("case", [c for kind in KINDS for c in cases(kind)], ids=lambda c: c.name)
def test_case(case: Case, level: Level) -> None:
    expected = unoptimized(case)
    if level is Level.ORT_DISABLE_ALL:
        return
    actual = run(case, level)
    if not case.name.startswith(_RANDOM):
        assert_rounded_alike(actual, expected)
