# SPDX-License-Identifier: Apache-2.0
"""Conv and ConvTranspose of the standard and of domain `bascule` against plain float64 loops."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from bascule.providers.cpu.choice import Choice
from tests.kernels.test_matmul import check, normal, wide
from tests.support.native import compile_graph, node_graph, run_node


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
    "few": ((2, 20, 9, 10), (1, 20, 3, 3), [1, 1], [1] * 4, [1, 1], 1),
    "few-four": ((1, 4, 9, 10), (1, 4, 3, 3), [1, 1], [1] * 4, [1, 1], 1),
    "few-colors": ((3, 19, 7, 5), (3, 19, 5, 4), [1, 1], [2, 1, 4, 2], [1, 1], 1),
    "few-dilation": ((1, 8, 12, 9), (2, 8, 3, 4), [1, 1], [3, 3, 1, 0], [3, 2], 1),
    "few-causal": ((2, 33, 40), (1, 33, 7), [1], [6, 0], [1], 1),
    "few-valid": ((2, 33, 40), (1, 33, 7), [1], [0, 0], [1], 1),
    "few-column": ((2, 12, 40, 1), (1, 12, 5, 1), [1, 1], [2, 0, 2, 0], [1, 1], 1),
    "few-column-3-d": ((2, 5, 30, 1, 1), (1, 5, 3, 1, 1), [1] * 3, [1, 0, 0] * 2, [1] * 3, 1),
    "few-3-d": ((2, 8, 3, 5, 6), (1, 8, 1, 3, 3), [1] * 3, [0, 1, 1] * 2, [1] * 3, 1),
    "few-group": ((1, 18, 9, 8), (2, 9, 3, 3), [1, 1], [1] * 4, [1, 1], 2),
    "few-large-pad": ((1, 12, 5, 6), (1, 12, 3, 3), [1, 1], [4] * 4, [1, 1], 1),
    "far": ((2, 33, 7, 9), (37, 33, 3, 3), [1, 1], [6, 5, 6, 5], [6, 5], 1),
    "far-batch": ((5, 9, 9, 4), (6, 9, 3, 3), [1, 1], [4] * 4, [4, 4], 1),
    "far-one-tap": ((3, 40, 4, 4), (33, 40, 3, 3), [1, 1], [36] * 4, [36, 36], 1),
    "far-uneven": ((1, 17, 11, 5), (9, 17, 2, 4), [1, 2], [3, 9, 5, 2], [7, 3], 1),
    "far-outside": ((1, 17, 5, 5), (9, 17, 3, 3), [1, 1], [20, 20, 9, 9], [9, 9], 1),
    "far-no-tap": ((1, 4, 2, 3), (5, 4, 2, 2), [9, 9], [9] * 4, [9, 9], 1),
    "far-1-d": ((2, 33, 13), (20, 33, 5), [1], [12, 12], [6], 1),
    "far-3-d": ((1, 9, 4, 5, 6), (7, 9, 3, 3, 3), [2, 1, 1], [3] * 6, [3] * 3, 1),
    "1-d": ((2, 12, 40), (20, 12, 5), [1], [2, 2], [1], 1),
    "1-d-long": ((1, 512, 33), (20, 512, 3), [2], [1, 0], [1], 1),
    "1-d-group": ((1, 12, 40), (20, 3, 5), [1], [2, 2], [2], 4),
    "column": ((2, 12, 40, 1), (20, 12, 5, 1), [2, 1], [2, 0, 1, 0], [1, 1], 1),
    "column-group": ((1, 12, 40, 1), (20, 3, 5, 1), [1, 3], [2, 0, 2, 0], [2, 1], 4),
    "column-pad": ((1, 12, 20, 1), (20, 12, 3, 1), [1, 3], [1, 1, 1, 0], [1, 1], 1),
    "column-3-d": ((2, 5, 30, 1, 1), (9, 5, 3, 1, 1), [1] * 3, [1, 0, 0] * 2, [1] * 3, 1),
    "depthwise-column": ((2, 37, 30, 1), (37, 1, 3, 1), [1, 1], [1, 0, 1, 0], [1, 1], 37),
    "3-d": ((2, 5, 6, 7, 8), (9, 5, 3, 2, 3), [1, 2, 1], [1, 0, 1, 1, 1, 1], [1, 1, 2], 1),
    "group": ((1, 12, 9, 10), (18, 4, 3, 3), [1, 1], [1] * 4, [1, 1], 3),
    "group-batch": ((4, 12, 9, 10), (18, 4, 3, 3), [2, 1], [1] * 4, [1, 1], 3),
    "multiplier": ((1, 6, 9, 10), (12, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 6),
    "multiplier-bands": ((2, 20, 60, 70), (60, 1, 3, 3), [1, 1], [1, 0, 1, 2], [1, 1], 20),
    "multiplier-stride": ((3, 5, 31, 12), (35, 1, 5, 3), [2, 3], [2, 1, 0, 1], [1, 1], 5),
    "multiplier-bands-stride": ((1, 64, 45, 33), (128, 1, 3, 3), [2, 1], [4] * 4, [4, 3], 64),
    "multiplier-many": ((1, 3, 9, 10), (60, 1, 4, 4), [1, 1], [1] * 4, [1, 1], 3),
    "multiplier-pointwise": ((2, 11, 5, 6), (44, 1, 1, 1), [1, 1], [0] * 4, [1, 1], 11),
    "multiplier-column": ((2, 12, 40, 1), (24, 1, 5, 1), [2, 1], [2, 0, 1, 0], [1, 1], 12),
    "multiplier-1-d": ((2, 37, 30), (74, 1, 7), [1], [6, 0], [2], 37),
    "multiplier-3-d": ((2, 6, 4, 5, 6), (18, 1, 3, 3, 3), [1, 2, 1], [1] * 6, [1] * 3, 6),
    "multiplier-deep": ((1, 6, 1, 5, 6), (12, 1, 3, 3, 3), [1] * 3, [1] * 6, [1] * 3, 6),
    "depthwise": ((2, 37, 15, 22), (37, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 37),
    "depthwise-stride": ((1, 32, 15, 23), (32, 1, 3, 3), [2, 2], [1] * 4, [1, 1], 32),
    "depthwise-even": ((1, 40, 14, 8), (40, 1, 3, 3), [2, 2], [0, 0, 1, 1], [1, 1], 40),
    "depthwise-uneven": ((1, 19, 9, 7), (19, 1, 3, 3), [1, 1], [0, 1, 1, 0], [1, 1], 19),
    "depthwise-tiny": ((2, 17, 2, 2), (17, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 17),
    "depthwise-row": ((1, 17, 1, 9), (17, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 17),
    "depthwise-beyond": ((1, 17, 5, 6), (17, 1, 3, 3), [2, 2], [1, 1, 2, 2], [1, 1], 17),
    "depthwise-5": ((1, 24, 15, 22), (24, 1, 5, 5), [1, 2], [2] * 4, [1, 1], 24),
    "depthwise-one-block": ((2, 48, 7, 7), (48, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 48),
    "depthwise-two-blocks": ((1, 37, 9, 14), (37, 1, 3, 3), [1, 1], [1] * 4, [1, 1], 37),
    "depthwise-stride-blocks": ((1, 32, 9, 28), (32, 1, 3, 3), [2, 2], [1] * 4, [1, 1], 32),
    "depthwise-right-pad": ((1, 32, 9, 14), (32, 1, 3, 3), [2, 2], [0, 0, 1, 1], [1, 1], 32),
    "depthwise-5-stride": ((1, 37, 9, 28), (37, 1, 5, 5), [2, 2], [2] * 4, [1, 1], 37),
    "depthwise-5-stride-uneven": ((1, 16, 9, 15), (16, 1, 5, 5), [2, 2], [2] * 4, [1, 1], 16),
    "depthwise-5-stride-before": ((1, 37, 9, 28), (37, 1, 5, 5), [2, 2], [1, 1, 2, 2], [1, 1], 37),
    "depthwise-5-stride-after": ((2, 16, 7, 14), (16, 1, 5, 5), [2, 2], [2, 2, 1, 1], [1, 1], 16),
    "depthwise-5-stride-little": ((1, 16, 9, 24), (16, 1, 5, 5), [2, 2], [1, 1, 2, 2], [1, 1], 16),
    "depthwise-5-uneven": ((1, 16, 9, 17), (16, 1, 5, 5), [1, 1], [2, 1, 0, 2], [1, 1], 16),
    "depthwise-5-no-pad": ((1, 16, 9, 17), (16, 1, 5, 5), [1, 1], [0, 0, 1, 0], [1, 1], 16),
    "depthwise-7-uneven": ((1, 16, 9, 17), (16, 1, 7, 7), [1, 1], [2, 1, 0, 3], [1, 1], 16),
    "depthwise-7-stride": ((1, 16, 9, 24), (16, 1, 7, 7), [2, 2], [3] * 4, [1, 1], 16),
    "depthwise-7": ((1, 48, 14, 30), (48, 1, 7, 7), [1, 1], [3] * 4, [1, 1], 48),
    "depthwise-5-wide": ((1, 37, 6, 32), (37, 1, 5, 5), [1, 1], [2] * 4, [1, 1], 37),
    "depthwise-7-wide": ((1, 37, 9, 56), (37, 1, 7, 7), [1, 1], [3] * 4, [1, 1], 37),
    "depthwise-7-one": ((1, 37, 5, 14), (37, 1, 7, 7), [1, 1], [3] * 4, [1, 1], 37),
    "depthwise-7-narrow": ((2, 37, 7, 7), (37, 1, 7, 7), [1, 1], [3] * 4, [1, 1], 37),
    "depthwise-small": ((1, 8, 2, 2), (8, 1, 7, 7), [1, 1], [3] * 4, [1, 1], 8),
    "depthwise-far": ((1, 8, 3, 3), (8, 1, 3, 3), [2, 2], [4] * 4, [2, 3], 8),
    "depthwise-4": ((1, 8, 9, 9), (8, 1, 4, 4), [3, 3], [1, 1, 2, 2], [1, 1], 8),
    "depthwise-1-d": ((2, 8, 9), (8, 1, 3), [1], [1, 1], [1], 8),
    "depthwise-1": ((2, 37, 9, 11), (37, 1, 1, 1), [1, 1], [0, 1, 1, 0], [1, 1], 37),
    "depthwise-2": ((1, 21, 9, 18), (21, 1, 2, 2), [1, 1], [1, 0, 0, 1], [1, 1], 21),
    "depthwise-4-pad": ((1, 21, 9, 18), (21, 1, 4, 4), [1, 1], [1, 3, 2, 2], [1, 1], 21),
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
@pytest.mark.parametrize(
    "name", ["3x3", "pointwise", "depthwise", "group", "3-d", "far", "multiplier"]
)
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


@pytest.mark.parametrize(
    "name",
    [
        "3x3",
        "pointwise",
        "depthwise",
        "group",
        "1-d-group",
        "multiplier-bands",
        "far",
        "far-one-tap",
        "far-no-tap",
    ],
)
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


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_weights_that_are_not_finite_meet_the_padding(value: float) -> None:
    x, w = normal(1, 5, 4, 4), normal(6, 5, 3, 3, seed=1)
    w[2, 3, 0, 1] = value
    attributes = {"pads": [3] * 4, "dilations": [3, 3]}
    for constants in ((), (1,)):
        [y] = run_node("Conv", [x, w], attributes, constants=constants)
        assert np.isnan(y[0, 2, :3]).all() and np.isfinite(np.delete(y, 2, 1)).all()


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 7])
def test_auto_pad(auto_pad: str, stride: int, channels: int) -> None:
    x, w = normal(1, 5, 10, 11), normal(channels, 5, 4, 2, seed=1)
    pads = [0, 0, 0, 0]
    if auto_pad != "VALID":
        for i, (size, kernel) in enumerate(((10, 4), (11, 2))):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            small = total // 2
            upper = auto_pad == "SAME_UPPER"
            pads[i], pads[i + 2] = (small, total - small) if upper else (total - small, small)
    expected = convolve(x, w, [stride] * 2, pads, [1, 1])
    attributes = {"auto_pad": auto_pad, "strides": [stride] * 2}
    for constants in ((), (1,)):
        check(run_node("Conv", [x, w], attributes, constants=constants)[0], expected)


def test_empty() -> None:
    w = normal(4, 3, 2, 2)
    assert run_node("Conv", [normal(0, 3, 5, 5), w])[0].shape == (0, 4, 4, 4)
    zero = run_node("Conv", [normal(1, 0, 5, 5), normal(4, 0, 2, 2)])[0]
    assert (zero == np.zeros((1, 4, 4, 4))).all()
    inputs = [normal(1, 0, 5, 5), normal(0, 4, 2, 2), normal(4)]
    for constants in ((), (1, 2)):
        biases = run_node("ConvTranspose", inputs, constants=constants)[0]
        assert (biases == np.broadcast_to(inputs[2][:, None, None], (1, 4, 6, 6))).all()


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(Fail, match="4 channels"):
        run_node("Conv", [normal(1, 4, 5, 5), normal(2, 3, 3, 3)])
    with pytest.raises(Fail, match="does not fit"):
        run_node("Conv", [normal(1, 3, 2, 2), normal(2, 3, 3, 3)])
    with pytest.raises(Fail, match="bias has shape"):
        run_node("Conv", [normal(1, 3, 5, 5), normal(2, 3, 3, 3), normal(3)])
    with pytest.raises(Fail, match="spatial"):
        run_node("Conv", [normal(1, 3, 5, 5), normal(2, 3, 3, 3)], {"pads": [1, 1]})


def convolve_transposed(
    x: np.ndarray,
    w: np.ndarray,
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    output_padding: list[int],
    group: int = 1,
) -> np.ndarray:
    """[N, C, spatial...] in float64: every input pixel adds its taps to the output."""
    axes = x.ndim - 2
    full = [
        (x.shape[2 + i] - 1) * strides[i]
        + (w.shape[2 + i] - 1) * dilations[i]
        + 1
        + output_padding[i]
        for i in range(axes)
    ]
    grouped = wide(x).reshape(x.shape[0], group, -1, *x.shape[2:])
    weights = wide(w).reshape(group, -1, *w.shape[1:])
    y = np.zeros((x.shape[0], group, weights.shape[2], *full))
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        cut = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, x.shape[2:], strides)
        )
        y[(..., *cut)] += np.einsum(
            "ngc...,gcm->ngm...", grouped, weights[(slice(None),) * 3 + tap]
        )
    y = y.reshape(x.shape[0], -1, *full)
    inside = tuple(slice(pads[i], full[i] - pads[axes + i]) for i in range(axes))
    return y[(..., *inside)]


# input, weights, strides, pads, dilations, output padding, group
TRANSPOSED: dict[str, tuple[Any, ...]] = {
    "plain": ((2, 5, 6, 7), (5, 9, 3, 3), [1, 1], [0] * 4, [1, 1], [0, 0], 1),
    "double": ((1, 20, 6, 7), (20, 33, 2, 2), [2, 2], [0] * 4, [1, 1], [0, 0], 1),
    "generator": ((1, 20, 6, 7), (20, 33, 4, 4), [2, 2], [1] * 4, [1, 1], [0, 0], 1),
    "uneven": ((1, 3, 6, 7), (3, 4, 3, 5), [3, 2], [1, 0, 2, 3], [1, 1], [2, 1], 1),
    "sparse": ((1, 3, 4, 4), (3, 4, 1, 2), [3, 4], [0] * 4, [1, 1], [1, 3], 1),
    "dilation": ((1, 3, 6, 7), (3, 4, 3, 3), [2, 3], [1] * 4, [2, 2], [0, 0], 1),
    "cut": ((1, 3, 3, 3), (3, 4, 3, 3), [2, 2], [3] * 4, [1, 1], [1, 1], 1),
    "group": ((2, 6, 5, 4), (6, 2, 3, 3), [2, 1], [1] * 4, [1, 1], [1, 0], 3),
    "depthwise": ((1, 8, 5, 4), (8, 1, 4, 4), [2, 2], [1] * 4, [1, 1], [0, 0], 8),
    "depthwise-3": ((3, 37, 9, 8), (37, 1, 3, 3), [1, 1], [1] * 4, [1, 1], [0, 0], 37),
    "depthwise-3-cut": ((1, 17, 5, 9), (17, 1, 3, 3), [1, 1], [2, 2, 0, 1], [1, 1], [0, 0], 17),
    "depthwise-double": ((2, 19, 6, 7), (19, 1, 2, 2), [2, 2], [0] * 4, [1, 1], [0, 0], 19),
    "depthwise-2-wide": ((1, 16, 4, 33), (16, 1, 4, 4), [2, 2], [1] * 4, [1, 1], [0, 0], 16),
    "depthwise-uneven": ((1, 21, 5, 6), (21, 1, 5, 7), [2, 3], [1, 2, 0, 4], [1, 1], [1, 2], 21),
    "depthwise-sparse": ((1, 9, 4, 5), (9, 1, 2, 2), [3, 5], [0, 1, 0, 0], [1, 1], [2, 3], 9),
    "depthwise-dilation": ((2, 9, 6, 7), (9, 1, 3, 4), [2, 3], [1, 0, 2, 3], [3, 2], [1, 0], 9),
    "depthwise-dilation-2": ((1, 9, 6, 7), (9, 1, 3, 5), [2, 2], [3] * 4, [4, 2], [0, 1], 9),
    "depthwise-8": ((1, 33, 3, 10), (33, 1, 8, 8), [2, 2], [3] * 4, [1, 1], [0, 0], 33),
    "depthwise-1": ((1, 33, 3, 10), (33, 1, 1, 1), [1, 1], [0] * 4, [1, 1], [0, 0], 33),
    "depthwise-1-d": ((2, 12, 9), (12, 1, 6), [2], [2, 2], [1], [0], 12),
    "depthwise-3-d": (
        *((1, 8, 3, 4, 5), (8, 1, 4, 3, 3), [2, 1, 2], [1, 0, 1, 1, 1, 0]),
        *([1] * 3, [1, 0, 0], 8),
    ),
    "few": ((2, 20, 6, 7), (20, 1, 4, 4), [2, 2], [1] * 4, [1, 1], [0, 0], 1),
    "few-colors": ((1, 20, 6, 7), (20, 3, 5, 4), [3, 2], [1, 0, 2, 3], [1, 1], [2, 1], 1),
    "few-large": ((3, 11, 9, 10), (11, 1, 9, 9), [4, 4], [4] * 4, [1, 1], [3, 3], 1),
    "few-dilation": ((1, 9, 6, 7), (9, 2, 3, 3), [2, 3], [1] * 4, [2, 2], [0, 0], 1),
    "few-cut": ((1, 9, 3, 3), (9, 4, 3, 3), [2, 2], [3] * 4, [1, 1], [1, 1], 1),
    "few-sparse": ((1, 9, 4, 4), (9, 1, 1, 2), [3, 4], [0] * 4, [1, 1], [1, 3], 1),
    "few-group": ((2, 18, 5, 4), (18, 1, 3, 3), [2, 1], [1] * 4, [1, 1], [1, 0], 2),
    "few-bands": ((1, 8, 40, 300), (8, 1, 4, 6), [2, 2], [1] * 4, [1, 1], [0, 0], 1),
    "few-1-d": ((2, 8, 2100), (8, 1, 16), [8], [3, 4], [1], [2], 1),
    "few-3-d": (
        *((2, 8, 3, 4, 5), (8, 1, 1, 3, 3), [2, 2, 1], [0, 1, 1, 1, 0, 1]),
        *([1] * 3, [1, 0, 0], 1),
    ),
    "1-d": ((2, 6, 9), (6, 5, 4), [2], [1, 1], [1], [0], 1),
    "3-d": ((1, 4, 3, 4, 5), (4, 5, 2, 3, 3), [2, 1, 2], [0, 1, 1, 1, 1, 0], [1] * 3, [1, 0, 0], 1),
}


@pytest.mark.parametrize("name", sorted(TRANSPOSED))
def test_conv_transpose(name: str) -> None:
    x_shape, w_shape, strides, pads, dilations, output_padding, group = TRANSPOSED[name]
    x, w = normal(*x_shape), normal(*w_shape, seed=1)
    b = normal(w_shape[1] * group, seed=2)
    attributes = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "output_padding": output_padding,
        "group": group,
    }
    expected = convolve_transposed(x, w, strides, pads, dilations, output_padding, group)
    expected = expected + wide(b).reshape(-1, *(1,) * (x.ndim - 2))
    fused = {**attributes, "channels_last": 1, "activation": "LeakyRelu", "activation_alpha": 0.5}
    for constants in ((), (1,)):
        for threads, runs in ((1, 1), (2, 2)):
            options = {"constants": constants, "threads": threads, "runs": runs}
            actual = run_node("ConvTranspose", [x, w, b], attributes, **options)[0]
            check(actual, expected)
            inputs = [last(x), w, b]
            fast = run_node("ConvTranspose", inputs, fused, domain="bascule", **options)[0]
            assert (fast == last(np.where(actual < 0, actual * np.float32(0.5), actual))).all()


@pytest.mark.parametrize("name", ["generator", "depthwise", "few", "few-group"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_conv_transpose_of_other_types(name: str, dtype: Any) -> None:
    x_shape, w_shape, strides, pads, dilations, output_padding, group = TRANSPOSED[name]
    x, w = normal(*x_shape, dtype=dtype), normal(*w_shape, seed=1, dtype=dtype)
    expected = convolve_transposed(x, w, strides, pads, dilations, output_padding, group)
    for constants in ((), (1,)):
        options = {"constants": constants, "threads": 2}
        attributes = {"strides": strides, "pads": pads, "dilations": dilations}
        attributes |= {"output_padding": output_padding, "group": group}
        check(run_node("ConvTranspose", [x, w], attributes, **options)[0], expected, dtype)


def test_conv_transpose_output_shape() -> None:
    x, w = normal(1, 3, 4, 5), normal(3, 4, 3, 3, seed=1)
    attributes = {"strides": [2, 2], "output_shape": [8, 12]}
    expected = convolve_transposed(x, w, [2, 2], [1, 0, 0, 0], [1, 1], [0, 1])
    check(run_node("ConvTranspose", [x, w], attributes)[0], expected)
    upper = {"strides": [2, 2], "auto_pad": "SAME_UPPER"}
    expected = convolve_transposed(x, w, [2, 2], [0, 0, 1, 1], [1, 1], [0, 0])
    check(run_node("ConvTranspose", [x, w], upper)[0], expected)


@pytest.mark.parametrize("activation", ["", "Relu", "HardSwish"])
@pytest.mark.parametrize(
    ("x_shape", "channels", "pads"),
    [
        ((1, 40, 14, 14), 33, [1, 1, 1, 1]),
        ((3, 32, 17, 19), 48, [1, 1, 1, 1]),
        ((1, 64, 16, 18), 64, [0, 0, 0, 0]),
        ((1, 32, 18, 15), 32, [2, 0, 1, 3]),
        ((1, 150, 30, 30), 130, [1, 1, 1, 1]),
        ((2, 48, 8, 10), 70, [1, 1, 1, 1]),
        ((2, 70, 7, 7), 66, [1, 1, 1, 1]),
    ],
)
def test_3x3_of_known_size(
    x_shape: tuple[int, ...], channels: int, pads: list[int], activation: str
) -> None:
    """With the size known at load, another algorithm may be chosen; its results are as good."""
    x, b = normal(*x_shape), normal(channels, seed=2)
    w = normal(channels, x_shape[1], 3, 3, seed=1)
    expected = convolve(x, w, [1, 1], pads, [1, 1]) + wide(b).reshape(-1, 1, 1)
    residual = normal(*expected.shape, seed=3)
    expected += residual
    if activation == "Relu":
        expected = np.maximum(expected, 0)
    elif activation == "HardSwish":
        expected = expected * np.clip(expected / 6 + 0.5, 0, 1)
    attributes = {"pads": pads, "activation": activation, "channels_last": 1}
    inputs = [last(x), w, b, last(residual)]
    options = {"domain": "bascule", "constants": (1, 2), "static": True}
    whole = run_node("Conv", inputs, attributes, **options)[0]
    check(whole, last(expected), tolerance=6e-6)
    for threads in (2, 3):
        again = run_node("Conv", inputs, attributes, threads=threads, runs=2, **options)[0]
        assert (again == whole).all()
    inputs = [last(x)[:1], w, b, last(residual)[:1]]
    assert (run_node("Conv", inputs, attributes, **options)[0] == whole[:1]).all()
    attributes = {"pads": pads, "activation": activation}
    first = run_node("Conv", [x, w, b, residual], attributes, **options)[0]
    assert (last(first) == whole).all()


# input, channels between, kernel, strides, pads, dilations
SEPARABLE: dict[str, tuple[Any, ...]] = {
    "3x3": ((2, 21, 9, 11), 70, (3, 3), [1, 1], [1] * 4, [1, 1]),
    "3x3-stride": ((1, 8, 15, 14), 40, (3, 3), [2, 2], [1] * 4, [1, 1]),
    "5x5": ((1, 16, 15, 14), 33, (5, 5), [2, 2], [2] * 4, [1, 1]),
    "bands": ((1, 4, 75, 90), 24, (3, 3), [1, 1], [1] * 4, [1, 1]),
    "bands-stride": ((2, 4, 75, 90), 35, (3, 3), [2, 2], [0, 0, 1, 1], [1, 1]),
    "dilation": ((1, 5, 9, 8), 9, (3, 2), [1, 3], [2, 1, 0, 3], [2, 1]),
    "beyond": ((1, 5, 2, 2), 9, (1, 2), [1, 1], [3, 3, 4, 2], [1, 1]),
}


@pytest.mark.parametrize("name", sorted(SEPARABLE))
@pytest.mark.parametrize("activation", ["", "Clip", "HardSwish"])
def test_pointwise_depthwise(name: str, activation: str) -> None:
    x_shape, channels, kernel, strides, pads, dilations = SEPARABLE[name]
    x, w, b = normal(*x_shape), normal(channels, x_shape[1], 1, 1, seed=1), normal(channels, seed=2)
    taps, taps_b = normal(channels, 1, *kernel, seed=3), normal(channels, seed=4)

    def activated(y: np.ndarray) -> np.ndarray:
        if activation == "Clip":
            return np.clip(y, -1, 5)
        return y * np.clip(y / 6 + 0.5, 0, 1) if activation else y

    inner = activated(convolve(x, w, [1, 1], [0] * 4, [1, 1]) + wide(b).reshape(-1, 1, 1))
    expected = convolve(inner, taps, strides, pads, dilations, channels)
    expected = np.maximum(expected + wide(taps_b).reshape(-1, 1, 1), 0)
    attributes = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "group": channels,
        "channels_last": 1,
        "activation": "Relu",
        "inner_activation": activation,
        "inner_activation_alpha": -1.0,
        "inner_activation_beta": 5.0,
    }
    options = {"domain": "bascule", "constants": (1, 2, 3, 4)}
    inputs = [last(x), w, b, taps, taps_b]
    whole = run_node("PointwiseDepthwiseConv", inputs, attributes, **options)[0]
    check(whole, last(expected))
    for threads in (2, 3):
        again = run_node(
            "PointwiseDepthwiseConv", inputs, attributes, threads=threads, runs=2, **options
        )[0]
        assert (again == whole).all()
    inputs[0] = inputs[0][:1]
    alone = run_node("PointwiseDepthwiseConv", inputs, attributes, **options)[0]
    assert (alone == whole[:1]).all()


def test_pointwise_depthwise_that_does_not_fit() -> None:
    attributes = {"group": 6, "channels_last": 1}
    options = {"domain": "bascule", "constants": (1, 3)}

    def run(x: np.ndarray, w: np.ndarray, b: Any, taps: np.ndarray) -> None:
        run_node("PointwiseDepthwiseConv", [x, w, b, taps], attributes, **options)

    x, w, taps = normal(1, 5, 5, 4), normal(6, 4, 1, 1), normal(6, 1, 3, 3)
    with pytest.raises(Fail, match="channels in the last"):
        run(normal(1, 5, 5, 3), w, None, taps)
    with pytest.raises(Fail, match="bias has shape"):
        run(x, w, normal(5), taps)
    with pytest.raises(Fail, match="does not fit"):
        run(x[:, :2], w, None, taps)
    with pytest.raises(Fail, match="1x1"):
        run(x, normal(6, 4, 1, 2), None, taps)
    with pytest.raises(Fail, match="depthwise"):
        run(x, w, None, normal(12, 1, 3, 3))


@pytest.mark.parametrize("name", ["stem", "patches", "uneven", "pointwise-pad", "3x3-valid"])
def test_planes(name: str) -> None:
    """An input with channels first beside a result with channels last."""
    x_shape, w_shape, strides, pads, dilations, _ = CASES[name]
    x, w = normal(2, *x_shape[1:]), normal(*w_shape, seed=1)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "channels_last": 1}
    for options in ({}, {"constants": (1,), "static": True}):
        options |= {"domain": "bascule", "threads": 2}
        expected = run_node("Conv", [last(x), w], attributes, **options)[0]
        actual = run_node("Conv", [x, w], attributes | {"planes": 1}, **options)[0]
        assert (actual == expected).all()


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("results", [1, 9])
def test_planes_of_few_channels(channels: int, results: int) -> None:
    x, w = normal(1, channels, 13, 37), normal(results, channels, 3, 2, seed=1)
    attributes = {"pads": [1, 0, 0, 1], "channels_last": 1, "planes": 1}
    actual = run_node("Conv", [x, w], attributes, domain="bascule")[0]
    check(actual, last(convolve(x, w, [1, 1], [1, 0, 0, 1], [1, 1])))


@pytest.mark.parametrize(
    "name", ["pointwise", "3x3-stride", "3x3-batch", "group", "depthwise", "few", "multiplier"]
)
@pytest.mark.parametrize("size", [3, 12])
def test_scale(name: str, size: int) -> None:
    x_shape, w_shape, strides, pads, dilations, group = CASES[name]
    x, w = normal(3, x_shape[1], size, size + 1), normal(*w_shape, seed=1)
    scale = normal(3, 1, 1, x_shape[1], seed=2)
    expected = convolve(
        wide(x) * np.moveaxis(wide(scale), -1, 1), w, strides, pads, dilations, group
    )
    residual = normal(*last(expected).shape, seed=3)
    attributes = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "group": group,
        "channels_last": 1,
    }
    options = {"domain": "bascule", "constants": (1,)}
    inputs = [last(x), w, None, residual, scale]
    whole = run_node("Conv", inputs, attributes, **options)[0]
    check(whole, last(expected) + residual)
    assert (run_node("Conv", inputs, attributes, threads=2, **options)[0] == whole).all()
    inputs = [last(x)[:1], w, None, residual[:1], scale[:1]]
    assert (run_node("Conv", inputs, attributes, **options)[0] == whole[:1]).all()
    with pytest.raises(Fail, match="scale has shape"):
        run_node("Conv", [*inputs[:4], scale[:1, ..., 1:]], attributes, **options)


@pytest.mark.parametrize("form", ["direct", "winograd2", "winograd4"])
@pytest.mark.parametrize(("size", "channels"), [(14, 64), (7, 96), (9, 40)])
def test_every_form_of_a_3x3_convolution(form: str, size: int, channels: int) -> None:
    x, w = normal(2, channels, size, size), normal(48, channels, 3, 3, seed=1)
    graph = node_graph("Conv", [x, w], {"pads": [1] * 4}, constants=(1,), static=True)
    (node,) = graph
    Choice(form).give(node)
    (y,) = compile_graph(graph, threads=2).run_values([x], [])
    expected = convolve(x, w, [1, 1], [1] * 4, [1, 1])
    assert np.abs(y - expected).max() < 2e-5 * np.abs(expected).max()
