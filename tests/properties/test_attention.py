# SPDX-License-Identifier: Apache-2.0
"""Attention in all its forms, and RotaryEmbedding.

Oracle: the formulas in float64. A score is off by no more than d + 5 units of the magnitude of its
d products; a weight, relatively, by twice what the scores are off and some units for its sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.bounds import assert_exact, assert_within, epsilon, wide
from tests.properties.running import run
from tests.properties.strategies import FLOATS, TAME, Array, Shape, arrays, setups

COUNTS = st.sampled_from([1, 2, 3, 0, 4, 9, 17, 33])
HEADS = st.sampled_from([1, 2, 3])
WIDTHS = st.sampled_from([1, 2, 4, 8, 9, 16])


@dataclass(frozen=True)
class Case:
    """The inputs of Attention as [batch, head, row, size], and its attributes."""

    q: Array
    k: Array
    v: Array
    mask: Array | None
    past: tuple[Array, Array] | None
    lengths: Array | None
    attributes: dict[str, Any]

    @property
    def keys(self) -> Array:
        return self.k if self.past is None else np.concatenate([self.past[0], self.k], 2)

    @property
    def values(self) -> Array:
        return self.v if self.past is None else np.concatenate([self.past[1], self.v], 2)

    def bias(self) -> Array:
        """What is added to the scores: -inf where a key is out of sight."""
        batch, _, queries, _ = self.q.shape
        keys = self.keys.shape[2]
        offset = np.full(batch, 0 if self.past is None else self.past[0].shape[2])
        place = np.arange(keys)
        seen = np.ones((batch, 1, queries, keys), bool)
        if self.lengths is not None:
            offset = self.lengths - queries
            seen &= place < self.lengths[:, None, None, None]
        position = np.arange(queries)[:, None] + offset[:, None, None, None]
        if self.attributes.get("is_causal"):
            seen &= place <= position
        if (left := self.attributes.get("left_window_size", -1)) >= 0:
            seen &= place >= position - left
        if (right := self.attributes.get("right_window_size", -1)) >= 0:
            seen &= place <= position + right
        hidden = np.where(seen, 0.0, -np.inf)
        if self.mask is None:
            return hidden
        added = np.where(self.mask, 0.0, -np.inf) if self.mask.dtype == bool else wide(self.mask)
        short = [(0, 0)] * (added.ndim - 1) + [(0, keys - added.shape[-1])]
        return np.asarray(hidden + np.pad(added, short, constant_values=-np.inf))


@st.composite
def masks(draw: st.DrawFn, dtype: Any, whole: Shape) -> Array | None:
    """True or a number for the keys that are seen, perhaps not for the last ones."""
    if draw(st.booleans()):
        return None
    shape = [1 if size and draw(st.booleans()) else size for size in whole[:-1]]
    keys = whole[-1] if draw(st.integers(0, 3)) else draw(st.integers(0, whole[-1]))
    shape = [*shape[draw(st.integers(0, 2)) :], keys]
    seen = np.asarray(draw(arrays(bool, tuple(shape))))
    if draw(st.booleans()):
        return seen
    bias = draw(arrays(dtype, tuple(shape), TAME))
    return np.where(seen, bias, np.asarray(-np.inf, dtype))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dtype = draw(st.sampled_from(FLOATS))
    batch, heads, group = draw(st.sampled_from([1, 2, 0])), draw(HEADS), draw(HEADS)
    queries, keys, size, v_size = draw(COUNTS), draw(COUNTS), draw(WIDTHS), draw(WIDTHS)

    def tensor(*shape: int) -> Array:
        return np.asarray(draw(arrays(dtype, shape, TAME)))

    q, k = tensor(batch, heads * group, queries, size), tensor(batch, heads, keys, size)
    v = tensor(batch, heads, keys, v_size)
    past, lengths = None, None
    kind = draw(st.sampled_from(["plain", "past", "lengths"]))
    if kind == "past":
        before = draw(COUNTS)
        past = tensor(batch, heads, before, size), tensor(batch, heads, before, v_size)
        keys += before
    elif kind == "lengths":
        counts = [draw(st.integers(0, keys)) for _ in range(batch)]
        lengths = np.array(counts, np.int64)
    attributes: dict[str, Any] = {}
    for name, values in (
        ("is_causal", [0, 1]),
        ("left_window_size", [-1, 0, 2]),
        ("right_window_size", [-1, 0, 1]),
        ("softcap", [0.0, 2.0]),
        ("scale", [0.25, 1.0]),
    ):
        if draw(st.booleans()):
            attributes[name] = draw(st.sampled_from(values))
    mask = draw(masks(dtype, (batch, heads * group, queries, keys)))
    return Case(q, k, v, mask, past, lengths, attributes)


def flat(x: Array) -> Array:
    """[batch, head, row, size] as [batch, row, head * size]."""
    return np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


@np.errstate(all="ignore")
def attend(case: Case) -> tuple[list[Array], list[Array]]:
    """The scores in the four forms that may be shown, then the result; and how far off each is."""
    unit = epsilon(case.q.dtype)
    q, bias = wide(case.q), case.bias()
    group = case.q.shape[1] // case.k.shape[1]
    k, v = (np.repeat(wide(x), group, 1) for x in (case.keys, case.values))
    size = case.q.shape[3]
    scale = case.attributes.get("scale", 1 / np.sqrt(size))
    turned = np.swapaxes(k, 2, 3)
    raw = q @ turned * scale
    raw_error = unit * (size + 5) * (np.abs(q) @ np.abs(turned)) * scale
    cap = case.attributes.get("softcap", 0.0)
    capped = cap * np.tanh(raw / cap) if cap else raw
    error = raw_error + 4 * unit * cap
    masked = capped + bias
    seen = np.isfinite(masked)
    error = np.where(seen, error + unit * (np.abs(capped) + np.abs(bias)), 0)
    top = np.max(masked, axis=-1, keepdims=True, initial=-np.inf)
    shifted = np.where(seen, masked - top, -np.inf)
    weights = np.exp(shifted)
    total = weights.sum(axis=-1, keepdims=True)
    weights = np.where(total > 0, weights / total, 0)
    worst = np.max(error, axis=-1, keepdims=True, initial=0)
    distance = np.where(seen, np.abs(shifted), 0)
    off = 2 * worst + unit * (k.shape[2] + 8 + distance)
    # A weight below the normal numbers may be zero.
    tiny = float(np.finfo(np.float32 if unit > 1e-10 else np.float64).tiny)
    weights_error = np.where(seen, weights * off * (1 + off) + tiny, 0)
    y = weights @ v
    y_error = (weights_error + unit * (k.shape[2] + 1) * weights) @ np.abs(v)
    return [raw, capped, masked, weights, y], [raw_error, raw_error + 4 * unit * cap, error,
                                               weights_error, y_error]  # fmt: skip


@given(cases(), st.booleans(), st.sampled_from([None, 0, 1, 2, 3]), st.data())
def test_attention(case: Case, rows: bool, mode: int | None, data: st.DataObject) -> None:
    dtype, attributes = case.q.dtype, dict(case.attributes)
    first = [case.q, case.k, case.v]
    if rows:
        attributes |= {"q_num_heads": case.q.shape[1], "kv_num_heads": case.k.shape[1]}
        first = [flat(x) for x in first]
    if case.lengths is not None:  # type inference takes a fourth output for a cache
        mode = None
    if mode is not None:
        attributes["qk_matmul_output_mode"] = mode
    present = case.past is not None
    inputs = [*first, case.mask, *(case.past or (None, None)), case.lengths]
    while inputs[-1] is None:
        inputs.pop()
    setup = data.draw(setups(len(inputs)))
    wanted = (True, present, present, mode is not None)
    y, *rest = run("Attention", inputs, attributes, setup, wanted)
    expected, errors = attend(case)
    result, error = expected[4], errors[4]
    assert_within(y, *((flat(result), flat(error)) if rows else (result, error)), dtype)
    if present:
        assert_exact(rest.pop(0), case.keys)
        assert_exact(rest.pop(0), case.values)
    if mode is not None:
        assert_within(rest.pop(0), expected[mode], errors[mode], dtype)


ROTATED = tuple(dtype for dtype in FLOATS if dtype.itemsize < 8)


@given(st.sampled_from(ROTATED), st.booleans(), st.booleans(), st.booleans(), st.data())
def test_rotary_embedding(
    dtype: Any, interleaved: bool, with_ids: bool, rows: bool, data: st.DataObject
) -> None:
    batch, count, heads = data.draw(st.sampled_from([1, 2, 0])), data.draw(COUNTS), data.draw(HEADS)
    half, more = data.draw(st.sampled_from([1, 2, 4, 8, 9, 17])), data.draw(st.sampled_from([0, 3]))
    x = data.draw(arrays(dtype, (batch, heads, count, 2 * half + more), TAME))
    attributes = {"interleaved": int(interleaved)}
    if more or data.draw(st.booleans()):
        attributes["rotary_embedding_dim"] = 2 * half
    positions = 5
    shape = (positions, half) if with_ids else (batch, count, half)
    caches = [data.draw(arrays(dtype, shape, TAME)) for _ in range(2)]
    inputs = [x, *caches]
    if with_ids:
        generator = np.random.default_rng(data.draw(st.integers(0, 99)))
        ids = generator.integers(0, positions, (batch, count))
        inputs.append(ids)
        cos, sin = (wide(cache)[ids][:, None] for cache in caches)
    else:
        cos, sin = (wide(cache)[:, None] for cache in caches)
    one = np.arange(half) * (2 if interleaved else 1)
    other = one + (1 if interleaved else half)
    expected, error = wide(x).copy(), np.zeros(x.shape)
    a, b = wide(x)[..., one], wide(x)[..., other]
    expected[..., one], expected[..., other] = cos * a - sin * b, sin * a + cos * b
    error[..., one] = np.abs(cos * a) + np.abs(sin * b)
    error[..., other] = np.abs(sin * a) + np.abs(cos * b)
    error *= 2 * epsilon(dtype)
    if rows:
        inputs[0], attributes["num_heads"] = flat(x), heads
        expected, error = flat(expected), flat(error)
    [y] = run("RotaryEmbedding", inputs, attributes, data.draw(setups(len(inputs))))
    assert_within(y, expected, error, dtype)
