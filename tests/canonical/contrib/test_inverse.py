# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from bascule.options import GraphOptimizationLevel as Level

from .comparison import check, feeds_of, model_of, normal, session


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4, 4), (2, 3, 5, 5), (0, 3, 3), (2, 0, 0)])
def test_inverse(shape: tuple[int, ...]) -> None:
    x = normal(*shape, seed=1) + 2 * np.eye(shape[-1], dtype=np.float32)
    shapes = ("static", "symbolic", "unknown")
    check("Inverse", np.linalg.inv, [x], shapes=shapes, elsewhere=x.size > 0, tolerance=4)


def test_rows_are_exchanged() -> None:
    x = np.array([[0, 2, 0], [0, 0, 4], [8, 0, 0]], np.float32)
    (y,) = session(model_of("Inverse", [x])).run(None, feeds_of([x]))
    np.testing.assert_array_equal(y, np.linalg.inv(x))


def test_double() -> None:
    x = normal(20, 20, dtype=np.float64)
    made = session(model_of("Inverse", [x]), Level.ORT_DISABLE_ALL)
    np.testing.assert_allclose(made.run(None, feeds_of([x]))[0] @ x, np.eye(20), atol=1e-12)


def test_singular_matrix_has_no_numbers() -> None:
    x = np.array([[1, 2], [2, 4]], np.float32)
    (y,) = session(model_of("Inverse", [x])).run(None, feeds_of([x]))
    assert not np.isfinite(y).any()
