# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .attending import added_mask, attend, bounds_mask, join_heads, split_heads
from .comparison import Array, check, feeds_of, model_of, normal, operators, session

BATCH, ROWS, KEYS, HEADS, SIZE = 2, 3, 5, 2, 8
HIDDEN = HEADS * SIZE
ORDER = {
    "MultiHeadAttention": (
        "query key value bias mask attention_bias past_key past_value length beams"
    ),
    "DecoderMaskedMultiHeadAttention": (
        "query key value mask attention_bias past_key past_value length width beams bias"
    ),
}


def queries(rows: int = ROWS, batch: int = BATCH) -> Array:
    return normal(batch, rows, HIDDEN)


def rows(keys: int = ROWS, batch: int = BATCH, v: int = SIZE) -> dict[str, Array]:
    """New keys and values."""
    key = normal(batch, keys, HIDDEN, seed=1)
    return {"key": key, "value": normal(batch, keys, HEADS * v, seed=2)}


def past(length: int, batch: int = BATCH, v: int = SIZE) -> dict[str, Array]:
    key = normal(batch, HEADS, length, SIZE, seed=3)
    return {"past_key": key, "past_value": normal(batch, HEADS, length, v, seed=4)}


def heads_of(x: Array) -> Array:
    return x if x.ndim == 4 else split_heads(x, HEADS)


def separated(named: dict[str, Array]) -> list[Array]:
    query, key, value = (named.get(name) for name in ("query", "key", "value"))
    if key is None and query.ndim == 3:
        query, key, value = np.split(query, 3, -1)
    elif key is None:
        query, key, value = (query[:, :, :, i].reshape(*query.shape[:2], -1) for i in range(3))
    elif value is None:
        key, value = (key[:, :, :, i].reshape(*key.shape[:2], -1) for i in range(2))
    if "bias" in named:
        parts = np.split(named["bias"], [query.shape[2], 2 * query.shape[2]])
        query = query + parts[0]
        if key.ndim == 3:
            key, value = key + parts[1], value + parts[2]
    return [heads_of(each) for each in (query, key, value)]


def reference(names: list[str], attributes: dict[str, Any], presents: bool) -> Any:
    def run(*arrays: Array) -> list[Any]:
        named = {name: array for name, array in zip(names, arrays) if array is not None}
        q, k, v = separated(named)
        before, rest = 0, {}
        if "past_key" in named:
            before = int(named["length"][0]) if "length" in named else named["past_key"].shape[2]
            new = {"past_key": k, "past_value": v}
            joined = {n: np.concatenate([named[n][:, :, :before], new[n]], 2) for n in new}
            rest = {n: named[n][:, :, joined[n].shape[2] :] for n in new}
            k, v = joined.values()
        shown = [k, v] if presents else []
        if "length" in named:
            shown = [np.concatenate([x, y], 2) for x, y in zip((k, v), rest.values())]
        keys = k.shape[2]
        if "beams" in named:
            k, v = (of_beams(x, named["beams"], before) for x in (k, v))
        added: Any = named.get("attention_bias", 0.0)
        mask = named.get("mask")
        if mask is not None and mask.ndim == 1:
            added = added + bounds_mask(mask, len(q), keys)
        elif mask is not None:
            filter_value = attributes.get("mask_filter_value", -1e4)
            added = added + added_mask(mask, q.shape[2], keys, before, filter_value)
        causal = bool(attributes.get("unidirectional"))
        y, scores = attend(q, k, v, added, causal, attributes.get("scale", 0.0), before)
        return [join_heads(y), *shown, scores]

    return run


def of_beams(x: Array, indirection: Array, before: int) -> Array:
    """The rows that each beam goes on from."""
    y = x.copy()
    batch, beams = indirection.shape[:2]
    for b, j, t in np.ndindex(batch, beams, before):
        y[b * beams + j, :, t] = x[b * beams + indirection[b, j, t], :, t]
    return y


def run(
    named: dict[str, Array],
    attributes: dict[str, Any] | None = None,
    *,
    op_type: str = "MultiHeadAttention",
    outputs: int | None = None,
    **keywords: Any,
) -> None:
    attributes, names = attributes or {}, ORDER[op_type].split()
    last = max(names.index(name) for name in named)
    presents = "past_key" in named
    count = outputs or (3 if presents else 1)
    keywords.setdefault("shapes", ("static", "symbolic"))
    check(
        op_type,
        reference(names, attributes, presents or count > 1),
        [named.get(name) for name in names[: last + 1]],
        {"num_heads": HEADS, **attributes},
        outputs=count,
        declares=[3] if count == 4 else [],
        **keywords,
    )


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("keys", [ROWS, KEYS])
def test_rows(keys: int, bias: bool, causal: int) -> None:
    named = {"query": queries(), **rows(keys)}
    if bias:
        named["bias"] = normal(3 * HIDDEN, seed=5)
    run(
        named,
        {"unidirectional": causal},
        shapes=("static", "symbolic", "unknown"),
        elsewhere=not causal or keys == ROWS,  # there the last query sees all keys
    )


def test_values_of_another_size() -> None:
    bias = normal(2 * HIDDEN + HEADS * 5, seed=5)
    run({"query": queries(), **rows(KEYS, v=5), "bias": bias}, {"scale": 0.4})


@pytest.mark.parametrize("bias", [False, True])
def test_keys_that_were_computed_before(bias: bool) -> None:
    cross = past(KEYS)
    named = {"query": queries(), "key": cross["past_key"], "value": cross["past_value"]}
    if bias:
        named["bias"] = normal(3 * HIDDEN, seed=5)
    run(named)
    run({**named, "mask": np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]], np.int32)})


@pytest.mark.parametrize("bias", [False, True])
def test_packed_queries_keys_and_values(bias: bool) -> None:
    named = {"query": normal(BATCH, ROWS, HEADS, 3, SIZE)}
    if bias:
        named["bias"] = normal(3 * HIDDEN, seed=5)
    shapes = ("static", "symbolic", "unknown")
    run(named, elsewhere=False, shapes=shapes)
    run({**named, "query": normal(BATCH, ROWS, 3 * HIDDEN)}, elsewhere=False)


def test_packed_keys_and_values() -> None:
    named = {"query": queries(), "key": normal(BATCH, KEYS, HEADS, 2, SIZE)}
    run(named, elsewhere=False, shapes=("static", "symbolic", "unknown"))


MASKS = {
    "ends": [2, 3],
    "lengths and positions": [2, 3, 0, 3, 6, 0, 3, 6],
    "keys": [[1, 1, 0], [0, 1, 1]],
    "queries and keys": [[[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[1, 1, 1], [0, 1, 0], [0, 0, 1]]],
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, causal: int) -> None:
    mask = np.array(MASKS[name], np.int32)
    run({"query": queries(), **rows(), "mask": mask}, {"unidirectional": causal})


@pytest.mark.parametrize("shape", [(BATCH, HEADS), (1, HEADS), (BATCH, 1), (1, 1)])
def test_attention_bias(shape: tuple[int, int]) -> None:
    bias = normal(*shape, ROWS, KEYS, seed=6)
    run({"query": queries(), **rows(KEYS), "attention_bias": bias})


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("length", [0, 4])
def test_past(length: int, causal: int) -> None:
    named = {"query": queries(), **rows(), **past(length)}
    run(named, {"unidirectional": causal}, shapes=("static", "symbolic", "unknown"))
    mask = np.ones((BATCH, length + ROWS), np.int32)
    mask[0, 1] = 0
    bias = normal(BATCH, HEADS, ROWS, length + ROWS, seed=6)
    named |= {"mask": mask, "attention_bias": bias, "bias": normal(3 * HIDDEN, seed=5)}
    run(named, {"unidirectional": causal}, dtypes=[np.float32])


def test_present_without_past() -> None:
    run({"query": queries(), **rows()}, outputs=3)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("count", [1, ROWS])
def test_past_in_shared_memory(count: int, causal: int) -> None:
    named = {"query": queries(count), **rows(count), **past(9)}
    named |= {"length": np.array([4], np.int32)}
    run(named, {"unidirectional": causal}, elsewhere=False)


def test_scores() -> None:
    run({"query": queries(), **rows()}, {"unidirectional": 1}, outputs=4, dtypes=[np.float32])
    mask = np.ones((BATCH, 4 + ROWS), np.int32)
    named = {"query": queries(), **rows(), **past(4), "mask": mask}
    run(named, outputs=4, dtypes=[np.float32])


def test_scores_of_a_wider_type() -> None:
    given = [x.astype(np.float16) for x in (queries(), *rows().values())]
    model = model_of("MultiHeadAttention", given, {"num_heads": HEADS}, 4, declared={3: np.float32})
    found = session(model).run(None, feeds_of(given))
    assert (found[0].dtype, found[3].dtype) == (np.float16, np.float32)


DECODER: dict[str, Any] = {"op_type": "DecoderMaskedMultiHeadAttention"}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_decoder(mask: bool, bias: bool) -> None:
    named = {"query": queries(1), **rows(1), **past(9), "length": np.array([4], np.int32)}
    if mask:
        named["mask"] = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]], np.int32)
        named["attention_bias"] = normal(1, HEADS, 1, 5, seed=6)
    if bias:
        named["bias"] = normal(3 * HIDDEN, seed=5)
    run(named, {"past_present_share_buffer": 1}, **DECODER)


def test_decoder_with_packed_rows() -> None:
    named = {"query": normal(BATCH, 1, 3 * HIDDEN), **past(9), "length": np.array([4], np.int32)}
    run(named, {"past_present_share_buffer": 1}, elsewhere=False, **DECODER)


def test_decoder_with_a_growing_past() -> None:
    run({"query": queries(1), **rows(1), **past(4)}, elsewhere=False, **DECODER)


@pytest.mark.parametrize("bias", [False, True])
def test_decoder_of_keys_that_were_computed_before(bias: bool) -> None:
    cross = past(KEYS)
    named = {"query": queries(1), "key": cross["past_key"], "value": cross["past_value"]}
    if bias:
        named["bias"] = normal(3 * HIDDEN, seed=5)
    run(named, **DECODER)


def test_decoder_shows_scores() -> None:
    named = {"query": queries(1), **rows(1), **past(9), "length": np.array([4], np.int32)}
    attributes = {"past_present_share_buffer": 1, "output_qk": 1}
    select = lambda index, array: array[..., :5] if index == 3 else array  # noqa: E731
    run(named, attributes, outputs=4, dtypes=[np.float32], selects=select, **DECODER)


@pytest.mark.parametrize("mask", [False, True])
def test_beams(mask: bool) -> None:
    indirection = np.random.default_rng(3).integers(0, 2, (2, 2, 9)).astype(np.int32)
    named = {"query": queries(1, 4), **rows(1, 4), **past(9, 4), "beams": indirection}
    named |= {"length": np.array([4], np.int32), "width": np.array([2], np.int32)}
    if mask:
        named["mask"] = np.ones((4, 5), np.int32)
        named["mask"][1, 2] = 0
    run(named, {"past_present_share_buffer": 1}, **DECODER)


def test_is_one_attention() -> None:
    inputs = [queries(), *rows().values(), None, None, None, *past(4).values()]
    model = model_of("MultiHeadAttention", inputs, {"num_heads": HEADS}, 3)
    assert operators(session(model)) == ["Attention"]
    inputs = [queries(), *past(KEYS).values()]
    model = model_of("MultiHeadAttention", inputs, {"num_heads": HEADS})
    assert operators(session(model)) == ["bascule.Attention"]


@pytest.mark.parametrize(
    "inputs, attributes, message",
    [
        ([queries(), *rows().values()], {}, "required attribute 'num_heads' is missing"),
        ([queries(), *rows().values()], {"num_heads": 0}, "'num_heads' is 0"),
        ([queries(), rows()["key"]], {"num_heads": 2}, "input 'value' is missing"),
        ([queries(), None, rows()["value"]], {"num_heads": 2}, "input 'key' is missing"),
        (
            [queries(), *rows().values(), None, None, None, past(4)["past_key"]],
            {"num_heads": 2},
            "past_key and past_value must both be given",
        ),
        (
            [queries(), *past(KEYS).values(), None, None, None, *past(4).values()],
            {"num_heads": 2},
            "key and value of four axes are used without a past",
        ),
    ],
)
def test_is_refused(inputs: list[Any], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message) as caught:
        session(model_of("MultiHeadAttention", inputs, attributes))
    assert "com.microsoft.MultiHeadAttention" in str(caught.value)


def test_decoder_without_a_length_is_refused() -> None:
    inputs = [queries(1), *rows(1).values(), None, None, *past(9).values()]
    attributes = {"num_heads": HEADS, "past_present_share_buffer": 1}
    with pytest.raises(InvalidGraph, match="needs input past_sequence_length"):
        session(model_of("DecoderMaskedMultiHeadAttention", inputs, attributes, 3))
