# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

import bascule
from bascule.errors import InvalidGraph
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, check, feeds_of, model_of, normal, session


def path(costs: Array) -> Array:
    """Of the lowest cost; of equal ways, the one that comes from the left."""
    costs = costs.reshape(costs.shape[-2:])
    rows, columns = costs.shape
    sums = np.full((rows + 1, columns + 1), np.inf)
    sums[0, 0] = 0
    steps = {}
    for i in range(rows):
        for j in range(columns):
            diagonal, down, right = sums[i, j], sums[i, j + 1], sums[i + 1, j]
            step = (0, 1, right)
            if diagonal < min(down, right):
                step = (1, 1, diagonal)
            elif down < min(diagonal, right):
                step = (1, 0, down)
            steps[i, j] = step[:2]
            sums[i + 1, j + 1] = costs[i, j] + step[2]
    point, points = (rows - 1, columns - 1), []
    while min(point) >= 0:
        points.append(point)
        point = (point[0] - steps[point][0], point[1] - steps[point][1])
    return np.array(points[::-1], dtype=np.int32).T


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 7), (7, 4), (1, 6, 6)])
@pytest.mark.parametrize("ties", [False, True])
def test_dynamic_time_warping(shape: tuple[int, ...], ties: bool) -> None:
    costs = normal(*shape, seed=3)
    if ties:
        costs = np.round(costs)
    check("DynamicTimeWarping", path, [costs], dtypes=[np.float32])


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_on_the_device() -> None:
    content = model_of("DynamicTimeWarping", [normal(5, 6)]).SerializeToString()
    [expected] = bascule.InferenceSession(content).run(None, feeds_of([normal(5, 6)]))
    [found] = EmulatedSession(content).run(None, feeds_of([normal(5, 6)]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3), (1, 1, 3, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidGraph, match="expected a matrix or a batch of one"):
        session(model_of("DynamicTimeWarping", [normal(*shape)]))
