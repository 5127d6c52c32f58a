# SPDX-License-Identifier: Apache-2.0
"""Reductions, ArgMax and ArgMin, and running sums, over any axes.

Oracle: NumPy in float64, or exact Python integers. A sum of n terms is off by no more than n units
of their magnitude, in whatever order they are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.bounds import assert_exact, assert_within, epsilon, wide
from tests.properties.integers import wrap
from tests.properties.running import Setup, run
from tests.properties.strategies import (
    BOOL,
    FLOATS,
    HOLED,
    INTEGERS,
    NUMBERS,
    TAME,
    Array,
    arrays,
    axes_of,
    axis_of,
    setups,
    shapes,
)

ACCUMULATED = tuple(d for d in INTEGERS if d.itemsize >= 4)
EXTREMES = (*ACCUMULATED, np.dtype(np.int8), np.dtype(np.uint8))


@dataclass(frozen=True)
class Axes:
    """The axes of a reduction and how a node is told of them."""

    axes: tuple[int, ...]
    input: Array | None
    attributes: dict[str, int]
    setup: Setup

    def count(self, x: Array) -> int:
        return math.prod(x.shape[axis] for axis in self.axes)

    def fold(self, function: Callable[..., Any], x: Array, **options: Any) -> Array:
        keeps = bool(self.attributes["keepdims"])
        return np.asarray(function(x, axis=self.axes, keepdims=keeps, **options))


@st.composite
def reductions(draw: st.DrawFn, dtype: Any, flavours: Any) -> tuple[Array, Axes]:
    """An array and the axes to reduce."""
    shape = draw(shapes())
    rank = len(shape)
    x = draw(arrays(dtype, shape, flavours))
    keepdims, noop = draw(st.booleans()), draw(st.booleans())
    axes = draw(axes_of(rank)) if rank and draw(st.booleans()) else []
    if axes or draw(st.booleans()):
        given_axes = np.array(axes, np.int64)
    else:
        given_axes = None
    reduced = tuple(axes) if axes else () if noop else tuple(range(rank))
    attributes = {"keepdims": int(keepdims), "noop_with_empty_axes": int(noop)}
    return x, Axes(tuple(a % rank for a in reduced), given_axes, attributes, draw(setups(2)))


@dataclass(frozen=True)
class Reduction:
    """`error` is in units of the work type's epsilon, of n elements x and the result y."""

    op_type: str
    function: Callable[..., Array]
    error: Callable[[Axes, Array, Array, int], Array] | None


def total(a: Axes, x: Array) -> Array:
    return a.fold(np.sum, np.abs(x))


def log_sum_exp(x: Array, **options: Any) -> Array:
    largest = np.max(x, axis=options["axis"], keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0)
    inner = np.log(np.sum(np.exp(x - shift), **options))
    return np.asarray(inner + shift.reshape(inner.shape))


REDUCTIONS = [
    Reduction("ReduceSum", np.sum, lambda a, x, y, n: n * total(a, x)),
    Reduction("ReduceMean", lambda x, **o: np.sum(x, **o) / np.sum(np.ones_like(x), **o),
              lambda a, x, y, n: (n + 2) * total(a, x) / max(n, 1)),
    Reduction("ReduceMax", lambda x, **o: np.max(x, initial=-np.inf, **o), None),
    Reduction("ReduceMin", lambda x, **o: np.min(x, initial=np.inf, **o), None),
    Reduction("ReduceProd", np.prod, lambda a, x, y, n: n * np.abs(y)),
    Reduction("ReduceL1", lambda x, **o: np.sum(np.abs(x), **o), lambda a, x, y, n: n * y),
    Reduction("ReduceL2", lambda x, **o: np.sqrt(np.sum(x * x, **o)),
              lambda a, x, y, n: (n + 2) * y),
    Reduction("ReduceSumSquare", lambda x, **o: np.sum(x * x, **o),
              lambda a, x, y, n: (n + 1) * y),
    Reduction("ReduceLogSum", lambda x, **o: np.log(np.sum(x, **o)),
              lambda a, x, y, n: n + 2 * np.abs(y)),
    # Of exp(x - max), only terms near 1 matter, where the difference is rounded little.
    Reduction("ReduceLogSumExp", log_sum_exp,
              lambda a, x, y, n: n + 5 + 2 * np.abs(y) + 2 * math.log(max(n, 1))),
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda r: r.op_type)
@given(st.data())
def test_floats(reduction: Reduction, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    x, axes = data.draw(reductions(dtype, HOLED))
    if reduction.op_type == "ReduceProd":  # near 1: so that no product of some leaves the range
        x = (1 + wide(x) / 64).astype(dtype)
    if reduction.op_type == "ReduceLogSum":
        x = np.abs(x)
    [y] = run(reduction.op_type, [x, axes.input], axes.attributes, axes.setup)
    with np.errstate(all="ignore"):
        expected = axes.fold(reduction.function, wide(x))
        if reduction.error is None:
            assert_exact(y + np.zeros((), dtype), np.asarray(expected + 0.0).astype(dtype))
            return
        error = epsilon(dtype) * reduction.error(axes, wide(x), expected, axes.count(x))
    assert_within(y, expected, error, dtype)


def truncated_mean(x: Array, **options: Any) -> Array:
    sums, counts = np.sum(x, **options), np.sum(np.ones_like(x), **options)
    divide = np.frompyfunc(lambda s, n: int(abs(s) // n) * (1 if s >= 0 else -1) if n else 0, 2, 1)
    return np.asarray(divide(sums, counts), dtype=object)


INTEGER_REDUCTIONS: list[tuple[str, Callable[..., Any], Any, Any]] = [
    ("ReduceSum", np.sum, ACCUMULATED, None),
    ("ReduceProd", np.prod, ACCUMULATED, None),
    ("ReduceL1", lambda x, **o: np.sum(np.abs(x), **o), ACCUMULATED, None),
    ("ReduceSumSquare", lambda x, **o: np.sum(x * x, **o), ACCUMULATED, None),
    ("ReduceMean", truncated_mean, ACCUMULATED, TAME),
    ("ReduceMax", np.max, EXTREMES, None),
    ("ReduceMin", np.min, EXTREMES, None),
]


@pytest.mark.parametrize(
    "op_type, function, dtypes, flavours",
    INTEGER_REDUCTIONS,
    ids=[r[0] for r in INTEGER_REDUCTIONS],
)
@given(st.data())
def test_integers(
    op_type: str, function: Callable[..., Any], dtypes: Any, flavours: Any, data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from(dtypes))
    x, axes = data.draw(reductions(dtype, flavours or (*TAME, "bits", "special")))
    [y] = run(op_type, [x, axes.input], axes.attributes, axes.setup)
    options = {}
    if op_type in ("ReduceMax", "ReduceMin"):
        info = np.iinfo(dtype)
        options["initial"] = int(info.min if op_type == "ReduceMax" else info.max)
    expected = axes.fold(function, x.astype(object), **options)
    assert_exact(y, wrap(np.asarray(expected, dtype=object), dtype))


@given(st.data())
def test_bools(data: st.DataObject) -> None:
    x, axes = data.draw(reductions(BOOL, TAME))
    for op_type, function in (("ReduceMax", np.any), ("ReduceMin", np.all)):
        [y] = run(op_type, [x, axes.input], axes.attributes, axes.setup)
        assert_exact(y, axes.fold(function, x))


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@given(st.data())
def test_places(op_type: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(NUMBERS))
    x = data.draw(arrays(dtype, data.draw(shapes(least=1, empty=False))))
    axis = data.draw(axis_of(x.ndim))
    keepdims, last = data.draw(st.booleans()), data.draw(st.booleans())
    attributes = {"axis": axis, "keepdims": int(keepdims), "select_last_index": int(last)}
    [y] = run(op_type, [x], attributes, data.draw(setups(1)))
    numbers = x if dtype.kind in "iu" else wide(x)
    find = np.argmax if op_type == "ArgMax" else np.argmin
    places = np.asarray(find(np.flip(numbers, axis) if last else numbers, axis, keepdims=keepdims))
    assert_exact(y, x.shape[axis] - 1 - places if last else places)


def running(function: Any, x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
    """Along the axis, `function` of an element and all before it; or of those before alone."""
    line = np.moveaxis(np.flip(x, axis) if reverse else x, axis, 0)
    if exclusive:
        line = np.concatenate([np.full_like(line[:1], function.identity), line[:-1]])
    found = np.moveaxis(function.accumulate(line, axis=0), 0, axis)
    return np.flip(found, axis) if reverse else found


@pytest.mark.parametrize("op_type", ["CumSum", "CumProd"])
@given(st.data())
def test_running(op_type: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([*FLOATS, *ACCUMULATED]))
    flavours = HOLED if dtype in FLOATS else (*TAME, "bits")
    x = data.draw(arrays(dtype, data.draw(shapes(least=1)), flavours))
    axis = data.draw(axis_of(x.ndim))
    exclusive, reverse = data.draw(st.booleans()), data.draw(st.booleans())
    attributes = {"exclusive": int(exclusive), "reverse": int(reverse)}
    given_axis = np.full(data.draw(st.sampled_from([(), (1,)])), axis, np.int64)
    if op_type == "CumProd" and dtype in FLOATS:
        x = (1 + wide(x) / 64).astype(dtype)
    [y] = run(op_type, [x, given_axis], attributes, data.draw(setups(2)))
    function = np.add if op_type == "CumSum" else np.multiply
    if dtype not in FLOATS:
        expected = running(function, x.astype(object), axis, exclusive, reverse)
        assert_exact(y, wrap(expected, dtype))
        return
    with np.errstate(all="ignore"):
        expected = running(function, wide(x), axis, exclusive, reverse)
        magnitude = running(function, np.abs(wide(x)), axis, exclusive, reverse)
    assert_within(y, expected, epsilon(dtype) * x.shape[axis] * magnitude, dtype)
