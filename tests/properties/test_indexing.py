# SPDX-License-Identifier: Apache-2.0
"""Operators that pick and place elements by index, order and condition.

Oracle: NumPy, or plain loops over the elements.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.properties.running import assert_same_bits, run
from tests.properties.strategies import (
    INTEGERS,
    Array,
    Shape,
    arrays,
    axis_of,
    setups,
    shapes,
)

DTYPES = tuple(np.dtype(t) for t in (np.float32, np.int64, np.float16, np.bool_, np.uint8, object))
SUMMED = tuple(np.dtype(t) for t in (np.float32, np.float64, np.int32, np.int64, np.uint8))


@st.composite
def tensors(draw: st.DrawFn, least: int = 1, most: int = 4, dtypes: Any = DTYPES) -> Array:
    dtype = draw(st.sampled_from(dtypes))
    return draw(arrays(dtype, draw(shapes(least, most, limit=600))))


@st.composite
def indices(draw: st.DrawFn, size: int, shape: Shape) -> Array:
    """Indices of an axis, counted from either end, of either index type."""
    seed = draw(st.integers(0, 2**16))
    if not size:
        assume(0 in shape)
        return np.zeros(shape, np.int64)
    found = np.random.default_rng(seed).integers(-size, size, shape)
    return np.asarray(found.astype(draw(st.sampled_from([np.int64, np.int32]))))


# --- gather


@given(data=st.data(), x=tensors())
def test_gather(data: st.DataObject, x: Array) -> None:
    axis = data.draw(axis_of(x.ndim))
    at = data.draw(indices(x.shape[axis], data.draw(shapes(0, 3, limit=60))))
    y = run("Gather", [x, at], {"axis": axis}, data.draw(setups(2)))[0]
    if not x.shape[axis]:
        assert y.size == 0
        return
    axis %= x.ndim
    expected = np.empty(x.shape[:axis] + at.shape + x.shape[axis + 1 :], x.dtype)
    expected[...] = np.take(x, at, axis)
    assert_same_bits(y, expected)


@given(data=st.data(), x=tensors())
def test_gather_elements(data: st.DataObject, x: Array) -> None:
    axis = data.draw(axis_of(x.ndim))
    shape = [data.draw(st.integers(0, size)) for size in x.shape]
    shape[axis] = data.draw(st.integers(0, 9))
    at = data.draw(indices(x.shape[axis], tuple(shape)))
    y = run("GatherElements", [x, at], {"axis": axis}, data.draw(setups(2)))[0]
    expected = np.empty(shape, x.dtype)
    for place in np.ndindex(*shape):
        source = list(place)
        source[axis] = at[place]
        expected[place] = x[tuple(source)]
    assert_same_bits(y, expected)


@given(data=st.data(), x=tensors())
def test_gather_nd(data: st.DataObject, x: Array) -> None:
    draw = data.draw
    batch = draw(st.integers(0, x.ndim - 1))
    depth = draw(st.integers(1, x.ndim - batch))
    lead = x.shape[:batch] + draw(shapes(0, 2, limit=30))
    columns = [
        draw(indices(size, lead)).astype(np.int64) for size in x.shape[batch : batch + depth]
    ]
    at = np.stack(columns, -1)
    y = run("GatherND", [x, at], {"batch_dims": batch}, draw(setups(2)))[0]
    expected = np.empty(lead + x.shape[batch + depth :], x.dtype)
    for place in np.ndindex(*lead):
        expected[place] = x[place[:batch] + tuple(at[place])]
    assert_same_bits(y, expected)


# --- scatter


def combine(reduction: str, old: Any, new: Any) -> Any:
    if reduction == "add":
        return old + new
    if reduction == "mul":
        return old * new
    if reduction == "max":
        return np.maximum(old, new)
    if reduction == "min":
        return np.minimum(old, new)
    return new


REDUCTIONS = ["none", "add", "mul", "max", "min"]


@given(data=st.data())
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scatter_elements(reduction: str, data: st.DataObject) -> None:
    draw = data.draw
    x = draw(tensors(dtypes=SUMMED if reduction != "none" else DTYPES))
    axis = draw(axis_of(x.ndim))
    shape = [draw(st.integers(0, size)) for size in x.shape]
    at = draw(indices(x.shape[axis], tuple(shape)))
    if reduction == "none":  # the order of duplicates is not defined
        at = np.argsort(np.random.default_rng(at.size).random(shape), axis).astype(np.int64)
    updates = draw(arrays(x.dtype, tuple(shape)))
    y = run(
        "ScatterElements", [x, at, updates], {"axis": axis, "reduction": reduction}, draw(setups(3))
    )[0]
    expected = x.copy()
    with np.errstate(all="ignore"):
        for place in np.ndindex(*shape):
            target = list(place)
            target[axis] = at[place]
            old = expected[tuple(target)]
            expected[tuple(target)] = combine(reduction, old, updates[place])
    assert_equal_numbers(y, expected)


@given(data=st.data())
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scatter_nd(reduction: str, data: st.DataObject) -> None:
    draw = data.draw
    x = draw(tensors(dtypes=SUMMED if reduction != "none" else DTYPES))
    depth = draw(st.integers(1, x.ndim))
    if reduction == "none":
        places = list(np.ndindex(*x.shape[:depth]))
        chosen = draw(st.permutations(range(len(places))))[: draw(st.integers(0, 9))]
        at = np.array([places[i] for i in chosen], np.int64).reshape(len(chosen), depth)
    else:
        lead = draw(shapes(0, 2, limit=30))
        at = np.stack([draw(indices(s, lead)).astype(np.int64) for s in x.shape[:depth]], -1)
    updates = draw(arrays(x.dtype, at.shape[:-1] + x.shape[depth:]))
    y = run("ScatterND", [x, at, updates], {"reduction": reduction}, draw(setups(3)))[0]
    expected = x.copy()
    with np.errstate(all="ignore"):
        for place in np.ndindex(*at.shape[:-1]):
            target = tuple(at[place])
            expected[target] = combine(reduction, expected[target], updates[place])
    assert_equal_numbers(y, expected)


def assert_equal_numbers(actual: Array, expected: Array) -> None:
    """Equal, where a NaN may have any bits."""
    if expected.dtype.kind == "f":
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)
    else:
        assert_same_bits(actual, expected)


# --- conditions


@given(data=st.data(), x=tensors(1, 4))
def test_compress(data: st.DataObject, x: Array) -> None:
    axis = data.draw(st.one_of(st.none(), axis_of(x.ndim)))
    size = x.size if axis is None else x.shape[axis]
    condition = data.draw(arrays(np.bool_, (data.draw(st.integers(0, min(size, 40))),)))
    attributes = {} if axis is None else {"axis": axis}
    y = run("Compress", [x, condition], attributes, data.draw(setups(2)))[0]
    assert_same_bits(y, np.compress(condition, x, axis))


@given(data=st.data(), x=tensors(0, 4, (np.float32, np.int32, np.bool_, np.uint8, np.int64)))
def test_non_zero(data: st.DataObject, x: Array) -> None:
    y = run("NonZero", [x], setup=data.draw(setups(1)))[0]
    expected = np.array(np.nonzero(np.atleast_1d(x)), np.int64)
    assert_same_bits(y, expected if x.ndim else expected[:0].reshape(0, expected.shape[1]))


@given(data=st.data(), shape=shapes(1, 3, limit=60))
def test_one_hot(data: st.DataObject, shape: Shape) -> None:
    draw = data.draw
    depth = draw(st.integers(1, 9))
    seed = draw(st.integers(0, 99))
    at = np.random.default_rng(seed).integers(-depth - 2, depth + 2, shape)  # outside: all off
    at = at.astype(draw(st.sampled_from([np.int64, np.int32, np.float32])))
    values = draw(arrays(draw(st.sampled_from([np.float32, np.int64, np.bool_])), (2,), ("whole",)))
    axis = draw(axis_of(len(shape) + 1))
    inputs = [at, np.array(depth, np.int64), values]
    y = run("OneHot", inputs, {"axis": axis}, draw(setups(3)))[0]
    column = np.where(at < 0, at + depth, at)
    hot = np.asarray(column)[..., None] == np.arange(depth)
    expected = np.where(hot, values[1], values[0]).astype(values.dtype)
    assert_same_bits(y, np.ascontiguousarray(np.moveaxis(expected, -1, axis)))


# --- order


def ranks(x: Array, largest: int) -> Array:
    """Along the last axis: indices by value, NaN as the largest, equal ones in their order."""
    if x.dtype.kind == "f":
        key = np.where(np.isnan(x), np.inf, x)
        order = np.lexsort((np.where(np.isnan(x), 1, 0), key))
        if largest:
            flipped = np.lexsort((-np.where(np.isnan(x), 1, 0), -key))
            return np.asarray(flipped)
        return np.asarray(order)
    wide = [int(v) for v in x]
    return np.array(sorted(range(len(wide)), key=lambda i: (-wide[i] if largest else wide[i], i)))


@given(data=st.data(), x=tensors(1, 4, (np.dtype(np.float32), np.dtype(np.float64), *INTEGERS)))
def test_top_k(data: st.DataObject, x: Array) -> None:
    axis = data.draw(axis_of(x.ndim))
    k = data.draw(st.integers(0, x.shape[axis]))
    largest = data.draw(st.integers(0, 1))
    inputs = [x, np.array([k], np.int64)]
    attributes = {"axis": axis, "largest": largest}
    values, at = run("TopK", inputs, attributes, data.draw(setups(2)), (True, True))
    lines = np.moveaxis(x, axis, -1)
    order = np.zeros((*lines.shape[:-1], k), np.int64)
    for place in np.ndindex(*lines.shape[:-1]):
        order[place] = ranks(lines[place], largest)[:k]
    expected = np.moveaxis(np.take_along_axis(lines, order, -1), -1, axis)
    assert_same_bits(at, np.ascontiguousarray(np.moveaxis(order, -1, axis)))
    assert_same_bits(values, np.ascontiguousarray(expected))


@given(data=st.data(), x=tensors(0, 3, (np.float32, np.int64, np.uint8, object)))
def test_unique(data: st.DataObject, x: Array) -> None:
    if x.dtype == np.float32:
        with np.errstate(invalid="ignore"):
            x = np.round(x)
        assume(not np.isnan(x).any())
        x = x + np.float32(0)  # one zero
    axis = data.draw(st.none() if x.ndim == 0 else st.one_of(st.none(), axis_of(x.ndim)))
    assume(axis is None or x.size)
    is_sorted = data.draw(st.integers(0, 1))
    attributes = {"sorted": is_sorted, **({} if axis is None else {"axis": axis})}
    results = run("Unique", [x], attributes, data.draw(setups(1)), (True,) * 4)
    items = x.reshape(-1) if axis is None else np.moveaxis(x, axis, 0)
    keys = [tuple(np.asarray(item).reshape(-1).tolist()) for item in items]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    found = sorted(first) if is_sorted else sorted(first, key=first.__getitem__)
    place = {key: i for i, key in enumerate(found)}
    expected = items[[first[key] for key in found]]
    if axis is not None:
        expected = np.moveaxis(expected, 0, axis)
    assert_same_bits(results[0], np.ascontiguousarray(expected))
    numbers = (
        [first[key] for key in found],
        [place[key] for key in keys],
        [keys.count(key) for key in found],
    )
    for actual, wanted in zip(results[1:], numbers):
        assert_same_bits(actual, np.array(wanted, np.int64).reshape(-1))


@given(data=st.data())
def test_non_max_suppression(data: st.DataObject) -> None:
    draw = data.draw
    batches, classes, boxes = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 24)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    corners = rng.uniform(0, 10, (batches, boxes, 2, 2)).astype(np.float32)
    center = draw(st.integers(0, 1))
    scores = (rng.integers(0, 30, (batches, classes, boxes)) / 32).astype(np.float32)
    most = draw(st.integers(0, boxes + 1))
    overlap = draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    least = draw(st.sampled_from([None, 0.0, 0.5]))
    low, high = corners.min(-2), corners.max(-2)
    if center:
        given_boxes = np.concatenate([(low + high) / 2, high - low], -1)[..., [0, 1, 2, 3]]
        low, high = (
            given_boxes[..., :2] - given_boxes[..., 2:] / 2,
            given_boxes[..., :2] + given_boxes[..., 2:] / 2,
        )
    else:
        given_boxes = corners.reshape(batches, boxes, 4)  # any diagonal
    inputs = [
        given_boxes.astype(np.float32),
        scores,
        np.array(most, np.int64),
        np.array(overlap, np.float32),
        None if least is None else np.array(least, np.float32),
    ]
    setup = draw(setups(5))
    y = run("NonMaxSuppression", inputs, {"center_point_box": center}, setup)[0]
    expected = []
    for b, c in itertools.product(range(batches), range(classes)):
        kept: list[int] = []
        for i in sorted(range(boxes), key=lambda i: (-scores[b, c, i], i)):
            if len(kept) == most or (least is not None and scores[b, c, i] <= least):
                break
            if all(_overlap(low[b], high[b], i, k) <= overlap for k in kept):
                kept.append(i)
        expected += [[b, c, i] for i in kept]
    assert_same_bits(y, np.array(expected, np.int64).reshape(-1, 3))


def _overlap(low: Array, high: Array, i: int, k: int) -> float:
    sides = np.minimum(high[i], high[k]) - np.maximum(low[i], low[k])
    if (sides <= 0).any():
        return 0.0
    shared = np.float32(sides[0] * sides[1])
    areas = [np.float32(np.prod(high[j] - low[j])) for j in (i, k)]
    return float(shared / (areas[0] + areas[1] - shared))


@given(st.data())
def test_tensor_scatter(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES[:-1]))
    shape = data.draw(shapes(least=2, most=5, limit=300))
    axis = data.draw(axis_of(len(shape)).filter(lambda axis: axis % len(shape) > 0))
    at = axis % len(shape)
    circular = data.draw(st.booleans())
    written = data.draw(st.integers(0, shape[at]))
    cache = data.draw(arrays(dtype, shape))
    update = data.draw(arrays(dtype, (*shape[:at], written, *shape[at + 1 :])))
    room = max(shape[at] - 1, 0) if circular else shape[at] - written
    starts = [data.draw(st.integers(0, room)) for _ in range(shape[0])]
    inputs = [cache, update, np.array(starts, np.int64)]
    if not any(starts) and data.draw(st.booleans()):
        inputs.pop()
    attributes = {"axis": axis, "mode": "circular" if circular else "linear"}
    [y] = run("TensorScatter", inputs, attributes, data.draw(setups(len(inputs))))
    expected = np.moveaxis(cache.copy(), at, 1)
    for image, start, rows in zip(expected, starts, np.moveaxis(update, at, 1)):
        if written:
            image[(start + np.arange(written)) % shape[at]] = rows
    assert_same_bits(y, np.moveaxis(expected, 1, at))
