# SPDX-License-Identifier: Apache-2.0
"""Reductions, ArgMax and ArgMin, CumSum and CumProd against NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

import bascule
from tests.support.native import run_node

RANDOM = np.random.default_rng(21)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceL1": lambda x, **k: np.abs(x).sum(**k),
    "ReduceL2": lambda x, **k: np.sqrt((x**2).sum(**k)),
    "ReduceSumSquare": lambda x, **k: (x**2).sum(**k),
    "ReduceLogSum": lambda x, **k: np.log(x.sum(**k)),
    "ReduceLogSumExp": lambda x, **k: np.log(np.exp(x).sum(**k)),
}


def axes_of(*axes: int) -> np.ndarray:
    return np.array(axes, np.int64)


@pytest.mark.parametrize("op_type", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_every_set_of_axes(op_type: str, dtype: Any) -> None:
    tolerance = {2: 2e-2, 4: 1e-5, 8: 1e-13}[np.dtype(dtype).itemsize]
    x = (RANDOM.random((3, 2, 1, 5, 19)) + 0.5).astype(dtype)
    wide = x.astype(np.float64)
    if dtype == np.float16:
        wide, x = wide[:, :, :, :2, :7], np.ascontiguousarray(x[:, :, :, :2, :7])
    for count in range(1, 6):
        for axes in itertools.combinations(range(5), count):
            with np.errstate(over="ignore"):
                expected = FUNCTIONS[op_type](wide, axis=axes, keepdims=True)
                limit = float(ml_dtypes.finfo(dtype).max)
                expected = np.where(expected > limit, np.inf, expected)
            [actual] = run_node(op_type, [x, axes_of(*axes)])
            assert actual.shape == expected.shape
            np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integers(dtype: Any) -> None:
    x = RANDOM.integers(1, 4, (4, 3, 9)).astype(dtype)
    for op_type in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean",
                    "ReduceL1", "ReduceL2", "ReduceSumSquare"):  # fmt: skip
        for axes in [(0,), (2,), (0, 2), (0, 1, 2)]:
            expected = FUNCTIONS[op_type](x.astype(np.int64), axis=axes, keepdims=True)
            [actual] = run_node(op_type, [x, axes_of(*axes)])
            np.testing.assert_array_equal(actual, expected.astype(np.int64).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_])
def test_small_types(dtype: Any) -> None:
    x = RANDOM.integers(0, 2, (5, 40)).astype(dtype)
    for op_type in ("ReduceMax", "ReduceMin"):
        np.testing.assert_array_equal(
            run_node(op_type, [x, axes_of(1)], {"keepdims": 0})[0], FUNCTIONS[op_type](x, axis=1)
        )


def test_attributes_and_missing_axes() -> None:
    x = RANDOM.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_allclose(run_node("ReduceSum", [x])[0], x.sum(keepdims=True), 1e-5)
    np.testing.assert_allclose(run_node("ReduceSum", [x], {"keepdims": 0})[0], x.sum(), 1e-5)
    noop = {"noop_with_empty_axes": 1}
    np.testing.assert_array_equal(run_node("ReduceSum", [x], noop)[0], x)
    np.testing.assert_array_equal(run_node("ReduceSumSquare", [x, axes_of()], noop)[0], x * x)
    np.testing.assert_allclose(
        run_node("ReduceMax", [x, axes_of(-1)], {"keepdims": 0})[0], x.max(1)
    )
    scalar = np.asarray(2.5, np.float32)
    assert run_node("ReduceSum", [scalar])[0] == 2.5


def test_nothing_to_reduce() -> None:
    x = np.zeros((2, 0, 3), np.float32)
    expected = {"ReduceSum": 0, "ReduceProd": 1, "ReduceMax": -np.inf, "ReduceMin": np.inf,
                "ReduceLogSum": -np.inf, "ReduceLogSumExp": -np.inf, "ReduceL2": 0}  # fmt: skip
    for op_type, value in expected.items():
        [actual] = run_node(op_type, [x, axes_of(1)])
        np.testing.assert_array_equal(actual, np.full((2, 1, 3), value))
    whole = np.zeros((0, 2), np.int32)
    assert run_node("ReduceMax", [whole, axes_of(0)])[0].tolist() == [[-(2**31)] * 2]
    assert run_node("ReduceMin", [whole.astype(bool), axes_of(0)])[0].tolist() == [[True] * 2]
    assert run_node("ReduceSum", [x, axes_of(2)])[0].shape == (2, 0, 1)


def test_special_values() -> None:
    x = np.array([[1, np.nan, 3], [np.inf, 1, 2], [-np.inf] * 3], np.float32)
    for op_type, expected in [
        ("ReduceMax", [np.nan, np.inf, -np.inf]),
        ("ReduceMin", [np.nan, 1, -np.inf]),
        ("ReduceLogSumExp", [np.nan, np.inf, -np.inf]),
    ]:
        for array, axis in [(x, 1), (np.ascontiguousarray(x.T), 0)]:
            [actual] = run_node(op_type, [array, axes_of(axis)], {"keepdims": 0})
            np.testing.assert_array_equal(actual, expected)
    large = np.full((2, 5), 1000, np.float32)
    [actual] = run_node("ReduceLogSumExp", [large, axes_of(1)], {"keepdims": 0})
    np.testing.assert_allclose(actual, 1000 + np.log(5), 1e-6)


def test_long_sums_are_accurate() -> None:
    x = (RANDOM.random(300_000) + 1).astype(np.float32)
    exact = x.astype(np.float64).sum()
    np.testing.assert_allclose(run_node("ReduceSum", [x])[0], [exact], 2e-7)
    tall = x.reshape(-1, 2)
    [actual] = run_node("ReduceSum", [tall, axes_of(0)], {"keepdims": 0})
    np.testing.assert_allclose(actual, tall.astype(np.float64).sum(0), 1.5e-6)


def test_bits_do_not_depend_on_threads_or_batch() -> None:
    x = RANDOM.standard_normal((30, 70, 65)).astype(np.float32)
    for axes in [(1,), (2,), (1, 2), (0, 2)]:
        [one] = run_node("ReduceSum", [x, axes_of(*axes)])
        [more] = run_node("ReduceSum", [x, axes_of(*axes)], threads=4)
        assert one.tobytes() == more.tobytes()
        if 0 not in axes:
            [part] = run_node("ReduceSum", [x[3:5], axes_of(*axes)])
            assert part.tobytes() == one[3:5].tobytes()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33])
def test_short_rows(n: int) -> None:
    generator = np.random.default_rng(n)
    for count in (0, 1, 3, 4, 15, 16, 17, 50):
        x = generator.uniform(0.5, 1.5, (count, n)).astype(np.float32)
        for op_type, function in FUNCTIONS.items():
            expected = function(x.astype(np.float64), axis=1)
            attributes = {"keepdims": 0}
            [actual] = run_node(op_type, [x, axes_of(1)], attributes)
            np.testing.assert_allclose(actual, expected, 2e-6)
            [more] = run_node(op_type, [x, axes_of(1)], attributes, threads=3, runs=2)
            assert more.tobytes() == actual.tobytes()
            if count > 3:
                [part] = run_node(op_type, [x[2:4], axes_of(1)], attributes)
                assert part.tobytes() == actual[2:4].tobytes()
        if count == 1:
            continue
        # Rows of an axis that is reduced too are folded one by one, and give the same bits.
        both = np.stack([x, np.zeros_like(x)])
        [joined] = run_node("ReduceSum", [both, axes_of(0, 2)], {"keepdims": 0})
        [actual] = run_node("ReduceSum", [x, axes_of(1)], {"keepdims": 0})
        assert joined.tobytes() == actual.tobytes()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 11, 16])
def test_special_values_in_short_rows(n: int) -> None:
    x = np.random.default_rng(3).normal(size=(37, n)).astype(np.float32)
    x[3], x[17], x[18, -1], x[20] = -0.0, -np.inf, np.nan, np.inf
    for op_type in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceLogSumExp"):
        with np.errstate(all="ignore"):
            expected = FUNCTIONS[op_type](x.astype(np.float64), axis=1)
        [actual] = run_node(op_type, [x, axes_of(1)], {"keepdims": 0})
        np.testing.assert_allclose(actual, expected, 1e-5, 1e-6)
    [sums] = run_node("ReduceSum", [x, axes_of(1)], {"keepdims": 0})
    assert not np.signbit(sums[3])


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_integer_extremes_and_wrapping(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    generator = np.random.default_rng(8)
    x = generator.integers(limits.min, limits.max, (5, 37, 19), dtype, endpoint=True)
    x[2, 3, 4], x[0, 36, 18] = limits.min, limits.max
    for axis in (0, 1, 2):
        axes = axes_of(axis)
        for op_type, expected in [
            ("ReduceSum", x.sum(axis, dtype=dtype)),
            ("ReduceProd", x.prod(axis, dtype=dtype)),
            ("ReduceSumSquare", (x * x).sum(axis, dtype=dtype)),
            ("ReduceMax", x.max(axis)),
            ("ReduceMin", x.min(axis)),
        ]:
            for threads in (1, 3):
                [actual] = run_node(op_type, [x, axes], {"keepdims": 0}, threads=threads)
                np.testing.assert_array_equal(actual, expected)
    if dtype == np.int32:
        # Means and norms are of sums that do not wrap around.
        wide = np.trunc(x.astype(np.int64).sum(1) / 37).astype(np.int32)
        np.testing.assert_array_equal(
            run_node("ReduceMean", [x, axes_of(1)], {"keepdims": 0})[0], wide
        )


LONG_COLUMNS = {
    "ReduceMean": lambda x, axes: x.mean(axes, keepdims=True),
    "ReduceL1": lambda x, axes: np.abs(x).sum(axes, keepdims=True),
    "ReduceMax": lambda x, axes: x.max(axes, keepdims=True),
    "ReduceLogSumExp": lambda x, axes: np.log(np.exp(x).sum(axes, keepdims=True)),
    "ReduceSumSquare": lambda x, axes: np.square(x).sum(axes, keepdims=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("op_type", sorted(LONG_COLUMNS))
def test_long_columns_do_not_depend_on_threads(op_type: str, dtype: Any) -> None:
    if op_type == "ReduceLogSumExp" and dtype == np.int64:
        pytest.skip("of real numbers only")
    for shape, axes in [((2, 1100, 40), (1,)), ((3, 1301, 37), (0, 1)), ((1, 70, 70, 300), (1, 2))]:
        x = (RANDOM.standard_normal(shape) * 5).astype(dtype)
        [one] = run_node(op_type, [x, axes_of(*axes)])
        [more] = run_node(op_type, [x, axes_of(*axes)], threads=4)
        assert one.tobytes() == more.tobytes()
        expected = LONG_COLUMNS[op_type](x.astype(np.float64), axes)
        if dtype == np.int64:
            expected = np.trunc(expected)
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.float16, np.int8, np.int64, np.uint16]
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arg_max_and_arg_min(dtype: Any, axis: int) -> None:
    x = RANDOM.integers(0, 5, (6, 7, 30)).astype(dtype)
    size = x.shape[axis]
    for op_type, function in [("ArgMax", np.argmax), ("ArgMin", np.argmin)]:
        [actual] = run_node(op_type, [x], {"axis": axis})
        np.testing.assert_array_equal(actual, function(x, axis=axis, keepdims=True))
        [last] = run_node(op_type, [x], {"axis": axis, "select_last_index": 1, "keepdims": 0})
        np.testing.assert_array_equal(last, size - 1 - function(np.flip(x, axis), axis=axis))


def test_arg_max_of_nan() -> None:
    x = np.array([[1, np.nan, 5, np.nan], [-np.inf, -np.inf, -np.inf, -np.inf]], np.float32)
    assert run_node("ArgMax", [x], {"axis": 1, "keepdims": 0})[0].tolist() == [1, 0]


@pytest.mark.parametrize("n", [1, 2, 5, 8, 31, 32, 33, 70])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int32, np.uint8])
def test_arg_max_of_short_rows(n: int, dtype: Any) -> None:
    generator = np.random.default_rng(n)
    for count in (0, 1, 31, 32, 33, 100):
        x = generator.integers(0, 4, (count, n)).astype(dtype)
        if dtype == np.float32 and count > 5:
            x[1, n // 2 :], x[2], x[3, 0] = np.nan, -np.inf, -0.0
        for op_type, function in [("ArgMax", np.argmax), ("ArgMin", np.argmin)]:
            for threads in (1, 3):
                options = {"axis": 1, "keepdims": 0}
                [first] = run_node(op_type, [x], options, threads=threads)
                np.testing.assert_array_equal(first, function(x, axis=1))
                options["select_last_index"] = 1
                [last] = run_node(op_type, [x], options, threads=threads)
                np.testing.assert_array_equal(last, n - 1 - function(np.flip(x, 1), axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumulative(dtype: Any, axis: int) -> None:
    x = RANDOM.integers(1, 4, (4, 5, 6)).astype(dtype)
    number = np.asarray(axis, np.int64)
    for op_type, function, start in [("CumSum", np.cumsum, 0), ("CumProd", np.cumprod, 1)]:
        for reverse in (0, 1):
            y = np.flip(x, axis) if reverse else x
            inclusive = function(y, axis=axis).astype(dtype)
            exclusive = np.roll(inclusive, 1, axis)
            first = [slice(None)] * 3
            first[axis] = slice(0, 1)
            exclusive[tuple(first)] = start
            for flag, expected in [(0, inclusive), (1, exclusive)]:
                if reverse:
                    expected = np.flip(expected, axis)
                [actual] = run_node(op_type, [x, number], {"exclusive": flag, "reverse": reverse})
                np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("op_type, function", [("CumSum", np.cumsum), ("CumProd", np.cumprod)])
@pytest.mark.parametrize("inner", [1, 2, 7, 8, 9, 31, 255, 256, 257, 300])
def test_cumulative_of_many_lines(op_type: str, function: Any, inner: int) -> None:
    generator = np.random.default_rng(inner)
    for outer, n in [(1, 1), (1, 40), (7, 33), (8, 5), (19, 3), (0, 4), (3, 0)]:
        x = generator.uniform(0.8, 1.2, (outer, n, inner)).astype(np.float32)
        for attributes in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
            y = x[:, ::-1] if "reverse" in attributes else x
            expected = function(y.astype(np.float64), axis=1)
            if "exclusive" in attributes:
                start = np.full((outer, 1, inner), 0.0 if op_type == "CumSum" else 1.0)
                expected = np.concatenate([start, expected], 1)[:, :n]
            if "reverse" in attributes:
                expected = expected[:, ::-1]
            for threads, runs in ((1, 1), (3, 2)):
                arguments = (op_type, [x, np.array(1)], attributes)
                [actual] = run_node(*arguments, threads=threads, runs=runs)
                np.testing.assert_allclose(actual, expected, 1e-5)
                if outer > 2 and n > 0:
                    [part] = run_node(op_type, [x[1:3], np.array(1)], attributes)
                    assert part.tobytes() == actual[1:3].tobytes()


def test_cumulative_integers_wrap_around() -> None:
    for dtype in (np.int32, np.int64, np.uint32):
        x = np.random.default_rng(4).integers(2**28, 2**30, (9, 20, 11)).astype(dtype)
        for axis in (1, 2):
            for op_type, function in (("CumSum", np.cumsum), ("CumProd", np.cumprod)):
                [actual] = run_node(op_type, [x, np.array(axis)])
                np.testing.assert_array_equal(actual, function(x, axis=axis, dtype=dtype))


def test_cumulative_in_place() -> None:
    x = np.random.default_rng(6).uniform(-1, 1, (11, 10, 9)).astype(np.float32)
    for axis in (0, 1, 2):
        for exclusive, reverse in itertools.product((0, 1), (0, 1)):
            graph = onnx.parser.parse_graph(
                f"""g (float[11,10,9] x) => (float[11,10,9] y) <int64 axis = {{{axis}}}> {{
                    t = Sin(x)
                    y = CumSum<exclusive = {exclusive}, reverse = {reverse}>(t, axis)
                }}"""
            )
            model = onnx.helper.make_model(
                graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
            )
            session = bascule.InferenceSession(model.SerializeToString())
            [actual] = session.run(None, {"x": x})
            attributes = {"exclusive": exclusive, "reverse": reverse}
            [sines] = run_node("Sin", [x])
            [expected] = run_node("CumSum", [sines, np.array(axis)], attributes)
            assert actual.tobytes() == expected.tobytes()
