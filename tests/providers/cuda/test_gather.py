# SPDX-License-Identifier: Apache-2.0
"""Operators that pick or put elements by index, on the emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidArgument
from tests.providers.cuda.test_movement import TYPES, normal, same
from tests.support import cuda_emulation
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

NUMBERS = np.random.default_rng(11)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_gather(dtype: Any, index: Any) -> None:
    x = normal(5, 4, 8, dtype=dtype)
    for axis in (0, 1, -1):
        for shape in ((), (3,), (2, 3), (0,)):
            indices = NUMBERS.integers(-4, 4, shape).astype(index)
            same("Gather", [x, np.asarray(indices)], {"axis": axis})


def test_gather_stays_inside() -> None:
    x = normal(4, 8)
    (y,) = run_node("Gather", [x, np.array([9, -9, 3])])
    assert np.array_equal(y, x[[3, 0, 3]])


def test_constant_indices_beyond_an_axis_are_refused() -> None:
    """As on the CPU; what is computed on the device would have to be waited for."""
    x, updates = normal(4, 8), normal(1, 8)
    cases: list[tuple[str, Any, list[Any]]] = [
        ("Gather", [[0, 3], [4, -4]], []),
        ("GatherElements", [[0, -5]], []),
        ("GatherND", [[3, 7], [-4, 8]], []),
        ("ScatterElements", [[4] * 8], [updates]),
        ("ScatterND", [[-5]], [updates]),
    ]
    for op_type, indices, more in cases:
        inputs = [x, np.array(indices), *more]
        with pytest.raises(InvalidArgument, match="out of data bounds"):
            run_node(op_type, inputs, constants=(1,))
        assert run_node(op_type, inputs)[0].size
        run_node(op_type, [x, np.sign(inputs[1]), *more], constants=(1,))


@pytest.mark.parametrize("dtype", TYPES)
def test_gather_by_positions(dtype: Any) -> None:
    x = normal(5, 4, 8, dtype=dtype)
    for axis in (0, 1, -1):
        shape = [3, 2, 7]
        shape[axis] = 9
        indices = NUMBERS.integers(-x.shape[axis], x.shape[axis], shape)
        same("GatherElements", [x, indices], {"axis": axis})
        same("GatherElements", [x, indices.astype(np.int32)], {"axis": axis})
    same("GatherND", [x, NUMBERS.integers(-4, 4, (6, 2))])
    same("GatherND", [x, NUMBERS.integers(-4, 4, (2, 3, 3))])
    same("GatherND", [x, NUMBERS.integers(-4, 4, (5, 3, 1))], {"batch_dims": 1})
    same("GatherND", [x, NUMBERS.integers(-4, 4, (5, 4, 1))], {"batch_dims": 2})


@pytest.mark.parametrize("dtype", TYPES)
def test_scatter(dtype: Any) -> None:
    x = normal(5, 4, 8, dtype=dtype)
    for axis in (0, 1, -1):
        shape = [3, 2, 7]
        shape[axis] = 9
        indices = NUMBERS.integers(-x.shape[axis], x.shape[axis], shape)
        same("ScatterElements", [x, indices, normal(*shape, dtype=dtype)], {"axis": axis})
    for shape in ((9, 2), (3, 4, 3), (12, 1), (0, 2)):
        indices = NUMBERS.integers(-4, 4, shape)
        updates = normal(*shape[:-1], *x.shape[shape[-1] :], dtype=dtype)
        same("ScatterND", [x, indices, updates])


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.float64, np.int8, np.int64, np.uint16, np.bool_]
)
def test_scatter_reduces(dtype: Any, reduction: str) -> None:
    attributes = {"reduction": reduction}
    x, indices = normal(4, 6, dtype=dtype), NUMBERS.integers(-4, 4, (50, 6))
    updates = normal(50, 6, dtype=dtype)
    if reduction == "mul" and np.dtype(dtype).kind == "f":
        x, updates = (x / 50).astype(dtype), (1 + updates / 2000).astype(dtype)
    if np.dtype(dtype).kind == "f":
        updates[3, 2] = np.nan
    same("ScatterElements", [x, indices, updates], attributes)
    same("ScatterND", [x, indices[:, :1], updates], attributes)


def test_scatter_reduces_many() -> None:
    x, indices = normal(300), NUMBERS.integers(0, 300, 3000)
    same("ScatterElements", [x, indices, normal(3000)], {"reduction": "add"})


def test_one_hot_and_compress() -> None:
    indices = NUMBERS.integers(-7, 8, (3, 4))
    for axis in (0, 1, -1):
        for dtype in (np.int64, np.float32, np.int8):
            given = [indices.astype(dtype), np.array(5), normal(2)]
            same("OneHot", given, {"axis": axis})
    given = [np.array([2**64 - 1, 3], np.uint64), np.array([4.0], np.float32), normal(2)]
    same("OneHot", given)
    x = normal(4, 6)
    condition = np.array([True, False, True, True])
    for axis in ({}, {"axis": 0}, {"axis": -1}):
        same("Compress", [x, condition], axis)
