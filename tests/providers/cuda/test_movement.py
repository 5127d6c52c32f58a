# SPDX-License-Identifier: Apache-2.0
"""Operators that move whole regions, on the emulated device."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.support import cuda_emulation
from tests.support.cuda_emulation import emulated_device, run_node
from tests.support.native import run_node as run_native

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

TYPES = [np.int8, np.float16, np.float32, np.float64, np.complex128, ml_dtypes.bfloat16]
NUMBERS = np.random.default_rng(7)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.asarray(NUMBERS.normal(size=shape) * 50).astype(dtype)


def same(
    op_type: str,
    inputs: list[Any],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    **more: Any,
) -> None:
    """The device moves the elements to where the CPU provider does."""
    expected = run_native(op_type, inputs, attributes or {}, outputs, **more)
    found = run_node(op_type, inputs, attributes or {}, outputs, **more)
    for a, b in zip(found, expected):
        assert a.shape == np.asarray(b).shape
        assert bits(a) == bits(b)


def bits(array: Any) -> bytes:
    """The bytes of an array, all NaNs of which are one."""
    array = np.array(array)
    if array.dtype.kind == "f":
        array[array != array] = np.nan
    return array.tobytes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((3, 5), (1, 0)),
        ((70, 67), (1, 0)),
        ((2, 33, 65), (0, 2, 1)),
        ((2, 7, 3, 16), (0, 2, 1, 3)),
        ((2, 40, 3, 16), (0, 2, 3, 1)),
        ((2, 3, 9, 8), (3, 2, 1, 0)),
        ((1, 5, 1, 4), (2, 1, 0, 3)),
        ((0, 4), (1, 0)),
        ((17, 2, 66, 3), (2, 1, 3, 0)),
    ],
)
def test_transpose(dtype: Any, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    x = normal(*shape, dtype=dtype)
    (y,) = run_node("Transpose", [x], {"perm": list(order)})
    assert y.tobytes() == np.ascontiguousarray(x.transpose(order)).tobytes()


def test_transpose_launches() -> None:
    device = emulated_device()
    for order, name in [((0, 2, 1, 3), "strided_copy_16"), ((0, 2, 3, 1), "transpose_tiles_2")]:
        run_node("Transpose", [normal(2, 24, 12, 64, dtype=np.float16)], {"perm": list(order)})
        assert device.launches[-1] == name


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(dtype: Any, count: int, axis: int) -> None:
    shapes = [[3, 4, 8] for _ in range(count)]
    for i, shape in enumerate(shapes):
        shape[axis] = (i * 5) % 7
    parts = [normal(*shape, dtype=dtype) for shape in shapes]
    (y,) = run_node("Concat", parts, {"axis": axis})
    assert y.tobytes() == np.concatenate(parts, axis).tobytes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sizes", [[6], [2, 4], [1, 0, 5], [1, 1, 1, 1, 2]])
def test_split(dtype: Any, axis: int, sizes: list[int]) -> None:
    x = normal(6, 6, 6, dtype=dtype)
    found = run_node("Split", [x, np.array(sizes)], {"axis": axis}, len(sizes))
    for a, b in zip(found, np.split(x, np.cumsum(sizes)[:-1], axis)):
        assert a.tobytes() == b.tobytes()


def test_parts_are_views_where_they_are_aligned() -> None:
    device, x = emulated_device(), normal(1, 12, dtype=np.float32)
    for size, launches in ((4, 0), (5, 1)):
        before = len(device.launches)
        run_node("Split", [x, np.array([size, 12 - size])], {"axis": 1}, 2)
        assert len(device.launches) - before == launches
        before = len(device.launches)
        run_node("Slice", [x, np.array([size]), np.array([12]), np.array([1])])
        assert len(device.launches) - before == launches


def test_split_into_uneven_parts() -> None:
    same("Split", [normal(2, 7), None], {"axis": 1, "num_outputs": 3}, 3)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [0], [1]),
        ([0, 1], [9, -1], [0, 2], [2, 3]),
        ([-1], [-100], [1], [-1]),
        ([5], [5], [1], None),
        ([1], [1 << 62], [-1], [1 << 40]),
        ([100, 3], [-100, 0], [1, 2], [-2, -1]),
        ([8], [16], [2], [1]),
    ],
)
def test_slice(dtype: Any, starts: Any, ends: Any, axes: Any, steps: Any) -> None:
    lists = [None if each is None else np.array(each) for each in (starts, ends, axes, steps)]
    same("Slice", [normal(4, 6, 16, dtype=dtype), *lists])


@pytest.mark.parametrize("dtype", TYPES)
def test_expand_and_tile(dtype: Any) -> None:
    x = normal(3, 1, 5, dtype=dtype)
    for shape in ([2, 3, 4, 5], [1, 1], [4, 1], [3, 1, 5], [0, 1]):
        same("Expand", [x, np.array(shape)])
    for repeats in ([1, 2, 3], [2, 1, 1], [1, 1, 1], [0, 2, 2]):
        same("Tile", [x, np.array(repeats)])
    same("Expand", [normal(dtype=dtype), np.array([2, 3])])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("dtype", TYPES)
def test_pad(mode: str, dtype: Any) -> None:
    x = normal(3, 4, 5, dtype=dtype)
    same("Pad", [x, np.array([1, 2, 0, 0, 3, 7])], {"mode": mode})
    same("Pad", [x, np.array([-1, 2, -1, 1, -2, 4])], {"mode": mode})
    same("Pad", [x, np.array([4, -1]), None, np.array([-2])], {"mode": mode})
    same("Pad", [x, np.array([1, 1]), normal(dtype=dtype), np.array([1])], {"mode": mode})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(mode: str) -> None:
    same("DepthToSpace", [normal(2, 12, 3, 4)], {"blocksize": 2, "mode": mode})
    same("SpaceToDepth", [normal(2, 3, 6, 4)], {"blocksize": 2})


@pytest.mark.parametrize("op_type", ["DepthToSpace", "SpaceToDepth"])
@pytest.mark.parametrize("block", [0, -2])
def test_blocks_of_nothing(op_type: str, block: int) -> None:
    with pytest.raises(Fail, match=f"blocksize must be positive, got {block}"):
        run_node(op_type, [normal(1, 4, 4, 4)], {"blocksize": block}, output_dtypes=[np.float32])


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_and_sides(dtype: Any) -> None:
    x = normal(2, 4, 5, dtype=dtype)
    for k in (None, 0, 1, -2, 100, -100):
        for upper in (0, 1):
            same("Trilu", [x, None if k is None else np.array(k)], {"upper": upper})
    x = normal(4, 3, 5, dtype=dtype)
    same("ReverseSequence", [x, np.array([4, 0, 2])], {"time_axis": 0, "batch_axis": 1})
    same("ReverseSequence", [x, np.array([1, 2, 3, 0])], {"time_axis": 1, "batch_axis": 0})
    same("CenterCropPad", [x, np.array([7, 8])], {"axes": [0, -1]})
    same("CenterCropPad", [x, np.array([1, 4, 2])])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_caches(dtype: Any) -> None:
    cache, update = normal(2, 3, 8, 4, dtype=dtype), normal(2, 3, 3, 4, dtype=dtype)
    same("TensorScatter", [cache, update, np.array([1, 5])], {"axis": -2})
    same("TensorScatter", [cache, update, np.array([1, 7])], {"axis": 2, "mode": "circular"})
    same("TensorScatter", [cache, update])
    rows = normal(2, 3, 3 * 4, dtype=dtype)
    for length in (5, 8, 11):
        starts = np.array([2, length - 3])
        same("UpdateCache", [cache, rows, starts, np.array([length])], domain="bascule")


def test_shapes() -> None:
    x = normal(2, 1, 6)
    same("Reshape", [x, np.array([0, -1, 3])])
    same("Reshape", [normal(0, 3), np.array([3, 0])], {"allowzero": 1})
    same("Reshape", [normal(0, 1, 7), np.array([0, -1, 1])])
    same("Flatten", [x], {"axis": -1})
    same("Flatten", [x], {"axis": 3})
    same("Squeeze", [x, np.array([-2])])
    same("Squeeze", [x])
    same("Unsqueeze", [x, np.array([0, -1])])


@pytest.mark.parametrize(
    ("before", "sizes", "after"),
    [
        ((1, 0, 0), [-1, 1, 0], (0, 1, 0)),
        ((0, 0, 4), [0, -1], (0, 0)),
        ((0, 3, 4), [0, -1], (0, 12)),
    ],
)
def test_a_copied_size_of_zero_says_nothing_of_the_others(
    before: tuple[int, ...], sizes: list[int], after: tuple[int, ...]
) -> None:
    (y,) = run_node("Reshape", [np.zeros(before, np.float32), np.array(sizes)])
    assert y.shape == after
