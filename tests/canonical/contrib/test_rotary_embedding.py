# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .comparison import Array, check, model_of, normal, operators, session


def caches(positions: int, half: int) -> list[Array]:
    angles = np.arange(positions)[:, None] / 10.0 ** (np.arange(half) / half)
    return [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]


def rotated(x: Array, cos: Array, sin: Array, ids: Array, interleaved: int) -> Array:
    """x is [batch, rows, heads, size]; as much as the caches say of each head is rotated."""
    half = cos.shape[1]
    c, s = cos[ids][:, :, None], sin[ids][:, :, None]
    y = x.copy()
    if interleaved:
        first, second = x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]
        y[..., 0 : 2 * half : 2] = first * c - second * s
        y[..., 1 : 2 * half : 2] = first * s + second * c
    else:
        first, second = x[..., :half], x[..., half : 2 * half]
        y[..., :half] = first * c - second * s
        y[..., half : 2 * half] = first * s + second * c
    return y


def reference(heads: int, interleaved: int) -> Any:
    def run(x: Array, ids: Array, cos: Array, sin: Array) -> Array:
        rows = x.swapaxes(1, 2) if x.ndim == 4 else x.reshape(*x.shape[:2], heads, -1)
        if ids.ndim == 1:
            ids = np.broadcast_to(ids[0] + np.arange(rows.shape[1]), rows.shape[:2])
        y = rotated(rows, cos, sin, ids, interleaved)
        return y.swapaxes(1, 2) if x.ndim == 4 else y.reshape(x.shape)

    return run


IDS = np.array([[0, 1, 2, 3, 4], [3, 4, 5, 1, 7]])


@pytest.mark.parametrize("ids", [IDS, np.array([2])])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(
    "attributes, half", [({}, 4), ({"num_heads": 3}, 4), ({"num_heads": 3, "partial": 4}, 2)]
)
def test_three_axes(ids: Array, interleaved: int, attributes: dict[str, int], half: int) -> None:
    attributes = {**attributes, "interleaved": interleaved}
    if "partial" in attributes:
        attributes["rotary_embedding_dim"] = attributes.pop("partial")
    inputs = [normal(2, 5, 24), ids, *caches(8, half)]
    check(
        "RotaryEmbedding",
        reference(3, interleaved),
        inputs,
        attributes,
        shapes=("static", "symbolic", "unknown") if ids.ndim == 2 else ("static", "symbolic"),
        elsewhere="rotary_embedding_dim" not in attributes,  # takes only sizes of a multiple of 16
    )


@pytest.mark.parametrize("ids", [IDS, np.array([2])])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_four_axes(ids: Array, interleaved: int) -> None:
    check(
        "RotaryEmbedding",
        reference(3, interleaved),
        [normal(2, 3, 5, 8), ids, *caches(8, 4)],
        {"interleaved": interleaved, "scale": 2.0, "is_packed_batching": 1},
        shapes=("static", "symbolic"),
    )


def test_is_one_kernel() -> None:
    inputs = [normal(2, 5, 24), IDS, *caches(8, 4)]
    made = session(model_of("RotaryEmbedding", inputs, constants=[2, 3]))
    assert operators(made) == ["RotaryEmbedding"]
