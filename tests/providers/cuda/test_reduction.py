# SPDX-License-Identifier: Apache-2.0
"""Reductions, ArgMax and ArgMin, CumSum and CumProd of the CUDA provider."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule import errors
from tests.providers.cuda.against_cpu import agree, same
from tests.support import cuda_emulation
from tests.support.cuda_emulation import emulated_device, run_node

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
              "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")  # fmt: skip
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)


def axes_of(*axes: int) -> Any:
    return np.array(axes, np.int64)


def random(dtype: Any, *shape: int, low: float = -1, high: float = 1) -> Any:
    generator = np.random.default_rng([*shape, np.dtype(dtype).itemsize])
    if np.dtype(dtype).kind in "iu":
        information = np.iinfo(dtype)
        return generator.integers(information.min, information.max, shape, dtype, endpoint=True)
    return generator.uniform(low, high, shape).astype(dtype)


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_set_of_axes(op_type: str, dtype: Any) -> None:
    x = random(dtype, 3, 2, 1, 5, 11, low=0.6, high=1.4)
    for count in range(1, 6):
        for axes in itertools.combinations(range(5), count):
            agree(op_type, [x, axes_of(*axes)], {"keepdims": count % 2})


@pytest.mark.parametrize("op_type", REDUCTIONS[:-2])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(op_type: str, dtype: Any) -> None:
    x = random(dtype, 4, 3, 9)
    if op_type == "ReduceL2":
        x %= 40  # the root of a sum that wrapped around is undefined
    for axes in [(0,), (-1,), (0, 2), (0, 1, 2)]:
        agree(op_type, [x, axes_of(*axes)])


@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin"])
def test_booleans(op_type: str) -> None:
    x = np.random.default_rng(3).random((4, 6, 5)) < 0.5
    agree(op_type, [x, axes_of(1)])
    agree(op_type, [x, axes_of(2)])


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint64])
def test_without_axes(op_type: str, dtype: Any) -> None:
    if np.dtype(dtype).kind in "iu" and op_type in REDUCTIONS[-2:]:
        return
    x = (random(np.float32, 4, 5, low=0.5) * 30).astype(dtype)
    for axes in (None, axes_of()):
        agree(op_type, [x, axes])
        agree(op_type, [x, axes], {"noop_with_empty_axes": 1})
    agree(op_type, [x[:1], axes_of(0)], {"keepdims": 0})
    agree(op_type, [x[0, 0].reshape(()), None])


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint16, np.int64, bool])
def test_of_nothing(op_type: str, dtype: Any) -> None:
    if dtype is bool and op_type not in REDUCTIONS[2:4]:
        return
    if np.dtype(dtype).kind in "iu" and op_type in REDUCTIONS[-2:]:
        return
    for axes in [(1,), (0, 1), (2,)]:
        agree(op_type, [np.ones((3, 0, 2), dtype), axes_of(*axes)])


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_no_numbers(op_type: str, dtype: Any) -> None:
    x = random(dtype, 6, 40, low=0.1)
    x[0, 3], x[1, 4], x[2, 5] = np.nan, np.inf, -np.inf
    x[3, 2], x[3, 7], x[4] = np.inf, -np.inf, -np.inf
    with np.errstate(all="ignore"):
        agree(op_type, [x, axes_of(1)])
        agree(op_type, [np.ascontiguousarray(x.T), axes_of(0)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 1000), (1,)),
        ((2, 1023), (1,)),
        ((3, 1500), (1,)),
        ((2, 20001), (1,)),  # in pieces
        ((2, 16384), (1,)),
        ((700, 3), (0,)),
        ((3, 600, 5), (1,)),
        ((5, 2, 9000), (0, 2)),
        ((600, 2, 3, 2), (0, 2)),
        ((2, 3, 49, 40), (2,)),
    ],
)
def test_long_axes(dtype: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = random(dtype, *shape)
    wide = x.astype(np.float64)
    for op_type, expected in [
        ("ReduceMean", wide.mean(axes)),
        ("ReduceL1", abs(wide).sum(axes)),
        ("ReduceMax", wide.max(axes)),
        ("ReduceLogSumExp", np.log(np.exp(wide).sum(axes))),
    ]:
        [y] = run_node(op_type, [x, axes_of(*axes)], {"keepdims": 0})
        same(y, expected.astype(dtype))


def test_the_largest_exponents() -> None:
    x = np.array([[1000, 1000, 999], [-1000, -1001, -2000]], np.float32)
    agree("ReduceLogSumExp", [x, axes_of(1)])
    agree("ReduceLogSumExp", [x.T.copy(), axes_of(0)])


def test_a_sum_does_not_depend_on_the_batch() -> None:
    x = random(np.float32, 9, 2, 1003)
    for axes in (axes_of(2), axes_of(1), axes_of(1, 2)):
        [all_of_them] = run_node("ReduceSum", [x, axes], {"keepdims": 0})
        for k in range(len(x)):
            [one] = run_node("ReduceSum", [x[k : k + 1].copy(), axes], {"keepdims": 0})
            assert one.tobytes() == all_of_them[k : k + 1].tobytes()


def test_neighbouring_axes_take_one_launch() -> None:
    device = emulated_device()
    started = len(device.launches)
    run_node("ReduceMean", [random(np.float32, 2, 3, 7, 7), axes_of(2, 3)])
    assert device.launches[started:] == ["reduce_rows_sum_float32"]


def test_an_axis_out_of_range() -> None:
    with pytest.raises(errors.Fail, match="axis 2 is not in"):
        run_node("ReduceSum", [np.ones((2, 2), np.float32), axes_of(2)], output_dtypes=[np.float32])


# --- ArgMax and ArgMin


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_arg_reductions(op_type: str, dtype: Any) -> None:
    x = (np.random.default_rng(5).integers(0, 5, (4, 7, 37))).astype(dtype)
    for axis, last, keep in itertools.product((0, 1, -1), (0, 1), (0, 1)):
        attributes = {"axis": axis, "select_last_index": last, "keepdims": keep}
        agree(op_type, [x], attributes)


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("shape", [(3, 1500), (2, 9000), (2, 20001), (2, 700, 3)])
@pytest.mark.parametrize("last", [0, 1])
def test_arg_reductions_of_long_axes(op_type: str, shape: tuple[int, ...], last: int) -> None:
    x = np.random.default_rng(6).integers(0, 900, shape).astype(np.float16)
    agree(op_type, [x], {"axis": 1, "select_last_index": last})


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
def test_arg_reductions_and_nan(op_type: str) -> None:
    x = random(np.float32, 5, 50)
    x[0, 7] = x[0, 30] = x[1, 0] = np.nan
    x[2], x[3, 4], x[3, 5] = np.inf, np.inf, -np.inf
    for last in (0, 1):
        agree(op_type, [x], {"axis": 1, "select_last_index": last})
        agree(op_type, [x.T.copy()], {"axis": 0, "select_last_index": last})


def test_arg_reductions_of_scalars_and_of_nothing() -> None:
    agree("ArgMax", [np.array(3, np.float32)])
    agree("ArgMin", [np.ones((0, 4), np.float32)], {"axis": 1})
    with pytest.raises(errors.Fail, match="the axis is empty"):
        run_node("ArgMax", [np.ones((4, 0), np.float32)], {"axis": 1})


# --- CumSum and CumProd

ACCUMULATED = (*FLOATS, np.int32, np.int64, np.uint32, np.uint64)


@pytest.mark.parametrize("op_type", ["CumSum", "CumProd"])
@pytest.mark.parametrize("dtype", ACCUMULATED)
def test_cumulative(op_type: str, dtype: Any) -> None:
    x = random(dtype, 3, 5, 7, low=0.6, high=1.4)
    for axis, exclusive, reverse in itertools.product((0, 1, -1), (0, 1), (0, 1)):
        attributes = {"exclusive": exclusive, "reverse": reverse}
        agree(op_type, [x, np.array(axis, np.int32)], attributes)


@pytest.mark.parametrize("shape", [(2, 33), (3, 200), (1, 2500), (2, 150, 3), (2, 70, 40)])
@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_cumulative_along_long_axes(shape: tuple[int, ...], exclusive: int, reverse: int) -> None:
    attributes = {"exclusive": exclusive, "reverse": reverse}
    axis = axes_of(1)
    agree("CumSum", [random(np.int32, *shape), axis], attributes)
    x = random(np.float32, *shape)
    agree("CumSum", [x, axis], attributes, tolerance=2e-5 * np.sqrt(shape[1]))
    x = random(ml_dtypes.bfloat16, *shape, low=0.95, high=1.05)
    agree("CumProd", [x, axis], attributes)


def test_cumulative_of_nothing() -> None:
    agree("CumSum", [np.ones((2, 0), np.float32), axes_of(1)])
