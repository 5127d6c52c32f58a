# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements without computing, on carriers of every width.

Oracle: NumPy on the same elements, so results are equal to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bascule import GraphOptimizationLevel
from tests.properties.running import OPSET, Setup, run
from tests.properties.running import assert_same_bits as _assert_same_bits
from tests.properties.strategies import (
    BFLOAT16,
    Array,
    Shape,
    arrays,
    axes_of,
    axis_of,
    broadcast_shapes,
    fill,
    setups,
    shapes,
)

PLAIN: tuple[Any, ...] = (
    np.float32,
    np.int64,
    np.float16,
    np.bool_,
    np.uint8,
    np.float64,
    object,
    np.int16,
)
CARRIERS = tuple(np.dtype(t) for t in (*PLAIN, np.complex64, ml_dtypes.int4, BFLOAT16))


def carriers(op_type: str) -> list[np.dtype[Any]]:
    """Those that an operator's schema allows for its first input."""
    schema = onnx.defs.get_schema(op_type, OPSET)
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    types = allowed[schema.inputs[0].type_str]
    names = {dtype: NAMES.get(dtype.name, dtype.name) for dtype in CARRIERS}
    return [dtype for dtype, name in names.items() if f"tensor({name})" in types]


def assert_same_bits(actual: Array, expected: Array) -> None:
    """The same elements; those of half a byte may be held in more than one way."""
    if expected.dtype == ml_dtypes.int4:
        assert actual.dtype == expected.dtype
        actual, expected = actual.astype(np.int8), expected.astype(np.int8)
    _assert_same_bits(actual, expected)


NAMES = {"float32": "float", "float64": "double", "object": "string"}


def elements(shape: Shape, dtypes: Sequence[Any] = CARRIERS) -> st.SearchStrategy[Array]:
    """An array of one of the carriers."""
    return st.sampled_from(tuple(np.dtype(t) for t in dtypes)).flatmap(
        lambda dtype: complex_of(shape) if dtype == np.complex64 else arrays(dtype, shape)
    )


def complex_of(shape: Shape) -> st.SearchStrategy[Array]:
    return st.builds(
        lambda re, im: (re + 1j * im.astype(np.complex64)).astype(np.complex64),
        arrays(np.float32, shape, ("plain",)),
        arrays(np.float32, shape, ("plain",)),
    )


@st.composite
def tensors(
    draw: st.DrawFn, least: int = 0, most: int = 6, dtypes: Sequence[Any] = CARRIERS
) -> Array:
    return draw(elements(draw(shapes(least, most)), dtypes))


def ints(values: Any, dtype: Any = np.int64) -> Array:
    return np.asarray(values, dtype=dtype)


def indices_of(draw: Any, size: int, shape: Shape) -> Array:
    """Indices into an axis, counted from either end, of either index type."""
    seed = draw(st.integers(0, 2**16))
    found = np.random.default_rng(seed).integers(-size, size, shape)
    return found.astype(draw(st.sampled_from([np.int64, np.int32])))


# --- shapes


@given(data=st.data(), x=tensors(0, 6, carriers("Reshape")))
def test_reshape(data: st.DataObject, x: Array) -> None:
    draw = data.draw
    sizes: list[int] = []
    left = x.size
    while left > 1 and draw(st.booleans()):
        divisors = [d for d in range(1, min(left, 64) + 1) if left % d == 0]
        sizes.append(draw(st.sampled_from(divisors)))
        left //= sizes[-1]
    sizes.append(left)
    asked = list(sizes)
    if x.size and draw(st.booleans()):
        asked[draw(st.integers(0, len(sizes) - 1))] = -1
    setup = draw(setups(2))
    allow = 1 if 0 in asked else draw(st.integers(0, 1))
    y = run("Reshape", [x, ints(asked)], {"allowzero": allow}, setup)[0]
    assert_same_bits(y, x.reshape(sizes))


@given(data=st.data(), x=tensors(1, 6, carriers("Reshape")))
def test_reshape_keeps_sizes_where_asked_for_zero(data: st.DataObject, x: Array) -> None:
    keep = data.draw(st.integers(0, x.ndim))
    rest = math.prod(x.shape[keep:])
    assume(rest or keep == x.ndim)
    y = run("Reshape", [x, ints([0] * keep + [rest])], setup=data.draw(setups(2)))[0]
    assert_same_bits(y, x.reshape(*x.shape[:keep], rest))


@given(data=st.data(), x=tensors(0, 6, carriers("Flatten")))
def test_flatten(data: st.DataObject, x: Array) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim))
    at = axis + x.ndim if axis < 0 else axis
    y = run("Flatten", [x], {"axis": axis}, data.draw(setups(1)))[0]
    assert_same_bits(y, x.reshape(math.prod(x.shape[:at]), math.prod(x.shape[at:])))


@given(data=st.data(), x=tensors(0, 4, carriers("Squeeze")))
def test_squeeze_undoes_unsqueeze(data: st.DataObject, x: Array) -> None:
    rank = x.ndim + data.draw(st.integers(0, 2))
    axes = sorted(data.draw(st.permutations(range(rank)))[: rank - x.ndim])
    expected = np.expand_dims(x, tuple(axes))
    asked = [a - rank if data.draw(st.booleans()) else a for a in axes]
    y = run("Unsqueeze", [x, ints(asked)], setup=data.draw(setups(2)))[0]
    assert_same_bits(y, expected)
    back = run("Squeeze", [y, ints(asked)], setup=data.draw(setups(2)))[0]
    assert_same_bits(back, x)
    if 1 not in x.shape:
        assert_same_bits(run("Squeeze", [y], setup=data.draw(setups(1)))[0], x)


@given(data=st.data(), x=tensors(0, 6, carriers("Transpose")))
def test_transpose(data: st.DataObject, x: Array) -> None:
    permutation = data.draw(st.permutations(range(x.ndim)))
    setup = data.draw(setups(1))
    y = run("Transpose", [x], {"perm": permutation} if x.ndim else {}, setup)[0]
    assert_same_bits(y, np.ascontiguousarray(x.transpose(permutation)).reshape(y.shape))
    assert y.shape == tuple(x.shape[p] for p in permutation)
    if x.ndim:
        assert_same_bits(run("Transpose", [x], setup=setup)[0], np.ascontiguousarray(x.T))


@given(data=st.data(), pair=broadcast_shapes(2))
def test_expand(data: st.DataObject, pair: tuple[Shape, Shape]) -> None:
    x = data.draw(elements(pair[0], carriers("Expand")))
    setup = data.draw(setups(2))
    y = run("Expand", [x, ints(pair[1])], setup=setup)[0]
    assert_same_bits(y, np.broadcast_to(x, np.broadcast_shapes(*pair)).copy())


@given(data=st.data(), x=tensors(1, 4, carriers("Tile")))
def test_tile(data: st.DataObject, x: Array) -> None:
    repeats = [data.draw(st.sampled_from([1, 2, 3, 0])) for _ in x.shape]
    assume(x.size * math.prod(repeats) < 20000)
    y = run("Tile", [x, ints(repeats)], setup=data.draw(setups(2)))[0]
    assert_same_bits(y, np.tile(x, repeats))


@given(data=st.data(), x=tensors(0, 6, carriers("Shape")))
def test_shape_and_size(data: st.DataObject, x: Array) -> None:
    bounds = st.integers(-x.ndim - 2, x.ndim + 2)
    start, end = data.draw(bounds), data.draw(bounds)
    setup = data.draw(setups(1))
    y = run("Shape", [x], {"start": start, "end": end}, setup)[0]
    assert_same_bits(y, ints(x.shape[slice(start, end)]).reshape(-1))
    assert_same_bits(run("Size", [x], setup=setup)[0], ints(x.size))


# --- parts


@given(data=st.data(), x=tensors(1, 6, carriers("Slice")))
def test_slice(data: st.DataObject, x: Array) -> None:
    draw = data.draw
    axes = draw(axes_of(x.ndim))
    far = st.sampled_from([-(2**63), 2**63 - 1, -(2**31), 1000, -1000])
    ends = [st.one_of(st.integers(-x.shape[a] - 2, x.shape[a] + 2), far) for a in axes]
    starts, stops = [draw(e) for e in ends], [draw(e) for e in ends]
    steps = [draw(st.sampled_from([1, -1, 2, -2, 3, -7, 2**40, -(2**40)])) for _ in axes]
    index: list[slice] = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps):
        size = x.shape[axis]
        # The standard clamps; a bound before the start of a backward slice means "to the front".
        low, high = (0, size) if step > 0 else (-1, size - 1)
        first = min(max(start + size if start < 0 else start, max(low, 0)), high)
        last = min(max(stop + size if stop < 0 else stop, low), high + (step < 0))
        chosen = range(first, last, step)
        index[axis] = (
            slice(0, 0)
            if not len(chosen)
            else slice(
                chosen[0],
                None if chosen[-1] + step < 0 else chosen[-1] + (1 if step > 0 else -1),
                step,
            )
        )
    dtype = np.int64 if any(abs(v) > 2**31 - 1 for v in starts + stops + steps) else np.int32
    extra = [ints(v, dtype) for v in (starts, stops, axes, steps)]
    y = run("Slice", [x, *extra], setup=draw(setups(5)))[0]
    assert_same_bits(y, np.ascontiguousarray(x[tuple(index)]))


@pytest.mark.parametrize("level", list(GraphOptimizationLevel))
@pytest.mark.parametrize("shapes", ["static", "unknown"])
def test_slices_at_the_edge(level: GraphOptimizationLevel, shapes: str) -> None:
    x = ints([4, 5])
    no_axes = [ints([])] * 4
    [y] = run("Slice", [x, *no_axes], setup=Setup(level, shapes, staged=True))
    assert_same_bits(y, x)
    backward = [ints([v]) for v in (1, -9, 0, -1)]
    [y] = run("Slice", [x, *backward], setup=Setup(level, shapes, frozenset({0, 1, 2})))
    assert_same_bits(y, ints([5, 4]))


def test_slice_backwards_from_before_the_front() -> None:
    """A start before the front means the first element, unlike in Python."""
    bounds = [ints([v], np.int64) for v in (-(2**63), -(2**63), 0, -1)]
    assert run("Slice", [np.arange(3.0), *bounds])[0].tolist() == [0.0]


@given(data=st.data(), shape=shapes(1, 5))
def test_split_undoes_concat(data: st.DataObject, shape: Shape) -> None:
    draw = data.draw
    axis = draw(axis_of(len(shape)))
    lengths = draw(st.lists(st.sampled_from([1, 0, 2, 3, 8, 17]), min_size=1, max_size=5))
    dtype = draw(st.sampled_from([d for d in carriers("Split") if d != np.complex64]))
    parts = []
    for index, length in enumerate(lengths):
        own = list(shape)
        own[axis] = length
        parts.append(fill(dtype, tuple(own), "bits" if dtype == np.float32 else "plain", index))
    y = run("Concat", parts, {"axis": axis}, draw(setups(len(parts))))[0]
    assert_same_bits(y, np.concatenate(parts, axis))
    wanted = [draw(st.booleans()) for _ in parts]
    wanted[0] = True
    back = run("Split", [y, ints(lengths)], {"axis": axis}, draw(setups(2)), wanted)
    for one, part in zip(back, [p for p, w in zip(parts, wanted) if w]):
        assert_same_bits(one, part)


@given(data=st.data(), x=tensors(1, 4, carriers("Split")))
def test_split_evenly(data: st.DataObject, x: Array) -> None:
    axis = data.draw(axis_of(x.ndim))
    size = x.shape[axis]
    assume(size)
    count = data.draw(st.integers(1, min(size, 5)))
    each = -(-size // count)
    assume(each * (count - 1) < size)
    attributes = {"axis": axis, "num_outputs": count}
    parts = run("Split", [x], attributes, data.draw(setups(1)), [True] * count)
    for one, part in zip(parts, np.split(x, [each * i for i in range(1, count)], axis)):
        assert_same_bits(one, np.ascontiguousarray(part))


@given(data=st.data(), x=tensors(1, 4, carriers("Pad")))
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(mode: str, data: st.DataObject, x: Array) -> None:
    draw = data.draw
    assume(x.dtype != object or mode == "constant")
    axes = draw(axes_of(x.ndim))
    pads = np.zeros((2, len(axes)), np.int64)
    for i, axis in enumerate(axes):
        size = x.shape[axis]
        most = {"constant": 5, "edge": 5 if size else 0, "reflect": max(size - 1, 0)}.get(
            mode, size
        )
        pads[:, i] = [draw(st.integers(0, most)) for _ in range(2)]
    fill_value = (
        draw(elements((), [x.dtype])) if mode == "constant" and draw(st.booleans()) else None
    )
    widths = np.zeros((x.ndim, 2), np.int64)
    for i, axis in enumerate(axes):
        widths[axis] = pads[:, i]
    if mode == "constant":
        zero: Any = "" if x.dtype == object else np.zeros((), x.dtype)
        value = zero if fill_value is None else fill_value
        expected = np.full([s + int(w.sum()) for s, w in zip(x.shape, widths)], value, x.dtype)
        expected[tuple(slice(w[0], w[0] + s) for s, w in zip(x.shape, widths))] = x
    else:
        position = np.pad(np.arange(x.size).reshape(x.shape), widths, mode=mode)  # type: ignore[call-overload]
        expected = x.reshape(-1)[position] if x.size else np.empty(position.shape, x.dtype)
    inputs = [x, pads.reshape(-1), fill_value, ints(axes)]
    y = run("Pad", inputs, {"mode": mode}, draw(setups(4)))[0]
    assert_same_bits(y, expected)


@given(data=st.data(), x=tensors(1, 3, (np.float32, np.int64, np.float16, np.bool_)))
def test_pad_removes_with_negative_widths(data: st.DataObject, x: Array) -> None:
    begin, end, expected = [], [], x
    for axis, size in enumerate(x.shape):
        low = data.draw(st.integers(-size, 3))
        high = data.draw(st.integers(-min(size, size + low), 3))
        begin.append(low)
        end.append(high)
        expected = np.take(expected, range(max(-low, 0), size - max(-high, 0)), axis)
    widths = [(max(b, 0), max(e, 0)) for b, e in zip(begin, end)]
    y = run("Pad", [x, ints(begin + end)], setup=data.draw(setups(2)))[0]
    assert_same_bits(y, np.pad(expected, widths))


@given(data=st.data(), x=tensors(1, 4, carriers("CenterCropPad")))
def test_center_crop_pad(data: st.DataObject, x: Array) -> None:
    axes = data.draw(axes_of(x.ndim, 1))
    sizes = [data.draw(st.sampled_from([1, 2, 3, 5, 8, 9])) for _ in axes]
    expected = x
    for axis, size in zip(axes, sizes):
        have = x.shape[axis]
        if size <= have:
            start = (have - size) // 2
            expected = np.take(expected, range(start, start + size), axis)
        else:
            shape = list(expected.shape)
            shape[axis] = size
            empty: Any = "" if x.dtype == object else np.zeros((), x.dtype)
            wider = np.full(shape, empty, x.dtype)
            index: list[Any] = [slice(None)] * x.ndim
            index[axis] = slice((size - have) // 2, (size - have) // 2 + have)
            wider[tuple(index)] = expected
            expected = wider
    y = run("CenterCropPad", [x, ints(sizes)], {"axes": axes}, data.draw(setups(2)))[0]
    assert_same_bits(y, np.ascontiguousarray(expected))


@given(data=st.data(), x=tensors(2, 5, carriers("Trilu")))
def test_trilu(data: st.DataObject, x: Array) -> None:
    assume(x.dtype != object)
    rows, columns = x.shape[-2:]
    k = data.draw(st.one_of(st.integers(-rows - 2, columns + 2), st.just(2**62), st.just(-(2**62))))
    upper = data.draw(st.integers(0, 1))
    distance = np.arange(columns) - np.arange(rows)[:, None]
    kept = distance >= k if upper else distance <= k
    y = run("Trilu", [x, ints(k)], {"upper": upper}, data.draw(setups(2)))[0]
    assert_same_bits(y, np.where(kept, x, np.zeros((), x.dtype)).astype(x.dtype))


# --- blocks


@given(data=st.data(), x=tensors(4, 4, carriers("DepthToSpace")))
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str, data: st.DataObject, x: Array) -> None:
    size = data.draw(st.sampled_from([1, 2, 3]))
    x = np.concatenate([x] * size * size, axis=1)
    n, c, h, w = x.shape
    assume(x.size < 10000)
    depth = c // size**2
    if mode == "DCR":
        split = x.reshape(n, size, size, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        split = x.reshape(n, depth, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)
    expected = split.reshape(n, depth, h * size, w * size)
    setup = data.draw(setups(1))
    y = run("DepthToSpace", [x], {"blocksize": size, "mode": mode}, setup)[0]
    assert_same_bits(y, expected)
    back = run("SpaceToDepth", [y], {"blocksize": size, "mode": mode}, setup)[0]
    assert_same_bits(back, x)


@given(data=st.data(), x=tensors(2, 4, carriers("ReverseSequence")))
def test_reverse_sequence(data: st.DataObject, x: Array) -> None:
    time = data.draw(st.integers(0, 1))
    lengths = [data.draw(st.integers(0, x.shape[time])) for _ in range(x.shape[1 - time])]
    expected = np.moveaxis(x, time, 1).copy()
    for row, length in enumerate(lengths):
        expected[row, :length] = expected[row, :length][::-1].copy()
    attributes = {"time_axis": time, "batch_axis": 1 - time}
    y = run("ReverseSequence", [x, ints(lengths)], attributes, data.draw(setups(2)))[0]
    assert_same_bits(y, np.ascontiguousarray(np.moveaxis(expected, 1, time)))


# --- made of numbers


@given(data=st.data(), shape=shapes(0, 4))
def test_constant_of_shape(data: st.DataObject, shape: Shape) -> None:
    dtypes = (np.float32, np.int64, np.bool_, np.uint8, np.float16)
    value = data.draw(elements((1,), dtypes))
    y = run(
        "ConstantOfShape",
        [ints(shape)],
        {"value": _proto(value)},
        data.draw(setups(1)),
    )[0]
    assert_same_bits(y, np.full(shape, value[0], value.dtype))


def _proto(array: Array) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array)


@given(data=st.data(), x=tensors(2, 2, (np.float32, np.int32, np.bool_, np.float16)))
def test_eye_like(data: st.DataObject, x: Array) -> None:
    k = data.draw(st.integers(-x.shape[0] - 1, x.shape[1] + 1))
    y = run("EyeLike", [x], {"k": k}, data.draw(setups(1)))[0]
    assert_same_bits(y, np.eye(*x.shape, k=k).astype(x.dtype))


@given(data=st.data())
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16])
def test_range(dtype: Any, data: st.DataObject) -> None:
    step = data.draw(st.sampled_from([1, -1, 2, -3, 7]))
    ends = st.integers(-100, 100)
    start, limit = data.draw(ends), data.draw(ends)
    inputs = [ints(v, dtype) for v in (start, limit, step)]
    y = run("Range", inputs, setup=data.draw(setups(3)))[0]
    assert_same_bits(y, np.arange(start, limit, step, dtype))
