# SPDX-License-Identifier: Apache-2.0
"""Pooling against window-by-window NumPy in float64, and torch's conventions for the borders."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument
from tests.support.native import run_node


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def windows(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], ceil: bool):
    """The taps of every output position along one axis, and how many count with the padding."""
    room = size + sum(pads) - (kernel - 1) * dilation - 1
    count = room // stride + 1
    if ceil and room % stride and count * stride < size + pads[0]:
        count += 1
    for o in range(count):
        taps = [o * stride - pads[0] + k * dilation for k in range(kernel)]
        inside = [t for t in taps if 0 <= t < size]
        yield inside, sum(t < size + pads[1] for t in taps)


def pool(x: np.ndarray, fold: Any, attributes: dict[str, Any], padded: bool = False) -> np.ndarray:
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    ones, zeros = [1] * n, [0] * n
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    pads = attributes.get("pads", zeros * 2)
    axes = [
        list(
            windows(
                x.shape[2 + i],
                kernel[i],
                strides[i],
                dilations[i],
                (pads[i], pads[n + i]),
                bool(attributes.get("ceil_mode", 0)),
            )
        )
        for i in range(n)
    ]
    y = np.empty((*x.shape[:2], *(len(a) for a in axes)))
    for place in itertools.product(*(range(len(a)) for a in axes)):
        taps = [axes[i][o] for i, o in enumerate(place)]
        part = x.astype(np.float64)[
            np.ix_(range(x.shape[0]), range(x.shape[1]), *(t[0] for t in taps))
        ]
        count = np.prod([t[1] if padded else len(t[0]) for t in taps])
        y[(..., *place)] = fold(
            part.reshape(*x.shape[:2], part[0, 0].size if part.size else 1), count
        )
    return y


def largest(part: np.ndarray, count: int) -> np.ndarray:
    return part.max(-1)


def average(part: np.ndarray, count: int) -> np.ndarray:
    return part.sum(-1) / count


CASES = [
    ((2, 3, 37), {"kernel_shape": [3]}),
    ((1, 2, 70), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ((1, 2, 70), {"kernel_shape": [5], "strides": [3], "pads": [2, 0], "dilations": [2]}),
    ((2, 3, 19, 41), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 5, 9, 8), {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 5, 4, 4), {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1] * 4, "ceil_mode": 1}),
    ((1, 33, 7, 7), {"kernel_shape": [7, 7]}),
    ((1, 70, 6, 5), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    (
        (2, 2, 6, 7, 8),
        {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [1, 0, 0, 0, 1, 1]},
    ),
    ((0, 3, 4, 4), {"kernel_shape": [1, 1]}),
]


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def run_both(op_type: str, x: np.ndarray, attributes: dict[str, Any]) -> list[np.ndarray]:
    """In both layouts and with threads, as channels first."""
    first = [run_node(op_type, [x], attributes, threads=t)[0] for t in (1, 2)]
    assert np.array_equal(first[0], first[1], equal_nan=True)
    last = run_node(
        op_type, [channels_last(x)], {**attributes, "channels_last": 1}, domain="bascule"
    )[0]
    return [first[0], np.moveaxis(last, -1, 1)]


@pytest.mark.parametrize("shape, attributes", CASES)
def test_max(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    x = normal(*shape)
    for y in run_both("MaxPool", x, attributes):
        assert np.array_equal(y, pool(x, largest, attributes))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shape, attributes", CASES)
def test_average(shape: tuple[int, ...], attributes: dict[str, Any], padded: bool) -> None:
    x = normal(*shape)
    for y in run_both("AveragePool", x, {**attributes, "count_include_pad": int(padded)}):
        np.testing.assert_allclose(y, pool(x, average, attributes, padded), 1e-5, 1e-6)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp(p: int) -> None:
    attributes = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    x = normal(2, 3, 8, 9)
    expected = pool(x, lambda part, _: (abs(part) ** p).sum(-1) ** (1 / p), attributes)
    np.testing.assert_allclose(run_node("LpPool", [x], {**attributes, "p": p})[0], expected, 1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("shape, attributes", CASES)
def test_max_of_bytes(shape: tuple[int, ...], attributes: dict[str, Any], dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = np.random.default_rng(list(shape)).integers(info.min, info.max + 1, shape).astype(dtype)
    for y in run_both("MaxPool", x, attributes):
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, pool(x, largest, attributes))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8])
def test_types(dtype: Any) -> None:
    x = (normal(2, 3, 9, 9) * 20 + 50).astype(dtype)
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]}
    y = run_node("MaxPool", [x], attributes)[0]
    assert y.dtype == dtype
    assert np.array_equal(y.astype(np.float64), pool(x, largest, attributes))
    if np.dtype(dtype).kind not in "iu":
        y = run_node("AveragePool", [x], attributes)[0].astype(np.float64)
        np.testing.assert_allclose(y, pool(x, average, attributes), 1e-2)


def test_max_keeps_nan_and_takes_minus_infinity() -> None:
    x = np.full((1, 1, 4, 40), -np.inf, np.float32)
    x[0, 0, 1, 20] = np.nan
    for y in run_both("MaxPool", x, {"kernel_shape": [2, 2]}):
        expected = np.full((1, 1, 3, 39), -np.inf)
        expected[0, 0, 0:2, 19:21] = np.nan
        assert np.array_equal(y, expected, equal_nan=True)


@pytest.mark.parametrize("order", [0, 1])
def test_indices_point_at_the_maxima(order: int) -> None:
    x = normal(2, 3, 6, 8)
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 0]}
    y, indices = run_node("MaxPool", [x], {**attributes, "storage_order": order}, outputs=2)
    flat = (x if order == 0 else np.swapaxes(x, 2, 3)).reshape(-1)
    assert np.array_equal(flat[indices], y)


def test_a_window_that_does_not_fit_is_an_error() -> None:
    x = normal(1, 2, 5, 3)
    for op_type in ("MaxPool", "AveragePool", "LpPool"):
        with pytest.raises(Fail, match="reaches over 5 does not fit an axis of 3"):
            run_node(op_type, [x], {"kernel_shape": [5, 3], "dilations": [1, 2]})
        for attributes in ({"pads": [0, 1, 0, 1]}, {"auto_pad": "SAME_UPPER"}, {"ceil_mode": 1}):
            y = run_node(op_type, [x], {"kernel_shape": [5, 5], "strides": [1, 3], **attributes})[0]
            assert y.shape[-1] == 1


@pytest.mark.parametrize("name, values", [("kernel_shape", [2**32 + 1]), ("dilations", [2**32])])
def test_windows_whose_reach_would_overflow_are_refused(name: str, values: list[int]) -> None:
    for op_type in ("MaxPool", "AveragePool", "LpPool"):
        attributes = {"kernel_shape": [3], name: values}
        with pytest.raises(InvalidArgument, match=f"'{name}' has the value {values[0]}"):
            run_node(op_type, [normal(1, 2, 9)], attributes)
        largest = {"kernel_shape": [2**31 - 1], "dilations": [2**31 - 1], "auto_pad": "SAME_LOWER"}
        with pytest.raises(Fail, match="reaches over 4611686011984936963, too many"):
            run_node(op_type, [normal(1, 2, 9)], largest)


def test_a_stride_that_goes_nowhere() -> None:
    x = normal(1, 2, 9)
    for op_type in ("MaxPool", "AveragePool", "LpPool"):
        expected = run_node(op_type, [x], {"kernel_shape": [3]})[0][..., :1]
        y = run_node(op_type, [x], {"kernel_shape": [3], "strides": [2**31 - 1]})[0]
        assert np.array_equal(y, expected)


def test_unpool_puts_back_what_pooling_took() -> None:
    x = abs(normal(2, 3, 6, 8))
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, indices = run_node("MaxPool", [x], attributes, outputs=2)
    back = run_node("MaxUnpool", [y, indices], attributes)[0]
    assert np.array_equal(run_node("MaxPool", [back], attributes)[0], y)
    assert np.count_nonzero(back) == y.size
    shape = np.array([2, 3, 7, 9], np.int64)
    larger = run_node("MaxUnpool", [y, indices, shape], attributes)[0]
    assert np.array_equal(larger[:, :, :6, :8], back)
    indices[0, 0, 0, 0] = x.size
    with pytest.raises(InvalidArgument, match="index"):
        run_node("MaxUnpool", [y, indices], attributes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(
    "shape", [(2, 3, 7, 7), (1, 5, 100), (2, 2, 3, 4, 5), (3, 4), (0, 3, 5), (1, 3, 23, 61)]
)
def test_global(shape: tuple[int, ...], dtype: Any) -> None:
    x = normal(*shape).astype(dtype)
    rows = x.astype(np.float64).reshape(*shape[:2], math.prod(shape[2:]))
    out = (*shape[:2], *(1 for _ in shape[2:]))
    for op_type, expected in (
        ("GlobalAveragePool", rows.mean(-1)),
        ("GlobalMaxPool", rows.max(-1)),
        ("GlobalLpPool", np.sqrt((rows**2).sum(-1))),
    ):
        y = run_node(op_type, [x])[0]
        tolerance = 1e-3 if dtype == np.float16 else 1e-5
        np.testing.assert_allclose(y, expected.reshape(out), tolerance, 1e-6)
    if x.size > 0:
        x.reshape(-1)[-1] = np.nan
        [y] = run_node("GlobalMaxPool", [x])
        assert np.isnan(y).sum() == 1 and np.isnan(y.reshape(-1)[-1])
