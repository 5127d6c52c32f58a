# SPDX-License-Identifier: Apache-2.0
"""Operators that take or choose indices, against NumPy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument
from tests.support.native import run_node

DTYPES = [np.int8, np.float16, np.float32, np.float64, np.complex128, ml_dtypes.int4, object]


def data(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 8, shape)
    return values.astype(str).astype(object) if dtype is object else values.astype(dtype)


def indices(shape: tuple[int, ...], size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-size, size, shape)


def check(expected: Any, *args: Any, **options: Any) -> None:
    """The outputs of a node, on one thread and on two, planned and not."""
    expected = expected if isinstance(expected, list) else [expected]
    for threads, runs in ((1, 1), (2, 2)):
        actual = run_node(*args, outputs=len(expected), threads=threads, runs=runs, **options)
        for a, e in zip(actual, expected):
            assert a.shape == e.shape
            assert a.dtype == e.dtype
            assert ((a == e) | ((a != a) & (e != e))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(dtype: Any, axis: int) -> None:
    x = data((4, 5, 6), dtype)
    where = indices((3, 4, 5), x.shape[axis])
    cut = tuple(slice(None) if i == axis % 3 else slice(where.shape[i]) for i in range(3))
    expected = np.take_along_axis(x[cut], where % x.shape[axis], axis)
    check(expected, "GatherElements", [x, where], {"axis": axis})
    check(expected, "GatherElements", [x, where.astype(np.int32)], {"axis": axis})


def scattered(
    x: np.ndarray, where: np.ndarray, updates: np.ndarray, axis: int, combine: Any
) -> np.ndarray:
    result = x.copy()
    for place in np.ndindex(*where.shape):
        target = list(place)
        target[axis] = where[place] % x.shape[axis]
        result[tuple(target)] = combine(result[tuple(target)], updates[place])
    return result


REDUCTIONS: dict[str, Any] = {
    "none": lambda a, b: b,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "max": np.maximum,
    "min": np.minimum,
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("axis", [0, -1])
def test_scatter_elements(reduction: str, axis: int) -> None:
    for dtype in (np.float32, np.float16, np.int64):
        x, updates = data((4, 5, 6), dtype), data((3, 5, 6), dtype, 2)
        where = indices((3, 5, 6), x.shape[axis])
        expected = scattered(x, where, updates, axis, REDUCTIONS[reduction])
        check(
            expected,
            "ScatterElements",
            [x, where, updates],
            {"axis": axis, "reduction": reduction},
        )


def test_scatter_keeps_nan_in_max_and_min() -> None:
    x = np.array([1, np.nan, 3], np.float32)
    for reduction in ("max", "min"):
        actual = run_node(
            "ScatterElements",
            [x, np.array([1, 2]), np.array([5, np.nan], np.float32)],
            {"reduction": reduction},
        )[0]
        assert np.isnan(actual).tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_of_every_type(dtype: Any) -> None:
    x, updates, where = data((9,), dtype), data((4,), dtype, 3), np.array([8, -8, 3, 3])
    expected = x.copy()
    expected[where] = updates
    check(expected, "ScatterElements", [x, where, updates])
    check(expected, "ScatterND", [x, where[:, None], updates])


@pytest.mark.parametrize("batch_dims", [0, 1, 2])
def test_gather_nd(batch_dims: int) -> None:
    x = data((2, 3, 4, 5))
    where = indices((2, 3, 2), 2)
    batches = x.reshape(-1, *x.shape[batch_dims:])
    tuples = where.reshape(len(batches), -1, 2)
    rows = [b[tuple(t)] for b, ts in zip(batches, tuples) for t in ts]
    expected = np.stack(rows).reshape(*where.shape[:-1], *x.shape[batch_dims + 2 :])
    check(expected, "GatherND", [x, where], {"batch_dims": batch_dims})


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scatter_nd(reduction: str) -> None:
    x = data((4, 3, 1500))
    where = np.array([[0, 1], [-1, -3], [0, 1]])
    updates = data((3, 1500), seed=5)
    expected = x.copy()
    for target, update in zip(where, updates):
        place = tuple(target)
        expected[place] = REDUCTIONS[reduction](expected[place], update)
    check(expected, "ScatterND", [x, where, updates], {"reduction": reduction})


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int8, np.int64])
def test_scatter_nd_of_many_rows(reduction: str, dtype: Any) -> None:
    generator = np.random.default_rng(12)
    for inner in (1, 2, 3, 7, 8, 15, 17, 33, 128, 1030):
        x = generator.integers(-3, 4, (6, inner)).astype(dtype)
        where = generator.integers(-6, 6, (20, 1))
        updates = generator.integers(-1, 3, (20, inner)).astype(dtype)
        expected = x.astype(np.int64)
        for [row], update in zip(where, updates.astype(np.int64)):
            expected[row] = REDUCTIONS[reduction](expected[row], update)
        if dtype == np.int8:
            expected = expected.astype(np.int8)
        elif np.abs(expected).max() > 2000:
            continue  # not exact in float16
        check(
            expected.astype(dtype),
            "ScatterND",
            [x, where, updates],
            {"reduction": reduction},
        )


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("GatherElements", [data((2, 3)), np.array([[3]])]),
        ("GatherElements", [data((2, 3)), np.array([0])]),
        ("GatherND", [data((2, 3)), np.array([[0, 3]])]),
        ("GatherND", [data((2, 3)), np.array([[0, 0, 0]])]),
        ("ScatterElements", [data((2, 3)), np.array([[-3]]), data((1, 1))]),
        ("ScatterElements", [data((2, 3)), np.array([[0]]), data((1, 2))]),
        ("ScatterND", [data((2, 3)), np.array([[2]]), data((1, 3))]),
        ("ScatterND", [data((2, 3)), np.array([[0]]), data((1, 2))]),
        ("TensorScatter", [data((2, 4, 1)), data((2, 2, 1)), np.array([0, 3])]),
        ("TopK", [data((2, 3)), np.array([4])]),
        ("Compress", [data((2, 3)), np.array([1, 0])]),
        ("Pad", [data((2, 3)), np.array([-2, 0, -1, 0])]),
        ("Pad", [data((2, 3)), np.array([0, 0, 0])]),
        ("Tile", [data((2, 3)), np.array([2])]),
        ("Tile", [data((2, 3)), np.array([2, -1])]),
        ("ConstantOfShape", [np.array([2, -1])]),
        ("ReverseSequence", [data((2, 3)), np.array([1, 2, 3])]),
    ],
)
def test_what_does_not_fit_is_refused(op_type: str, inputs: list[np.ndarray]) -> None:
    attributes = {"axis": 1} if op_type == "GatherElements" else {}
    with pytest.raises((InvalidArgument, Fail)):
        run_node(op_type, inputs, attributes, outputs=2 if op_type == "TopK" else 1)


def test_tensor_scatter() -> None:
    cache, update = data((2, 3, 7, 2)), data((2, 3, 4, 2), seed=3)
    expected = cache.copy()
    expected[0, :, 1:5], expected[1, :, 3:7] = update
    check(expected, "TensorScatter", [cache, update, np.array([1, 3])])
    expected = cache.copy()
    for i in range(4):
        expected[0, :, (5 + i) % 7], expected[1, :, (70 + i) % 7] = update[:, :, i]
    check(expected, "TensorScatter", [cache, update, np.array([5, 70])], {"mode": "circular"})


@pytest.mark.parametrize("dtype", DTYPES)
def test_pad_with_a_constant(dtype: Any) -> None:
    x = data((3, 4, 5), dtype)
    value = data((1,), dtype, 9).reshape(())
    widths = np.array([1, 0, 2, 2, 1, 0])
    padded = np.full((6, 5, 7), value[()], x.dtype)
    padded[1:4, :4, 2:] = x
    check(padded, "Pad", [x, widths, value])
    cropped = np.full((4, 4, 4), value[()], x.dtype)
    cropped[1:, :, :3] = x[:, :, 2:]
    check(cropped, "Pad", [x, np.array([1, -2, 0, 1]), value, np.array([0, -1])])


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("dtype", [np.float32, np.int8, ml_dtypes.int4, object])
def test_pad_from_the_data(mode: str, dtype: Any) -> None:
    x = data((3, 4, 5), dtype)
    widths = [(2, 1), (0, 3), (9, 4)]
    expected = np.pad(x.astype(object), widths, mode=mode).astype(x.dtype)  # type: ignore[call-overload]
    flat = np.array(widths).T.ravel()
    check(expected, "Pad", [x, flat], {"mode": mode})
    expected = np.pad(x[:, :, 1:].astype(object), [(0, 0), (0, 0), (0, 2)], mode=mode)  # type: ignore[call-overload]
    check(
        expected.astype(x.dtype), "Pad", [x, np.array([-1, 2]), None, np.array([2])], {"mode": mode}
    )


def test_non_zero_and_compress() -> None:
    x = data((3, 0, 4))
    check(np.stack(np.nonzero(x)), "NonZero", [x])
    x = data((3, 5, 4)) * (data((3, 5, 4), seed=2) > 3)
    for values in (x, x.astype(bool), x.astype(np.float16), -x.astype(np.int8)):
        check(np.stack(np.nonzero(values)), "NonZero", [values])
    keep = np.array([True, False, True, True])
    check(np.compress(keep, x), "Compress", [x, keep])
    check(np.compress(keep, x, 1), "Compress", [x, keep], {"axis": 1})
    check(np.compress(keep, x, 2), "Compress", [x, keep], {"axis": -1})


def test_trilu() -> None:
    x = data((2, 4, 6)) + 1
    for k in (-9, -2, 0, 1, 5, 2**40):
        limit = min(k, 10)
        check(np.triu(x, limit), "Trilu", [x, np.array(k)])
        check(np.tril(x, limit), "Trilu", [x, np.array(k)], {"upper": 0})


@pytest.mark.parametrize("dtype", [np.float32, np.int64, object, np.float16])
def test_one_hot(dtype: Any) -> None:
    off_on = (
        np.array([2, 5]).astype(dtype) if dtype is not object else np.array(["off", "on"], object)
    )
    where = np.array([[0, 2, -1], [-4, 3, 7]])
    expected = np.full((2, 3, 4), off_on[0], off_on.dtype)
    for place in np.ndindex(2, 3):
        if -4 <= where[place] < 4:
            expected[place][where[place]] = off_on[1]
    check(expected, "OneHot", [where, np.array(4), off_on])
    check(expected, "OneHot", [where.astype(np.float32), np.array([4.0]), off_on])
    check(expected.transpose(0, 2, 1), "OneHot", [where, np.array(4), off_on], {"axis": 1})


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.uint8, np.int8])
def test_top_k(dtype: Any, largest: int) -> None:
    generator = np.random.default_rng(4)
    x = generator.integers(-9 if dtype != np.uint8 else 0, 9, (3, 50, 4)).astype(dtype)
    if np.issubdtype(dtype, np.floating):
        x[1, 3:6] = np.nan
        x[0, :5] = -0.0
        x[2, 7:9] = [[np.inf], [-np.inf]]
    for k in (0, 1, 3, 49, 50):
        # A stable sort, NaN above every number.
        keys = np.where(x != x, np.inf, x.astype(np.float64))
        rank = np.lexsort((keys, x != x), 1)
        if largest:
            reverse = np.flip(x, 1)
            keys = np.where(reverse != reverse, np.inf, reverse.astype(np.float64))
            rank = np.flip(49 - np.lexsort((keys, reverse != reverse), 1), 1)
        rank = rank[:, :k]
        check(
            [np.take_along_axis(x, rank, 1), rank],
            "TopK",
            [x, np.array([k])],
            {"axis": 1, "largest": largest},
        )


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, object])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique(dtype: Any, axis: int | None) -> None:
    x = data((4, 6, 2), np.int64) // 6
    x = x.astype(str).astype(object) if dtype is object else x.astype(dtype)
    plain = x.astype(str) if dtype is object else x
    values, first, inverse, counts = np.unique(plain, True, True, True, axis=axis)
    attributes = {} if axis is None else {"axis": axis}
    values = values.astype(x.dtype)
    check([values, first, inverse.ravel(), counts], "Unique", [x], attributes)
    order = np.argsort(first)
    rank = np.argsort(order)
    check(
        [np.take(values, order, axis or 0), first[order], rank[inverse.ravel()], counts[order]],
        "Unique",
        [x],
        {**attributes, "sorted": 0},
    )


def test_unique_counts_nan_once() -> None:
    x = np.array([np.nan, 1, np.nan, -0.0, 0.0], np.float32)
    values, counts = run_node("Unique", [x], outputs=4)[::3]
    assert np.isnan(values[2])
    assert counts.tolist() == [2, 1, 2]


def test_reverse_sequence() -> None:
    x = data((4, 3, 2))
    lengths = np.array([4, 1, 3])
    expected = x.copy()
    for i, length in enumerate(lengths):
        expected[:length, i] = x[:length, i][::-1]
    check(expected, "ReverseSequence", [x, lengths])
    swapped = x.transpose(1, 0, 2).copy()
    check(
        expected.transpose(1, 0, 2),
        "ReverseSequence",
        [swapped, lengths],
        {"batch_axis": 0, "time_axis": 1},
    )


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks_there_and_back(mode: str) -> None:
    x = np.arange(2 * 12 * 3 * 5, dtype=np.float32).reshape(2, 12, 3, 5)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    view = (2, 2, 2, 3, 3, 5) if mode == "DCR" else (2, 3, 2, 2, 3, 5)
    y = x.reshape(view).transpose(order).reshape(2, 3, 6, 10)
    check(y, "DepthToSpace", [x], {"blocksize": 2, "mode": mode})
    check(x, "SpaceToDepth", [y], {"blocksize": 2, "mode": mode})


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.int64])
@pytest.mark.parametrize("block", [2, 3, 4])
def test_blocks_of_every_width(dtype: Any, block: int) -> None:
    for height, width in [(1, 1), (2, 3), (1, 4), (3, 5), (2, 16), (5, 37), (2, 150)]:
        y = np.random.default_rng(width).integers(0, 99, (2, 3, height * block, width * block))
        y = y.astype(dtype)
        split = y.reshape(2, 3, height, block, width, block)
        x = split.transpose(0, 3, 5, 1, 2, 4).reshape(2, 3 * block * block, height, width)
        check(x, "SpaceToDepth", [y], {"blocksize": block})
        check(y, "DepthToSpace", [x], {"blocksize": block})


def test_non_max_suppression() -> None:
    generator = np.random.default_rng(6)
    corner = generator.uniform(0, 4, (2, 40, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + generator.uniform(0.5, 2, (2, 40, 2))], 2)
    boxes = boxes.astype(np.float32)
    scores = generator.uniform(0, 1, (2, 3, 40)).astype(np.float32)
    scores[0, 0, 1] = np.nan

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
        both = np.prod(np.maximum(high - low, 0))
        return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))

    expected = []
    for batch, kind in np.ndindex(2, 3):
        row = scores[batch, kind]
        kept: list[int] = []
        for i in sorted((i for i in range(40) if row[i] > 0.2), key=lambda i: -row[i]):
            if len(kept) < 5 and all(
                overlap(boxes[batch, i], boxes[batch, j]) <= 0.3 for j in kept
            ):
                kept.append(i)
        expected += [[batch, kind, i] for i in kept]
    limits = [np.array([5]), np.array([0.3], np.float32), np.array([0.2], np.float32)]
    flipped = boxes[:, :, [2, 3, 0, 1]]
    check(np.array(expected), "NonMaxSuppression", [boxes, scores, *limits])
    check(np.array(expected), "NonMaxSuppression", [flipped, scores, *limits])
    check(np.zeros((0, 3), np.int64), "NonMaxSuppression", [boxes, scores])


@pytest.mark.parametrize("count", [1, 30, 300])
def test_non_max_suppression_of_equal_scores(count: int) -> None:
    generator = np.random.default_rng(count)
    # Some boxes of a row of unit squares, each more than once.
    left = generator.integers(0, 1 + count // 3, count).astype(np.float32)
    boxes = np.stack([left * 0, left, left * 0 + 1, left + 1], 1)[None]
    scores = generator.integers(0, 4, (1, 2, count)).astype(np.float32)
    scores[0, 1, :: max(2, count // 7)] = np.nan
    for most in (0, 1, 5, count, 2 * count):
        for least in (None, 0.0, 2.0):
            expected = []
            for kind in range(2):
                kept: list[int] = []
                row = scores[0, kind]
                candidates = [i for i in range(count) if row[i] > (-1 if least is None else least)]
                for i in sorted(candidates, key=lambda i: -row[i]):
                    if len(kept) < most and left[i] not in left[kept]:
                        kept.append(i)
                expected += [[0, kind, i] for i in kept]
            limits = [np.array([most]), np.array([0.5], np.float32)]
            if least is not None:
                limits.append(np.array([least], np.float32))
            wanted = np.array(expected, np.int64).reshape(-1, 3)
            check(wanted, "NonMaxSuppression", [boxes, scores, *limits])
