# SPDX-License-Identifier: Apache-2.0
"""The public ONNX backend suite through InferenceSession: every case passes, at every level of
optimization, and every level gives what the graph gives as it stands.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import bascule
from bascule import GraphOptimizationLevel
from tests.support.suite import KINDS, Case, cases, compare

LEVELS = (
    GraphOptimizationLevel.ORT_DISABLE_ALL,
    GraphOptimizationLevel.ORT_ENABLE_BASIC,
    GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    GraphOptimizationLevel.ORT_ENABLE_ALL,
)

# Their outputs are random draws: what can be checked is shape, type and mean.
_RANDOM = ("test_bernoulli",)


_COARSE = np.dtype(np.float16).itemsize
"""Types narrower than this are spaced so widely that every level has to give the same."""


def run(case: Case, level: GraphOptimizationLevel) -> list[list[Any]]:
    """Run a case; raises when an output differs. Returns the outputs of each data set."""
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
                    compare_draws(actual, expected, inputs[0])
                else:
                    compare(actual, expected, case.rtol, case.atol)
        found.append(results)
    return found


def compare_draws(actual: Any, expected: Any, probabilities: Any) -> None:
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    p = np.asarray(probabilities, np.float64)
    spread = np.sqrt((p * (1 - p)).sum())
    assert abs(np.asarray(actual, np.float64).sum() - p.sum()) <= 5 * spread


def compare_levels(actual: Any, plain: Any) -> None:
    """Equal but for the rounding of sums in another order, or of fewer steps."""
    if isinstance(plain, list):
        assert len(actual) == len(plain)
        for one, other in zip(actual, plain):
            compare_levels(one, other)
        return
    if plain is None or not hasattr(plain, "dtype"):
        assert actual == plain
        return
    assert (actual.shape, actual.dtype) == (plain.shape, plain.dtype)
    if plain.dtype == object or plain.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, plain)
        return
    wide = np.complex128 if plain.dtype.kind == "c" else np.float64
    one, other = actual.astype(wide), plain.astype(wide)
    part = plain.real.dtype if plain.dtype.kind == "c" else plain.dtype
    bound = 64 * float(ml_dtypes.finfo(part).eps) if part.itemsize >= _COARSE else 0.0
    largest = np.abs(other[np.isfinite(other)]).max(initial=0)
    np.testing.assert_allclose(one, other, bound, bound * largest)


@pytest.mark.parametrize("case", [c for kind in KINDS for c in cases(kind)], ids=lambda c: c.name)
def test_case(case: Case) -> None:
    plain: list[list[Any]] = []
    for level in LEVELS:
        try:
            found = run(case, level)
            plain = plain or found
            if not case.name.startswith(_RANDOM):
                compare_levels(found, plain)
        except Exception as error:
            raise AssertionError(f"at {level.name}: {error}") from error
