# SPDX-License-Identifier: Apache-2.0
"""Conv and ConvTranspose of the standard and of domain `bascule` against plain float64 loops."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.kernels.test_matmul import check, normal, wide
from tests.support.native import run_node


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    group: int = 1,
) -> np.ndarray:
    """[N, C, spatial...] in float64, tap by tap."""
    axes = x.ndim - 2
    x = np.pad(wide(x), [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:])])
    out = [
        (x.shape[2 + i] - (w.shape[2 + i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i in range(axes)
    ]
    grouped = x.reshape(x.shape[0], group, -1, *x.shape[2:])
    weights = wide(w).reshape(group, -1, *w.shape[1:])
    y = np.zeros((x.shape[0], group, weights.shape[1], *out))
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        cut = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(tap, dilations, out, strides)
        )
        y += np.einsum(
            "ngc...,gmc->ngm...", grouped[(..., *cut)], weights[(slice(None),) * 3 + tap]
        )
    return y.reshape(x.shape[0], -1, *out)


def last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


# input, weights, strides, pads, dilations, group
CASES: dict[str, tuple[Any, ...]] = {
    "pointwise": ((2, 37, 7, 9), (45, 37, 1, 1), [1, 1], [0] * 4, [1, 1], 1),
    "pointwise-stride": ((1, 20, 9, 8), (33, 20, 1, 1), [2, 3], [0] * 4, [1, 1], 1),
    "pointwise-pad": ((1, 20, 4, 5), (33, 20, 1, 1), [1, 1], [1, 0, 0, 2], [1, 1], 1),
    "3x3": ((1, 16, 14, 14), (40, 16, 3, 3), [1, 1], [1] * 4, [1, 1], 1),
    "3x3-batch": ((5, 16, 7, 7), (40, 16, 3, 3), [1, 1], [1] * 4, [1, 1], 1),
    "3x3-valid": ((2, 9, 14, 11), (5, 9, 3, 3), [1, 1], [0] * 4, [1, 1], 1),
    "3x3-stride": ((2, 9, 15, 14), (33, 9, 3, 3), [2, 2], [0, 0, 1, 1], [1, 1], 1),
    "3x3-dilation": ((1, 9, 15, 14), (33, 9, 3, 3), [1, 1], [2] * 4, [2, 2], 1),
    "3x3-deep": ((1, 520, 4, 5), (40, 520, 3, 3), [1, 1], [1] * 4, [1, 1], 1),
    "stem": ((1, 3, 30, 31), (64, 3, 7, 7), [2, 2], [3] * 4, [1, 1], 1),
    "patches": ((1, 3, 32, 32), (40, 3, 8, 8), [8, 8], [0] * 4, [1, 1], 1),
    "uneven": ((1, 4, 10, 9), (6, 4, 2, 5), [1, 2], [1, 0, 2, 3], [3, 1], 1),
    "wide-pad": ((1, 4, 2, 2), (6, 4, 3, 3), [1, 1], [5] * 4, [1, 1], 1),
    "1-d": ((2, 12, 40), (20, 12, 5), [1], [2, 2], [1], 1),
    "1-d-long": ((1, 512, 33), (20, 512, 3), [2], [1, 0], [1], 1),
    "1-d-group": ((1, 12, 40), (20, 3, 5), [1], [2, 2], [2], 4),
    "3-d": ((2, 5, 6, 7, 8), (9, 5, 3, 2, 3), [1, 2, 1], [1, 0, 1, 1, 1, 1], [1, 1, 2], 1),
    "group": ((1, 12, 9, 10), (18, 4, 3, 3), [1, 1], [1] * 4, [1, 1], 3),
    "group-batch": ((4, 12, 9, 10), (18, 4, 3, 3), [2, 1], [1] * 4, [1, 1], 3),
    "multiplier": ((1, 6, 9, 10), (12, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 6),
    "depthwise": ((2, 37, 15, 22), (37, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 37),
    "depthwise-stride": ((1, 32, 15, 23), (32, 1, 3, 3), [2, 2], [1] * 4, [1, 1], 32),
    "depthwise-5": ((1, 24, 15, 22), (24, 1, 5, 5), [1, 2], [2] * 4, [1, 1], 24),
    "depthwise-7": ((1, 48, 14, 30), (48, 1, 7, 7), [1, 1], [3] * 4, [1, 1], 48),
    "depthwise-small": ((1, 8, 2, 2), (8, 1, 7, 7), [1, 1], [3] * 4, [1, 1], 8),
    "depthwise-far": ((1, 8, 3, 3), (8, 1, 3, 3), [2, 2], [4] * 4, [2, 3], 8),
    "depthwise-4": ((1, 8, 9, 9), (8, 1, 4, 4), [3, 3], [1, 1, 2, 2], [1, 1], 8),
    "depthwise-1-d": ((2, 8, 9), (8, 1, 3), [1], [1, 1], [1], 8),
    "depthwise-3-d": ((1, 8, 4, 5, 6), (8, 1, 3, 3, 3), [1] * 3, [1] * 6, [1] * 3, 8),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_conv(name: str) -> None:
    x_shape, w_shape, strides, pads, dilations, group = CASES[name]
    x, w, b = normal(*x_shape), normal(*w_shape, seed=1), normal(w_shape[0], seed=2)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    expected = convolve(x, w, strides, pads, dilations, group)
    expected += wide(b).reshape(-1, *(1,) * (x.ndim - 2))
    fused = {**attributes, "channels_last": 1}
    first = None
    for constants in ((), (1,), (1, 2)):
        for threads, runs in ((1, 1), (2, 2), (3, 1)):
            options = {"constants": constants, "threads": threads, "runs": runs}
            actual = run_node("Conv", [x, w, b], attributes, **options)[0]
            check(actual, expected)
            first = actual if first is None else first
            assert (actual == first).all()
            actual = run_node("Conv", [last(x), w, b], fused, domain="bascule", **options)[0]
            assert (actual == last(first)).all()
    alone = run_node("Conv", [x[:1], w, b], attributes, constants=(1,))[0]
    assert (alone == first[:1]).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["3x3", "pointwise", "depthwise", "group", "3-d"])
def test_other_types(name: str, dtype: Any) -> None:
    x_shape, w_shape, strides, pads, dilations, group = CASES[name]
    x, w = normal(*x_shape, dtype=dtype), normal(*w_shape, seed=1, dtype=dtype)
    b = normal(w_shape[0], seed=2, dtype=dtype)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    expected = convolve(x, w, strides, pads, dilations, group)
    expected += wide(b).reshape(-1, *(1,) * (x.ndim - 2))
    for constants in ((), (1,)):
        check(
            run_node("Conv", [x, w, b], attributes, constants=constants, threads=2)[0],
            expected,
            dtype,
        )


@pytest.mark.parametrize("name", ["3x3", "pointwise", "depthwise", "group", "1-d-group"])
@pytest.mark.parametrize("activation", ["", "Relu", "Clip", "HardSwish"])
def test_epilogue(name: str, activation: str) -> None:
    x_shape, w_shape, strides, pads, dilations, group = CASES[name]
    x, w, b = normal(*x_shape), normal(*w_shape, seed=1), normal(w_shape[0], seed=2)
    expected = convolve(x, w, strides, pads, dilations, group)
    residual = normal(*expected.shape, seed=3)
    expected += wide(b).reshape(-1, *(1,) * (x.ndim - 2)) + residual
    if activation == "Relu":
        expected = np.maximum(expected, 0)
    elif activation == "Clip":
        expected = np.clip(expected, -5, 20)
    elif activation == "HardSwish":
        expected = expected * np.clip(expected / 6 + 0.5, 0, 1)
    attributes = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "group": group,
        "activation": activation,
        "activation_alpha": -5.0,
        "activation_beta": 20.0,
    }
    actual = run_node("Conv", [x, w, b, residual], attributes, domain="bascule", threads=2)[0]
    check(actual, expected)
    attributes["channels_last"] = 1
    inputs = [last(x), w, b, last(residual)]
    actual = run_node("Conv", inputs, attributes, domain="bascule", threads=2, constants=(1,))[0]
    check(actual, last(expected))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad(auto_pad: str, stride: int) -> None:
    x, w = normal(1, 3, 10, 11), normal(4, 3, 4, 2, seed=1)
    pads = [0, 0, 0, 0]
    if auto_pad != "VALID":
        for i, (size, kernel) in enumerate(((10, 4), (11, 2))):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            small = total // 2
            upper = auto_pad == "SAME_UPPER"
            pads[i], pads[i + 2] = (small, total - small) if upper else (total - small, small)
    expected = convolve(x, w, [stride] * 2, pads, [1, 1])
    actual = run_node("Conv", [x, w], {"auto_pad": auto_pad, "strides": [stride] * 2})[0]
    check(actual, expected)


def test_empty() -> None:
    w = normal(4, 3, 2, 2)
    assert run_node("Conv", [normal(0, 3, 5, 5), w])[0].shape == (0, 4, 4, 4)
    zero = run_node("Conv", [normal(1, 0, 5, 5), normal(4, 0, 2, 2)])[0]
    assert (zero == np.zeros((1, 4, 4, 4))).all()


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(Fail, match="4 channels"):
        run_node("Conv", [normal(1, 4, 5, 5), normal(2, 3, 3, 3)])
    with pytest.raises(Fail, match="does not fit"):
        run_node("Conv", [normal(1, 3, 2, 2), normal(2, 3, 3, 3)])
    with pytest.raises(Fail, match="bias has shape"):
        run_node("Conv", [normal(1, 3, 5, 5), normal(2, 3, 3, 3), normal(3)])
    with pytest.raises(Fail, match="spatial"):
        run_node("Conv", [normal(1, 3, 5, 5), normal(2, 3, 3, 3)], {"pads": [1, 1]})
