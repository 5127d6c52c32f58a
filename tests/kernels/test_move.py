# SPDX-License-Identifier: Apache-2.0
"""Data movement against NumPy: every element size, packed types, threads, and the second run."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument
from tests.support.native import run_node

DTYPES = [np.bool_, np.int8, np.float16, np.float32, np.int64, np.complex128, ml_dtypes.int4]


def data(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Small integers as any dtype, strings (object) included."""
    values = np.random.default_rng(seed).integers(0, 8, shape)
    return values.astype(str).astype(object) if dtype is object else values.astype(dtype)


def check(expected: np.ndarray, *args: Any, **options: Any) -> None:
    """One output of a node, on one thread and on two, planned and not."""
    for threads, runs in ((1, 1), (2, 2)):
        actual = run_node(*args, threads=threads, runs=runs, **options)[0]
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        assert (actual == expected).all()


@pytest.mark.parametrize("dtype", [*DTYPES, object])
@pytest.mark.parametrize("perm", list(itertools.permutations(range(4))))
def test_transpose_of_every_order(dtype: Any, perm: tuple[int, ...]) -> None:
    x = data((3, 5, 17, 2), dtype)
    check(x.transpose(perm), "Transpose", [x], {"perm": list(perm)})


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, np.complex128])
@pytest.mark.parametrize(
    "shape", [(33, 70), (1, 9), (64, 64), (200, 257), (0, 5), (31, 47), (5, 300), (3, 1000)]
)
def test_transpose_of_matrices(dtype: Any, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    check(x.T, "Transpose", [x])


def test_transpose_of_attention_heads_and_channels() -> None:
    x = data((2, 37, 12, 64))
    check(x.transpose(0, 2, 1, 3), "Transpose", [x], {"perm": [0, 2, 1, 3]})
    x = data((2, 19, 23, 21))
    check(x.transpose(0, 2, 3, 1), "Transpose", [x], {"perm": [0, 2, 3, 1]})
    check(x.transpose(0, 3, 1, 2), "Transpose", [x], {"perm": [0, 3, 1, 2]})


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("sides", [(1, 1), (5, 7), (16, 9), (33, 31)])
def test_transpose_of_pixels(dtype: Any, channels: int, sides: tuple[int, int]) -> None:
    x = data((2, *sides, channels), dtype)
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    check(planes, "Transpose", [x], {"perm": [0, 3, 1, 2]})
    check(x, "Transpose", [planes], {"perm": [0, 2, 3, 1]})


@pytest.mark.parametrize("dtype", [*DTYPES, object])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_and_split(dtype: Any, axis: int) -> None:
    sizes = [3, 0, 5, 1]
    shape = [4, 5, 3]
    parts = []
    for seed, size in enumerate(sizes):
        shape[axis] = size
        parts.append(data(tuple(shape), dtype, seed))
    whole = np.concatenate(parts, axis)
    check(whole, "Concat", parts, {"axis": axis})
    for threads, runs in ((1, 1), (2, 2)):
        split = run_node(
            "Split",
            [whole, np.array(sizes)],
            {"axis": axis},
            outputs=4,
            threads=threads,
            runs=runs,
        )
        for actual, expected in zip(split, parts):
            assert actual.shape == expected.shape
            assert (actual == expected).all()


def test_concat_of_large_rows() -> None:
    parts = [data((1, 300, 700), seed=1), data((1, 200, 700), seed=2)]
    check(np.concatenate(parts, 1), "Concat", parts, {"axis": 1})


def test_split_into_uneven_parts() -> None:
    x = data((7, 2))
    actual = run_node("Split", [x], {"num_outputs": 3}, outputs=3)
    assert [part.shape[0] for part in actual] == [3, 3, 1]
    assert (np.concatenate(actual) == x).all()


@pytest.mark.parametrize("sizes", [[3, 3], [8, -1], [7], [2, 2, 3]])
def test_split_refuses_sizes_that_do_not_fit(sizes: list[int]) -> None:
    with pytest.raises(InvalidArgument):
        run_node("Split", [data((7, 2)), np.array(sizes)], outputs=2)


@pytest.mark.parametrize("dtype", [*DTYPES, object])
def test_slice_as_python_does(dtype: Any) -> None:
    """But for ends before the front: walking backwards they mean the front, as clamping says."""
    x = data((6, 7, 4), dtype)
    big = 2**63 - 1
    ends = [-big - 1, -9, -3, 0, 2, 5, big]
    for start, end, step in itertools.product(ends, ends, [1, 2, -1, -3, big, -big]):
        expected = x[:, slice(start, end, step)]
        if step < 0 and end < -7:
            expected = x[:, slice(max(start, -7), None, step)]
        actual = run_node(
            "Slice",
            [x, np.array([start]), np.array([end]), np.array([1]), np.array([step])],
        )[0]
        assert actual.shape == expected.shape, (start, end, step)
        assert (actual == expected).all()


def test_slice_of_several_axes() -> None:
    x = data((6, 7, 4))
    ints = [np.array(v, np.int32) for v in ([4, 1], [0, 7], [-3, 1], [-2, 3])]
    check(x[4:0:-2, 1:7:3], "Slice", [x, *ints])
    check(x[2:4], "Slice", [x, np.array([2]), np.array([4])])
    check(x[5:], "Slice", [x, np.array([-1]), np.array([99])])
    with pytest.raises(InvalidArgument, match="step"):
        run_node("Slice", [x, *(np.array([v]) for v in (0, 1, 0, 0))])


@pytest.mark.parametrize("dtype", [*DTYPES, object])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(dtype: Any, axis: int) -> None:
    x = data((6, 5, 9), dtype)
    for indices in (np.array([[0, -1], [2, 4]]), np.array(-5, np.int32), np.zeros((0, 2), int)):
        check(np.take(x, indices, axis), "Gather", [x, indices], {"axis": axis})


@pytest.mark.parametrize("dtype", [*DTYPES, object])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_gather_of_short_rows(width: int, dtype: Any) -> None:
    x = data((3, 7, width), dtype)
    indices = np.random.default_rng(2).integers(-7, 7, 40)
    check(np.take(x, indices, 1), "Gather", [x, indices], {"axis": 1})


def test_gather_of_embedding_rows() -> None:
    table = data((100, 768))
    indices = np.random.default_rng(1).integers(-100, 100, (4, 33))
    check(table[indices], "Gather", [table, indices])
    pair = data((3, 2, 50))
    check(pair[1], "Gather", [pair, np.array(1)])


@pytest.mark.parametrize("index", [40, -7, 2**62])
def test_gather_refuses_indices_outside(index: int) -> None:
    message = rf"idx={index} must be within the inclusive range \[-6,5\]"
    with pytest.raises(InvalidArgument, match=message):
        run_node("Gather", [data((6, 2)), np.array([0, index])])


@pytest.mark.parametrize("dtype", [*DTYPES, object])
def test_expand_and_tile(dtype: Any) -> None:
    x = data((3, 1, 4), dtype)
    check(np.broadcast_to(x, (2, 3, 5, 4)), "Expand", [x, np.array([2, 1, 5, 1])])
    check(x, "Expand", [x, np.array([3, 1, 4])])
    check(np.tile(x, (2, 3, 2)), "Tile", [x, np.array([2, 3, 2])])
    check(np.tile(x, (1, 0, 2)), "Tile", [x, np.array([1, 0, 2])])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("bytes_of_row", [4, 8, 12, 16, 24])
def test_short_rows_that_stay_together(dtype: Any, bytes_of_row: int) -> None:
    n = bytes_of_row // np.dtype(dtype).itemsize
    x = np.random.default_rng(n).integers(0, 99, (5, 33, max(n, 1))).astype(dtype)
    for repeats in ((1, 1, 4), (3, 1, 2), (1, 2, 1), (2, 3, 1)):
        check(np.tile(x, repeats), "Tile", [x, np.array(repeats)])
    check(x.transpose(1, 0, 2), "Transpose", [x], {"perm": [1, 0, 2]})
    check(x[1:4, ::2], "Slice", [x, *map(np.array, ([1, 0], [4, 33], [0, 1], [1, 2]))])
    wide = x[:, :, None]
    check(np.broadcast_to(wide, (5, 33, 7, x.shape[2])), "Expand", [wide, np.array([1, 1, 7, 1])])


def test_expand_refuses_what_does_not_broadcast() -> None:
    with pytest.raises(Fail, match="broadcast"):
        run_node("Expand", [data((3,)), np.array([2])])


def test_reshape() -> None:
    x = data((2, 3, 4))
    check(x.reshape(2, 12), "Reshape", [x, np.array([0, -1])])
    empty = data((0, 3))
    check(empty.reshape(3, 0), "Reshape", [empty, np.array([3, 0])], {"allowzero": 1})
    # Without elements a size is left out as if the zeros were not there.
    check(data((0, 7, 1)), "Reshape", [data((0, 1, 7)), np.array([0, -1, 1])])
    check(data((0, 1, 0)), "Reshape", [data((1, 0, 0)), np.array([-1, 1, 0])])
    check(data((0, 0)), "Reshape", [data((0, 0, 4)), np.array([0, -1])])
    several = data((0, 7, 4, 8))
    check(several, "Reshape", [data((0, 7, 32)), np.array([0, -1, 4, 8])], {"allowzero": 1})
    packed = data((2, 3), ml_dtypes.int4)
    check(packed.reshape(6), "Reshape", [packed, np.array([6])])
    check(x.reshape(6, 4), "Flatten", [x], {"axis": -1})
    check(x.reshape(1, 24), "Flatten", [x], {"axis": 0})
    check(x.reshape(24, 1), "Flatten", [x], {"axis": 3})
    check(x[:, None, :, :, None], "Unsqueeze", [x, np.array([-1, 1])])
    check(x, "Squeeze", [x[:, None, :, :, None], np.array([1, -1])])
    check(x, "Squeeze", [x[:, None, :, :, None]])


@pytest.mark.parametrize("shape", [[5, 5], [-1, 5], [-1, -1], [2, 3, 4, 0], [-2, 12]])
def test_reshape_refuses_shapes_that_do_not_fit(shape: list[int]) -> None:
    with pytest.raises((Fail, InvalidArgument)):
        run_node("Reshape", [data((2, 3, 4)), np.array(shape)])


def test_reshape_of_nothing_refuses_a_size_that_does_not_fit() -> None:
    with pytest.raises(Fail, match="cannot be reshaped"):
        run_node("Reshape", [data((0, 7)), np.array([0, -1, 4])])


def test_shape_and_size() -> None:
    x = data((2, 0, 4, 5))
    check(np.array([2, 0, 4, 5]), "Shape", [x])
    check(np.array([4]), "Shape", [x], {"start": -2, "end": -1})
    check(np.array([], np.int64), "Shape", [x], {"start": 3, "end": 1})
    check(np.array(0), "Size", [x])


def test_tensors_from_numbers() -> None:
    check(np.zeros((2, 3), np.float32), "ConstantOfShape", [np.array([2, 3])])
    value = {"value": np.array([7], np.int16)}
    check(np.full((), 7, np.int16), "ConstantOfShape", [np.array([], np.int64)], value)
    for bounds in ((3, 9, 2), (9, 3, -4), (3, 3, 1), (5, 1, 1)):
        for dtype in (np.int16, np.int64, np.float32, np.float64):
            limits = [np.array(v, dtype) for v in bounds]
            check(np.arange(*bounds).astype(dtype), "Range", limits)
    check(np.eye(3, 5, 2, np.float32), "EyeLike", [np.zeros((3, 5), np.float32)], {"k": 2})
    check(
        np.eye(3, 5, -9, np.int8), "EyeLike", [np.zeros((3, 5), np.float32)], {"k": -9, "dtype": 3}
    )
    with pytest.raises(InvalidArgument, match="delta"):
        run_node("Range", [np.array(v) for v in (0, 1, 0)])
