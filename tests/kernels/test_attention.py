# SPDX-License-Identifier: Apache-2.0
"""Attention and RotaryEmbedding against NumPy in float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument
from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.types import TensorType
from tests.support.native import compile_graph, run_node


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | float = 0.0,
    scale: float | None = None,
    cap: float = 0.0,
) -> np.ndarray:
    """Q [B, H, S, D] with K, V of as many or fewer heads; a row without keys gives zeros."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = q @ np.swapaxes(k, 2, 3) * (scale or 1 / np.sqrt(q.shape[-1]))
    if cap:
        scores = cap * np.tanh(scores / cap)
    scores = scores + bias
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = weights.sum(-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) @ v


def causal_bias(queries: int, keys: int, offset: int = 0) -> np.ndarray:
    visible = np.arange(keys) <= np.arange(queries)[:, None] + offset
    return np.where(visible, 0.0, -np.inf)


def flat(x: np.ndarray) -> np.ndarray:
    """[B, H, S, D] as [B, S, H * D]."""
    return np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


# How long caches are, where new rows begin in them, and how long they are without the new rows.
UPDATES = [
    (9, [9, 9], 9),
    (9, [9, 4], 9),
    (40, [7, 0], 3),
    (9, [11, 2], 14),
    (0, [0, 0], 0),
    (600, [600, 599], 600),
]

TOLERANCE = {"float32": 2e-6, "float64": 1e-13, "float16": 2e-3, "bfloat16": 2e-2}


def check(actual: np.ndarray, expected: np.ndarray) -> None:
    tolerance = TOLERANCE[actual.dtype.name]
    np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, 2 * tolerance)


@pytest.mark.parametrize("queries", [1, 3, 8, 9, 17, 60, 130])
@pytest.mark.parametrize("keys, head, v_head", [(5, 8, 8), (37, 33, 20), (160, 64, 64)])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (5, 1)])
def test_sizes(queries: int, keys: int, head: int, v_head: int, heads: tuple[int, int]) -> None:
    q = normal(2, heads[0], queries, head)
    k = normal(2, heads[1], keys, head, seed=1)
    v = normal(2, heads[1], keys, v_head, seed=2)
    expected = attend(q, k, v)
    y = run_node("Attention", [q, k, v])[0]
    check(y, expected)
    assert np.array_equal(run_node("Attention", [q, k, v], threads=2)[0], y)
    assert np.array_equal(run_node("Attention", [q, k, v], threads=5)[0], y)
    attributes = {"q_num_heads": heads[0], "kv_num_heads": heads[1]}
    assert np.array_equal(
        run_node("Attention", [flat(q), flat(k), flat(v)], attributes)[0], flat(y)
    )
    # A row of a batch does not depend on its neighbours.
    assert np.array_equal(run_node("Attention", [q[1:], k[1:], v[1:]])[0], y[1:])


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("queries", [2, 40])
def test_types(dtype: Any, queries: int) -> None:
    q, k, v = (normal(1, 2, n, 24, seed=n, dtype=dtype) for n in (queries, 50, 50))
    y = run_node("Attention", [q, k, v], {"is_causal": 1, "scale": 0.25})[0]
    assert y.dtype == dtype
    check(y, attend(q, k, v, causal_bias(queries, 50), 0.25))


@pytest.mark.parametrize("queries", [1, 20, 100])
@pytest.mark.parametrize("past", [0, 1, 70])
def test_cache(queries: int, past: int) -> None:
    q = normal(2, 4, queries, 16)
    k, v = normal(2, 2, queries, 16, seed=1), normal(2, 2, queries, 16, seed=2)
    pk, pv = normal(2, 2, past, 16, seed=3), normal(2, 2, past, 16, seed=4)
    keys, values = np.concatenate([pk, k], 2), np.concatenate([pv, v], 2)
    attributes = {"is_causal": 1}
    y, present_k, present_v = run_node("Attention", [q, k, v, None, pk, pv], attributes, 3)
    assert np.array_equal(present_k, keys)
    assert np.array_equal(present_v, values)
    expected = attend(q, keys, values, causal_bias(queries, past + queries, past))
    check(y, expected)
    attributes |= {"q_num_heads": 4, "kv_num_heads": 2}
    inputs = [flat(q), flat(k), flat(v), None, pk, pv]
    y, present_k, _ = run_node("Attention", inputs, attributes, 3)
    assert np.array_equal(present_k, keys)
    check(y, flat(expected))


TYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("past, head, v_head", [(37, 33, 20), (1030, 64, 72), (257, 64, 64)])
def test_a_step_has_the_bits_of_all_keys_together(
    dtype: Any, past: int, head: int, v_head: int
) -> None:
    """Keys are read where they are, before they go to the presents."""
    q = normal(1, 8, 2, head, dtype=dtype)
    k, v = normal(1, 8, 2, head, seed=1, dtype=dtype), normal(1, 8, 2, v_head, seed=2, dtype=dtype)
    pk = normal(1, 8, past, head, seed=3, dtype=dtype)
    pv = normal(1, 8, past, v_head, seed=4, dtype=dtype)
    keys, values = np.concatenate([pk, k], 2), np.concatenate([pv, v], 2)
    for causal in ({}, {"left_window_size": past - 1, "right_window_size": 0}):
        step = run_node("Attention", [q, k, v, None, pk, pv], causal, 3, threads=2)
        bias = np.zeros((2, past + 2), bool if causal else np.float32)
        if causal:
            distance = np.arange(past + 2) - np.arange(2)[:, None] - past
            bias = (distance <= 0) & (distance > -past)
        (whole,) = run_node("Attention", [q, keys, values, bias])
        assert all(np.array_equal(a, b) for a, b in zip(step, (whole, keys, values)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("queries", [1, 3, 20])
@pytest.mark.parametrize("before, starts, length", UPDATES)
def test_caches_are_updated(
    dtype: Any, queries: int, before: int, starts: list[int], length: int
) -> None:
    """The fused operator's caches are those of UpdateCache."""
    q = normal(2, queries, 4 * 24, dtype=dtype)
    k, v = normal(2, queries, 48, seed=1, dtype=dtype), normal(2, queries, 32, seed=2, dtype=dtype)
    pk = normal(2, 2, before, 24, seed=3, dtype=dtype)
    pv = normal(2, 2, before, 16, seed=4, dtype=dtype)
    where = [np.array(starts), np.array([length + queries])]
    keys, values = (
        run_node("UpdateCache", [past, new, *where], domain="bascule")[0]
        for past, new in ((pk, k), (pv, v))
    )
    for lengths in (where[0] + queries, None):
        attributes = {"q_num_heads": 4, "is_causal": 0 if lengths is None else 1}
        inputs = [q, keys, values, None, None, None, lengths]
        (expected,) = run_node("Attention", inputs, attributes, domain="bascule")
        inputs = [q, k, v, None, pk, pv, lengths, None, *where]
        attributes["kv_num_heads"] = 2
        for threads in (1, 2):
            found = run_node("Attention", inputs, attributes, 3, "bascule", threads, runs=2)
            assert all(np.array_equal(a, b) for a, b in zip(found, (expected, keys, values)))


def test_a_cache_may_be_keys_and_values() -> None:
    """Neither present is written over the past, which the other one needs."""
    graph = Graph("shared")
    q, k, v, x = (
        graph.add_input(Value(name, TensorType(DataType.FLOAT, (None,) * rank)))
        for name, rank in (("q", 3), ("k", 3), ("v", 3), ("x", 4))
    )
    starts, length = graph.constant(np.array([1])), graph.constant(np.array([5]))
    past = graph.append(Node("Neg", [x], name="past")).output
    inputs = [q, k, v, None, past, past, None, None, starts, length]
    attributes = {"q_num_heads": 2, "kv_num_heads": 2}
    made = Node("Attention", inputs, 3, attributes, domain=FUSED_DOMAIN, name="attention")
    last = graph.append(Node("Neg", [graph.append(made).output], name="last"))
    for node in graph:
        for value in node.outputs:
            value.type = TensorType(DataType.FLOAT, (None,) * (4 if node.name == "past" else 3))
    graph.add_output(last.output)
    arrays = [normal(1, 2, 8, seed=i) for i in range(3)] + [normal(1, 2, 5, 4, seed=3)]
    keys, values = (-arrays[3], (-arrays[3]).copy())
    for cache, new in ((keys, arrays[1]), (values, arrays[2])):
        cache[:, :, 1:3] = new.reshape(1, 2, 2, 4).swapaxes(1, 2)
    expected = -flat(attend(arrays[0].reshape(1, 2, 2, 4).swapaxes(1, 2), keys, values))
    runner = compile_graph(graph)
    for _ in range(2):
        check(runner.run_values(arrays, [])[0], expected)


def test_rows_must_end_within_the_cache() -> None:
    q, k, past = normal(1, 2, 8), normal(1, 2, 8, seed=1), normal(1, 2, 5, 4, seed=2)
    attributes = {"q_num_heads": 2, "kv_num_heads": 2}
    with pytest.raises(Fail, match="starts are used with"):
        inputs = [q, k, k, *[None] * 5, np.array([0]), np.array([5])]
        run_node("Attention", inputs, attributes, 3, "bascule")
    for starts, length, message in (([4], [5], "start at 4"), ([0], [5, 6], "2 elements")):
        where = [np.array(starts), np.array(length)]
        with pytest.raises((Fail, InvalidArgument), match=message):
            inputs = [q, k, k, None, past, past, None, None, *where]
            run_node("Attention", inputs, attributes, 3, "bascule")


@pytest.mark.parametrize("shape", [(40,), (30, 40), (1, 1, 40), (4, 1, 1), (2, 1, 30, 40)])
@pytest.mark.parametrize("boolean", [False, True])
def test_masks(shape: tuple[int, ...], boolean: bool) -> None:
    q, k, v = normal(2, 4, 30, 8), normal(2, 4, 40, 8, seed=1), normal(2, 4, 40, 8, seed=2)
    mask = normal(*shape, seed=5)
    bias = np.where(mask > 0, 0.0, -np.inf) if boolean else mask.astype(np.float64)
    if shape[-1] == 1:  # what a mask does not cover is hidden
        bias = np.concatenate([bias, np.full((*bias.shape[:-1], 39), -np.inf)], -1)
    y = run_node("Attention", [q, k, v, mask > 0 if boolean else mask], {"softcap": 2.0})[0]
    check(y, attend(q, k, v, bias, cap=2.0))


def test_rows_that_see_nothing_are_zero() -> None:
    q, k, v = (normal(1, 2, n, 8, seed=n) for n in (20, 30, 30))
    mask = np.ones((20, 30), bool)
    mask[3] = False
    y = run_node("Attention", [q, k, v, mask])[0]
    assert not y[:, :, 3].any()
    check(y, attend(q, k, v, np.where(mask, 0.0, -np.inf)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("queries, keys", [(70, 300), (12, 513), (9, 1000)])
def test_keys_of_several_blocks(dtype: Any, queries: int, keys: int) -> None:
    """Scores that rise, fall and come late: the weights so far are scaled again."""
    q, v = normal(1, 2, queries, 8, dtype=dtype), normal(1, 2, keys, 40, seed=2, dtype=dtype)
    k = normal(1, 2, keys, 8, seed=1)
    k[:, 0] *= np.linspace(0, 12, keys)[:, None]
    k[:, 1] *= np.linspace(12, 0, keys)[:, None]
    k = k.astype(dtype)
    y = run_node("Attention", [q, k, v])[0]
    check(y, attend(q, k, v))
    assert np.array_equal(run_node("Attention", [q, k, v], threads=3)[0], y)
    mask = np.ones((queries, keys), bool)
    mask[0] = False
    mask[1, : keys - 3] = False
    mask[2, 5:] = False
    y = run_node("Attention", [q, k, v, mask])[0]
    assert not y[:, :, 0].any()
    check(y, attend(q, k, v, np.where(mask, 0.0, -np.inf)))


@pytest.mark.parametrize("masked", [False, True])
def test_a_query_has_the_same_bits_among_any_others(masked: bool) -> None:
    """Whatever other rows of its tile see, and wherever their largest scores come."""
    q, k, v = normal(1, 1, 130, 32), normal(1, 1, 610, 32, seed=1), normal(1, 1, 610, 32, seed=2)
    q[0, 0, ::7] *= 40
    k *= np.linspace(0.1, 2, 610, dtype=np.float32)[:, None]
    mask = normal(130, 610, seed=3)
    mask[::3, 37:] = -np.inf
    mask[::5, :300] = -np.inf
    mask[11] = -np.inf
    feeds = [q, k, v, mask] if masked else [q, k, v]
    (whole,) = run_node("Attention", feeds)
    check(whole, attend(q, k, v, mask if masked else 0.0))
    for first, last in ((0, 9), (60, 83), (11, 130)):
        part = [q[:, :, first:last], k, v] + ([mask[first:last]] if masked else [])
        np.testing.assert_array_equal(run_node("Attention", part)[0], whole[:, :, first:last])


@pytest.mark.parametrize("largest", [3e4, 1e18, -1e18])
def test_masks_far_from_zero(largest: float) -> None:
    q, k, v = normal(1, 1, 12, 8), normal(1, 1, 600, 8, seed=1), normal(1, 1, 600, 8, seed=2)
    bias = (normal(12, 600, seed=3, dtype=np.float64) + 1e5) * largest / 1e5
    bias = bias.astype(np.float32)
    with np.errstate(under="ignore"):
        expected = attend(q if abs(largest) < 1e9 else 0 * q, k, v, bias.astype(np.float64))
    y = run_node("Attention", [q, k, v, bias])[0]
    np.testing.assert_allclose(y, expected, 5e-3, 5e-3)


def test_nan_reaches_its_rows_only() -> None:
    q, k, v = normal(1, 1, 20, 8), normal(1, 1, 600, 8, seed=1), normal(1, 1, 600, 8, seed=2)
    expected = attend(q, k, v)
    q[0, 0, 4, 3] = np.nan
    bias = np.zeros((20, 600), np.float32)
    bias[7, 590] = np.nan
    y = run_node("Attention", [q, k, v, bias])[0]
    assert np.isnan(y[0, 0, [4, 7]]).all()
    check(np.delete(y, [4, 7], 2), np.delete(expected, [4, 7], 2))


@pytest.mark.parametrize("size", [150, 600])
@pytest.mark.parametrize("left, right, causal", [(3, -1, 0), (-1, 2, 0), (40, 0, 1), (0, 0, 0)])
def test_windows(left: int, right: int, causal: int, size: int) -> None:
    q, k, v = (normal(1, 2, size, 8, seed=n) for n in range(3))
    distance = np.arange(size) - np.arange(size)[:, None]
    visible = np.ones((size, size), bool)
    if left >= 0:
        visible &= distance >= -left
    if right >= 0:
        visible &= distance <= right
    if causal:
        visible &= distance <= 0
    attributes = {"left_window_size": left, "right_window_size": right, "is_causal": causal}
    y = run_node("Attention", [q, k, v], attributes)[0]
    check(y, attend(q, k, v, np.where(visible, 0.0, -np.inf)))


def test_lengths_hide_the_padding() -> None:
    q, k, v = normal(3, 2, 4, 8), normal(3, 2, 20, 8, seed=1), normal(3, 2, 20, 8, seed=2)
    lengths = np.array([20, 7, 2], np.int64)
    for item, length in enumerate(lengths):
        v[item, :, length:] = np.nan
    y = run_node("Attention", [q, k, v, None, None, None, lengths], {"is_causal": 1})[0]
    for item, length in enumerate(lengths):
        part = slice(item, item + 1)
        bias = causal_bias(4, length, length - 4)
        check(y[part], attend(q[part], k[part, :, :length], v[part, :, :length], bias))
    lengths[0] = 21
    with pytest.raises(InvalidArgument, match="21"):
        run_node("Attention", [q, k, v, None, None, None, lengths])


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_scores_are_shown(mode: int) -> None:
    q, k, v = (normal(1, 2, 12, 8, seed=n) for n in range(3))
    attributes = {"qk_matmul_output_mode": mode, "is_causal": 1, "softcap": 1.5}
    shown = run_node("Attention", [q, k, v], attributes, outputs=4)[3]
    scores = q.astype(np.float64) @ np.swapaxes(k, 2, 3) / np.sqrt(8)
    if mode > 0:
        scores = 1.5 * np.tanh(scores / 1.5)
    if mode > 1:
        scores = scores + causal_bias(12, 12)
    if mode > 2:
        scores = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    check(shown, scores)


def test_shapes_that_do_not_fit_are_refused() -> None:
    q, k = normal(1, 3, 4, 8), normal(1, 2, 5, 8)
    with pytest.raises(Fail, match="not a multiple"):
        run_node("Attention", [q, k, k])
    with pytest.raises(Fail, match="V has shape"):
        run_node("Attention", [k, k, k[:, :, :4]])
    with pytest.raises(Fail, match="attn_mask"):
        run_node("Attention", [k, k, k, np.zeros((5, 6), np.float32)])


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [0, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("with_ids", [False, True])
def test_rotary(interleaved: int, rotated: int, dtype: Any, with_ids: bool) -> None:
    x = normal(2, 3, 5, 10, dtype=dtype)
    half = (rotated or 10) // 2
    angles = normal(2, 5, half, seed=1)
    ids = np.random.default_rng(2).integers(0, 10, (2, 5))
    cache = angles.reshape(10, half)
    used = cache[ids] if with_ids else angles
    cos, sin = np.cos(used)[:, None], np.sin(used)[:, None]
    wide = x.astype(np.float64)
    first = np.arange(half) * 2 if interleaved else np.arange(half)
    second = first + 1 if interleaved else first + half
    expected = wide.copy()
    expected[..., first] = cos * wide[..., first] - sin * wide[..., second]
    expected[..., second] = sin * wide[..., first] + cos * wide[..., second]
    caches = [f(cache if with_ids else angles).astype(dtype) for f in (np.cos, np.sin)]
    inputs = [*caches, *([ids] if with_ids else [])]
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": rotated}
    tolerance = 1e-6 if dtype == np.float32 else 4e-3
    y = run_node("RotaryEmbedding", [x, *inputs], attributes)[0]
    np.testing.assert_allclose(y.astype(np.float64), expected, tolerance, tolerance)
    y = run_node("RotaryEmbedding", [flat(x), *inputs], {**attributes, "num_heads": 3})[0]
    np.testing.assert_allclose(y.astype(np.float64), flat(expected), tolerance, tolerance)
