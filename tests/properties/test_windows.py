# SPDX-License-Identifier: Apache-2.0
"""Convolution, pooling and resampling of images of one to three axes.

Oracles: float64 loops tap by tap; for Resize and GridSample onnx's reference implementation.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tests.kernels.test_conv import convolve
from tests.kernels.test_image import within_border
from tests.kernels.test_pool import average, largest, pool
from tests.properties.bounds import assert_within, epsilon
from tests.properties.running import OPSET, node_model, run
from tests.properties.strategies import BFLOAT16, TAME, Array, Setup, arrays, setups

WINDOWS = (np.float32, np.float64, np.float16, BFLOAT16)


@st.composite
def geometries(draw: st.DrawFn, axes: int) -> dict[str, Any]:
    """Attributes of a window; each of its axes may go unsaid."""
    few = st.sampled_from([1, 1, 2, 3])
    return {
        "kernel_shape": [draw(st.sampled_from([3, 1, 2, 5])) for _ in range(axes)],
        "strides": [draw(few) for _ in range(axes)],
        "dilations": [draw(few) for _ in range(axes)],
        "pads": [draw(st.integers(0, 3)) for _ in range(2 * axes)],
    }


def extent(geometry: dict[str, Any], axis: int) -> int:
    """How far the window reaches."""
    return (geometry["kernel_shape"][axis] - 1) * geometry["dilations"][axis] + 1


def image_sizes(draw: Any, geometry: dict[str, Any]) -> list[int]:
    """Sizes into which the window fits at least once."""
    axes = len(geometry["strides"])
    pads = geometry["pads"]
    return [
        max(1, extent(geometry, i) - pads[i] - pads[axes + i]) + draw(st.sampled_from([0, 1, 4, 9]))
        for i in range(axes)
    ]


@given(data=st.data())
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv(axes: int, data: st.DataObject) -> None:
    draw = data.draw
    geometry = draw(geometries(axes))
    group = draw(st.sampled_from([1, 1, 2, 3, 8]))
    inside, outside = (draw(st.sampled_from([1, 2, 5, 17])) for _ in range(2))
    dtype = np.dtype(draw(st.sampled_from(WINDOWS)))
    x_shape = (draw(st.sampled_from([1, 2])), group * inside, *image_sizes(draw, geometry))
    w_shape = (group * outside, inside, *geometry["kernel_shape"])
    x, w = draw(arrays(dtype, x_shape, TAME)), draw(arrays(dtype, w_shape, TAME))
    bias = draw(st.one_of(st.none(), arrays(dtype, (w_shape[0],), TAME)))
    y = run("Conv", [x, w, bias], {**geometry, "group": group}, draw(setups(3)))[0]
    how = (geometry["strides"], geometry["pads"], geometry["dilations"], group)
    expected, magnitude = convolve(x, w, *how), convolve(np.abs(x), np.abs(w), *how)
    if bias is not None:
        along = bias.astype(np.float64).reshape(-1, *(1,) * axes)
        expected, magnitude = expected + along, magnitude + np.abs(along)
    # Winograd's transforms cost a few more digits than the sum.
    error = (
        (inside * np.prod(geometry["kernel_shape"]) + 40)
        * epsilon(dtype)
        * magnitude.max(initial=0)
    )
    assert_within(y, expected, error, dtype)


@given(data=st.data())
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_pads_by_itself(axes: int, auto_pad: str, data: st.DataObject) -> None:
    draw = data.draw
    geometry = draw(geometries(axes))
    sizes = [extent(geometry, i) + draw(st.sampled_from([0, 1, 4])) for i in range(axes)]
    x = draw(arrays(np.float32, (1, 2, *sizes), TAME))
    w = draw(arrays(np.float32, (3, 2, *geometry["kernel_shape"]), TAME))
    del geometry["pads"]
    y = run("Conv", [x, w], {**geometry, "auto_pad": auto_pad}, draw(setups(2)))[0]
    begin, end = [0] * axes, [0] * axes
    if auto_pad != "VALID":
        for i, size in enumerate(sizes):
            stride = geometry["strides"][i]
            reach = extent({**geometry}, i)
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            small, large = total // 2, total - total // 2
            begin[i], end[i] = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    expected = convolve(x, w, geometry["strides"], begin + end, geometry["dilations"])
    magnitude = convolve(
        np.abs(x), np.abs(w), geometry["strides"], begin + end, geometry["dilations"]
    )
    assert_within(y, expected, 300 * epsilon(np.float32) * magnitude.max(), np.float32)


@given(data=st.data())
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv_transpose(axes: int, data: st.DataObject) -> None:
    draw = data.draw
    geometry = draw(geometries(axes))
    strides, dilations, pads = (geometry[k] for k in ("strides", "dilations", "pads"))
    extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations)]
    group = draw(st.sampled_from([1, 2, 3]))
    inside, outside = (draw(st.sampled_from([1, 2, 5])) for _ in range(2))
    sizes = [draw(st.sampled_from([1, 2, 4, 9])) for _ in range(axes)]
    dtype = np.dtype(draw(st.sampled_from(WINDOWS)))
    x = draw(arrays(dtype, (2, group * inside, *sizes), TAME))
    w = draw(arrays(dtype, (group * inside, outside, *geometry["kernel_shape"]), TAME))
    out = [
        (sizes[i] - 1) * strides[i] + extra[i] + extent(geometry, i) - pads[i] - pads[axes + i]
        for i in range(axes)
    ]
    assume(min(out) > 0)
    attributes = {**geometry, "group": group, "output_padding": extra}
    y = run("ConvTranspose", [x, w], attributes, draw(setups(2)))[0]
    expected, magnitude = (
        _spread(f(x), f(w), strides, dilations, pads, out, group) for f in (np.asarray, np.abs)
    )
    error = (inside * np.prod(geometry["kernel_shape"]) + 4) * epsilon(dtype) * magnitude
    assert_within(y, expected, error, dtype)


def _spread(
    x: Array, w: Array, strides: Any, dilations: Any, pads: Any, out: list[int], group: int
) -> Array:
    """Each element of x adds its weights to the places that it reaches."""
    axes = len(out)
    x, w = x.astype(np.float64), w.astype(np.float64)
    full = [o + pads[i] + pads[axes + i] for i, o in enumerate(out)]
    xs = x.reshape(x.shape[0], group, -1, *x.shape[2:])
    ws = w.reshape(group, -1, *w.shape[1:])
    y = np.zeros((x.shape[0], group, w.shape[1], *full))
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        to = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, x.shape[2:], strides)
        )
        y[(..., *to)] += np.einsum("ngc...,gcm->ngm...", xs, ws[(slice(None),) * 3 + tap])
    inner = tuple(slice(pads[i], pads[i] + o) for i, o in enumerate(out))
    return y.reshape(x.shape[0], -1, *full)[(..., *inner)]


@given(data=st.data())
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
def test_pools(op_type: str, axes: int, data: st.DataObject) -> None:
    draw = data.draw
    geometry = draw(geometries(axes))
    geometry["pads"] = [
        min(p, extent(geometry, i % axes) - 1) for i, p in enumerate(geometry["pads"])
    ]
    # A window has to meet the image: the standard does not say what an empty one gives.
    assume(all(d == 1 or p == 0 for d, p in zip(geometry["dilations"] * 2, geometry["pads"])))
    geometry["ceil_mode"] = draw(st.integers(0, 1))
    sizes = image_sizes(draw, geometry)
    dtype = np.dtype(draw(st.sampled_from(WINDOWS)))
    x = draw(arrays(dtype, (2, draw(st.sampled_from([1, 3, 17])), *sizes), TAME))
    padded = op_type == "AveragePool" and draw(st.booleans())
    attributes = {**geometry, **({"count_include_pad": 1} if padded else {})}
    y = run(op_type, [x], attributes, draw(setups(1)))[0]
    if op_type == "MaxPool":
        assert_within(y, pool(x, largest, geometry), 0, dtype)
        return
    expected = pool(x, average, geometry, padded)
    magnitude = pool(np.abs(x), average, geometry, padded)
    count = int(np.prod(geometry["kernel_shape"]))
    assert_within(y, expected, (count + 2) * epsilon(dtype) * magnitude, dtype)


@given(data=st.data())
@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_global_pools(axes: int, data: st.DataObject) -> None:
    draw = data.draw
    sizes = [draw(st.sampled_from([1, 2, 7, 33])) for _ in range(axes)]
    assume(np.prod(sizes) < 5000)
    dtype = np.dtype(draw(st.sampled_from(WINDOWS)))
    x = draw(arrays(dtype, (2, draw(st.sampled_from([1, 3, 17])), *sizes), TAME))
    wide, over = x.astype(np.float64), tuple(range(2, x.ndim))
    count = max(int(np.prod(sizes)), 1)
    error = (count + 2) * epsilon(dtype)
    y = run("GlobalMaxPool", [x], setup=draw(setups(1)))[0]
    assert_within(y, wide.max(over, keepdims=True), 0, dtype)
    y = run("GlobalAveragePool", [x], setup=draw(setups(1)))[0]
    magnitude = np.abs(wide).mean(over, keepdims=True)
    assert_within(y, wide.mean(over, keepdims=True), error * magnitude, dtype)
    y = run("GlobalLpPool", [x], {"p": 2}, draw(setups(1)))[0]
    norm = np.sqrt((wide**2).sum(over, keepdims=True))
    assert_within(y, norm, error * norm, dtype)


def reference(op_type: str, inputs: list[Any], attributes: dict[str, Any]) -> Array:
    model = node_model(op_type, inputs, attributes, [True], OPSET, "", Setup())
    feeds = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
    return np.asarray(ReferenceEvaluator(model).run(None, feeds)[0])


@given(data=st.data())
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize(mode: str, data: st.DataObject) -> None:
    draw = data.draw
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(st.sampled_from([1, 2, 3, 5, 8])) for _ in range(rank))
    x = draw(arrays(np.float32, shape, TAME))
    most = 2 if mode == "cubic" else 3
    changed = sorted(draw(st.permutations(range(rank)))[:most])
    coordinates = [
        "half_pixel",
        "asymmetric",
        "align_corners",
        "pytorch_half_pixel",
        "half_pixel_symmetric",
    ]
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": draw(st.sampled_from(coordinates)),
        "axes": changed,
    }
    if mode == "nearest":
        rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attributes["nearest_mode"] = draw(st.sampled_from(rounding))
    if mode == "cubic":
        attributes["cubic_coeff_a"] = draw(st.sampled_from([-0.75, -0.5]))
        attributes["exclude_outside"] = draw(st.integers(0, 1))
    sizes = np.array([draw(st.sampled_from([1, 2, 3, 4, 7, 13])) for _ in changed], np.int64)
    if attributes["coordinate_transformation_mode"] == "align_corners":
        assume(all(s > 1 for s in sizes))
    inputs: list[Any] = [x, None, None, sizes]
    if draw(st.booleans()):
        inputs = [
            x,
            None,
            np.array([draw(st.sampled_from([0.5, 2.0, 1.5, 3.0])) for _ in changed], np.float32),
        ]
        lengths = [shape[a] * s for a, s in zip(changed, inputs[2])]
        assume(all(int(n) for n in lengths))
        if attributes["coordinate_transformation_mode"] == "align_corners":
            # The reference takes the fractional length, the standard's text that of the output.
            assume(all(n == int(n) for n in lengths))
    y = run("Resize", inputs, attributes, draw(setups(len(inputs))))[0]
    if attributes["coordinate_transformation_mode"] == "pytorch_half_pixel":
        # The reference does not take the place 0 for a single element, as the standard does.
        assume(all(y.shape[axis] > 1 for axis in changed))
    expected = reference("Resize", [x.astype(np.float64), *inputs[1:]], attributes)
    assert_within(y, expected, 60 * epsilon(np.float32) * np.abs(x).max(), np.float32)


@given(data=st.data())
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample(mode: str, padding: str, data: st.DataObject) -> None:
    draw = data.draw
    axes = 2 if mode == "cubic" else draw(st.sampled_from([2, 3]))
    sizes = [draw(st.sampled_from([2, 3, 5, 8])) for _ in range(axes)]
    out = [draw(st.sampled_from([1, 2, 5])) for _ in range(axes)]
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    x = draw(arrays(np.float64, (2, 3, *sizes), TAME))
    grid = rng.uniform(-1.4, 1.4, (2, *out, axes))
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": draw(st.integers(0, 1))}
    y = run("GridSample", [x, grid], attributes, draw(setups(2)))[0]
    given = (x, grid)
    if (mode, padding) == ("cubic", "border"):
        # The reference moves the centre onto the border first, and so loses its distance.
        given = within_border(x, grid, attributes["align_corners"], 5)
    expected = reference("GridSample", list(given), attributes)
    # The reference computes in float32.
    assert_within(y, expected, 100 * epsilon(np.float32) * np.abs(x).max(), np.float64)
