# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, check, feeds_of, model_of, normal, operators, session


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


def places(sections: list[int], layout: int) -> Array:
    """Which of the three positions of a token rotates each column."""
    columns = np.arange(sum(sections))
    if layout == 0:
        return np.repeat([0, 1, 2], sections)
    found = np.zeros_like(columns)
    for place in (1, 2):
        found[(columns % 3 == place) & (columns < 3 * sections[place])] = place
    return found


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("sections", [[3, 3, 2], [8, 0, 0], [2, 3, 3], [2, 0, 6]])
@pytest.mark.parametrize(
    "axes, attributes",
    [
        (3, {"num_heads": 3}),
        (3, {"num_heads": 3, "rotary_embedding_dim": 16}),
        (4, {}),
        (4, {"num_heads": 3, "rotary_embedding_dim": 16, "scale": 0.5, "is_packed_batching": 1}),
    ],
)
def test_three_positions(
    axes: int, attributes: dict[str, Any], sections: list[int], layout: int, interleaved: int
) -> None:
    size = 20 if "rotary_embedding_dim" in attributes else 16
    ids = np.random.default_rng(0).integers(0, 9, (3, 2, 5))

    def run(x: Array, ids: Array, cos: Array, sin: Array) -> Array:
        rows = x.swapaxes(1, 2) if axes == 4 else x.reshape(2, 5, 3, size)
        own = ids[places(sections, layout)]  # [columns, batch, tokens]
        columns = np.arange(8)[:, None, None]
        caches = (np.moveaxis(each[own, columns], 0, -1) for each in (cos, sin))
        # As many rows as tokens, each of which is looked up by its own number.
        flat = [attributes.get("scale", 1.0) * each.reshape(10, 8) for each in caches]
        y = rotated(rows, *flat, np.arange(10).reshape(2, 5), interleaved)
        return y.swapaxes(1, 2) if axes == 4 else y.reshape(x.shape)

    check(
        "MRotaryEmbedding",
        run,
        [normal(2, 3, 5, size) if axes == 4 else normal(2, 5, 3 * size), ids, *caches(9, 8)],
        {
            "mrope_section": sections,
            "mrope_layout": layout,
            "interleaved": interleaved,
            **attributes,
        },
        shapes=("static", "symbolic", "unknown") if axes == 3 else ("static", "symbolic"),
    )


@pytest.mark.parametrize(
    "changed, problem",
    [
        ({"mrope_section": [1, 2]}, "'mrope_section' is .*three numbers"),
        ({"mrope_section": [1, 2, 3]}, "'cos_cache' has 4 columns"),
        ({"mrope_layout": 2}, "'mrope_layout' is 2"),
        ({"num_heads": 0}, "needs attribute 'num_heads'"),
    ],
)
def test_three_positions_refused(changed: dict[str, Any], problem: str) -> None:
    attributes = {"mrope_section": [2, 1, 1], "num_heads": 3, **changed}
    inputs = [normal(2, 5, 24), np.zeros((3, 2, 5), np.int64), *caches(8, 4)]
    with pytest.raises(InvalidGraph, match=f"MRotaryEmbedding.*{problem}.*node"):
        session(model_of("MRotaryEmbedding", inputs, attributes))


def test_gemma() -> None:
    """No CPU elsewhere runs it; the angles are of one batch and position, for all heads."""
    angles = normal(2, 5, 8)
    inputs = [angles, *(normal(2, 3, 5, 8, seed=k, dtype=np.float16) for k in range(4))]
    cos, sin = (f(angles.astype(np.float64))[:, None] for f in (np.cos, np.sin))
    wide = [each.astype(np.float64) for each in inputs]
    expected = [wide[1] * cos + wide[2] * sin, wide[3] * cos + wide[4] * sin]
    for shapes in ("static", "unknown"):
        model = model_of("GemmaRotaryEmbedding", inputs, outputs=2, shapes=shapes)
        for made in (session(model), EmulatedSession(model.SerializeToString())):
            for found, wanted in zip(made.run(None, feeds_of(inputs)), expected, strict=True):
                assert found.dtype == np.float16
                np.testing.assert_allclose(found, wanted, rtol=4e-3, atol=8e-3)
