# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .attending import added_mask, attend, bounds_mask, join_heads, split_heads
from .comparison import Array, check, model_of, normal, operators, session
from .test_rotary_embedding import rotated

BATCH, ROWS, HEADS, SIZE = 2, 3, 2, 8
HIDDEN = HEADS * SIZE


def inputs(
    mask: Array | None = None, past: Array | None = None, bias: Array | None = None, v: int = SIZE
) -> list[Array | None]:
    columns = 2 * HIDDEN + HEADS * v
    weights = normal(12, columns) / np.float32(3)
    return [normal(BATCH, ROWS, 12), weights, normal(columns, seed=1), mask, past, bias]


def reference(attributes: dict[str, Any]) -> Any:
    def run(
        x: Array, weights: Array, b: Any, mask: Any, past: Any, bias: Any, length: Any = None
    ) -> Any:
        sizes = attributes.get("qkv_hidden_sizes", [HIDDEN] * 3)
        packed = x @ weights + (0 if b is None else b)
        parts = np.split(packed, np.cumsum(sizes)[:2], -1)
        q, k, v = (split_heads(part, HEADS) for part in parts)
        before = 0 if past is None else past.shape[3] if length is None else int(length[0])
        if attributes.get("do_rotary"):
            table = [each.astype(np.float64) for each in caches_of(attributes)]
            ids = np.broadcast_to(before + np.arange(ROWS), (BATCH, ROWS))
            q, k = (rotated(each.swapaxes(1, 2), *table, ids, 0).swapaxes(1, 2) for each in (q, k))
        if past is not None:
            k, v = (np.concatenate([p[:, :, :before], new], 2) for p, new in zip(past, (k, v)))
        keys = k.shape[2]
        added: Any = 0.0 if bias is None else bias
        filter_value = attributes.get("mask_filter_value", -1e4)
        if mask is not None and mask.ndim == 1:
            added = added + bounds_mask(mask, BATCH, keys)
        elif mask is not None:
            added = added + added_mask(mask, ROWS, keys, before, filter_value)
        causal = bool(attributes.get("unidirectional"))
        y, _ = attend(q, k, v, added, causal, attributes.get("scale", 0.0), before)
        present = None
        if k.shape == v.shape:
            present = np.stack([k, v])
        if length is not None:
            present = np.concatenate([present, past[:, :, :, keys:]], 3)
        return [join_heads(y), present]

    return run


def caches_of(attributes: dict[str, Any]) -> list[Array]:
    size = attributes.get("rotary_embedding_dim", SIZE)
    angles = np.arange(20)[:, None] / 1e4 ** (np.arange(0, size, 2) / size)
    return [np.cos(angles), np.sin(angles)]


def run(
    given: list[Array | None], attributes: dict[str, Any] | None = None, **keywords: Any
) -> None:
    attributes = attributes or {}
    keywords.setdefault("shapes", ("static", "symbolic"))
    check("Attention", reference(attributes), given, {"num_heads": HEADS, **attributes}, **keywords)


MASKS = {
    "ends": [2, 3],
    "ends and begins": [3, 2, 1, 0],
    "lengths and positions": [2, 3, 0, 3, 6, 0, 3, 6],
    "keys": [[1, 1, 0], [0, 1, 1]],
    "one for all keys": [[1], [1]],
    "one for all": [[1]],
    "queries and keys": [[[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[1, 1, 1], [0, 1, 0], [0, 0, 1]]],
}


@pytest.mark.parametrize("bias", [False, True])
def test_projections(bias: bool) -> None:
    given = inputs()
    if not bias:
        given[2] = None
    run(given, shapes=("static", "symbolic", "unknown"), outputs=2)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, causal: int) -> None:
    run(inputs(np.array(MASKS[name], np.int32)), {"unidirectional": causal}, outputs=1)


def test_sample_without_keys() -> None:
    # Near -10000 the scores have three digits less.
    mask = np.array([[0, 0, 0], [1, 1, 1]], np.int32)
    run(inputs(mask), outputs=1, dtypes=[np.float32], tolerance=100)


def test_mask_of_the_longest_sequence() -> None:
    mask = np.tril(np.ones((BATCH, 1, 9, 9), np.int32))
    run(inputs(mask), elsewhere=False, outputs=1)
    run(inputs(mask, normal(2, BATCH, HEADS, 4, SIZE)), elsewhere=False)


def test_filter_value() -> None:
    mask = np.array(MASKS["keys"], np.int32)
    run(inputs(mask), {"mask_filter_value": -1.5}, outputs=1)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("length", [0, 4])
def test_past(length: int, causal: int) -> None:
    past = normal(2, BATCH, HEADS, length, SIZE, seed=3)
    mask = np.ones((BATCH, length + ROWS), np.int32)
    mask[0, 0] = 0
    run(inputs(None, past), {"unidirectional": causal})
    run(inputs(mask, past), {"unidirectional": causal}, dtypes=[np.float32])


@pytest.mark.parametrize("causal", [0, 1])
def test_past_in_shared_memory(causal: int) -> None:
    past = normal(2, BATCH, HEADS, 9, SIZE, seed=3)
    given = [*inputs(None, past), np.array([4], np.int32)]
    attributes = {"unidirectional": causal, "past_present_share_buffer": 1}
    run(given, attributes, elsewhere=False)


@pytest.mark.parametrize("shape", [(BATCH, HEADS), (1, HEADS), (BATCH, 1), (1, 1)])
def test_attention_bias(shape: tuple[int, int]) -> None:
    bias = normal(*shape, ROWS, ROWS, seed=4)
    run(inputs(None, None, bias), outputs=1)
    run(inputs(np.array([2, 3], np.int32), None, bias), outputs=1, dtypes=[np.float32])


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_sizes_and_scale(scale: float) -> None:
    sizes = [HIDDEN, HIDDEN, HEADS * 5]
    run(inputs(v=5), {"qkv_hidden_sizes": sizes, "scale": scale}, outputs=1)


@pytest.mark.parametrize("part", [{}, {"rotary_embedding_dim": 4}])
def test_rotary(part: dict[str, int]) -> None:
    attributes = {"do_rotary": 1, "unidirectional": 1, **part}
    run(inputs(), attributes, elsewhere=False, outputs=1)
    past = normal(2, BATCH, HEADS, 4, SIZE, seed=3)
    run(inputs(None, past), attributes, elsewhere=False, dtypes=[np.float32])


def test_is_one_attention() -> None:
    given = inputs(np.array(MASKS["keys"], np.int32))
    model = model_of("Attention", given, {"num_heads": HEADS}, constants=[1, 2])
    made = operators(session(model))
    assert made.count("Attention") == 1
    assert not {"Softmax", "Transpose", "Add"} & set(made)


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({}, "required attribute 'num_heads' is missing"),
        ({"num_heads": 0}, "num_heads"),
        ({"num_heads": 2, "qkv_hidden_sizes": [16, 16]}, "expected three sizes"),
        ({"num_heads": 2, "qkv_hidden_sizes": [16, 16, 20]}, "48 columns of the weights"),
        ({"num_heads": 3, "qkv_hidden_sizes": [16, 16, 16]}, "does not divide"),
        ({"num_heads": 2, "heads": 3}, "attribute 'heads' is unknown"),
    ],
)
def test_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message) as caught:
        session(model_of("Attention", inputs(), attributes))
    assert "com.microsoft.Attention" in str(caught.value)


def test_mask_of_no_known_form_is_refused() -> None:
    mask = np.ones((1, 1, 1, 1, 1), np.int32)
    with pytest.raises(InvalidGraph, match="has rank 5, expected 1, 2, 3 or 4"):
        session(model_of("Attention", inputs(mask), {"num_heads": HEADS}))
