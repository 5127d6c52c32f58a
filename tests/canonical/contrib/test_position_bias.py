# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, normal, session


@pytest.mark.parametrize("both", [0, 1])
@pytest.mark.parametrize("buckets, distance", [(8, 16), (32, 128)])
@pytest.mark.parametrize("length", [1, 7, 40])
def test_relative_position_bias(length: int, buckets: int, distance: int, both: int) -> None:
    def bucket(relative: int) -> int:
        count, offset = buckets, 0
        if both:
            count //= 2
            offset = count if relative > 0 else 0
            relative = abs(relative)
        else:
            relative = max(-relative, 0)
        exact = count // 2
        if relative < exact:
            return offset + relative
        far = math.log(relative / exact) / math.log(distance / exact) * (count - exact)
        return offset + min(exact + int(far + 1e-6), count - 1)

    def reference(table: Array, queries: Array, keys: Array) -> Array:
        table = table.reshape(table.shape[::-1])
        index = [[bucket(k - q) for k in range(int(keys[0]))] for q in range(int(queries[0]))]
        return table[:, index][None]

    inputs = [normal(buckets, 3), np.array([length]), np.array([length])]
    attributes = {"max_distance": distance, "is_bidirectional": both}
    check("RelativePositionBias", reference, inputs, attributes)


def test_gated_relative_position_bias() -> None:
    batch, rows, heads, size = 2, 4, 3, 8

    def reference(
        query: Array, own: Array, positions: Array, weight: Array, bias: Array, eco: Array
    ) -> Array:
        split = (query + own).reshape(batch, rows, heads, size).swapaxes(1, 2)
        gates = (split @ weight + bias).reshape(batch, heads, rows, 2, -1).sum(-1)
        update, reset = np.split(1 / (1 + np.exp(-gates)), 2, -1)
        return (update * (reset * eco - 1) + 2) * positions

    inputs = [
        normal(batch, rows, heads * size),
        normal(heads * size, seed=1),
        normal(1, heads, rows, rows, seed=2),
        normal(size, 8, seed=3) / np.float32(4),
        normal(8, seed=4),
        normal(1, heads, 1, 1, seed=5),
    ]
    check("GatedRelativePositionBias", reference, inputs, {"num_heads": heads})


def test_distance_is_refused() -> None:
    inputs = [normal(8, 3), np.array([4]), np.array([4])]
    with pytest.raises(InvalidGraph, match="'max_distance' is 0"):
        session(model_of("RelativePositionBias", inputs, {"max_distance": 0}))
