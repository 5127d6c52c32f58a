# SPDX-License-Identifier: Apache-2.0
"""Operators that read images at computed places, against the reference implementation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bascule.errors import InvalidArgument
from tests.support.native import run_node


def reference(op_type: str, inputs: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    names = [f"i{i}" for i in range(len(inputs))]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, inputs)
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
    result: np.ndarray = ReferenceEvaluator(model).run(None, dict(zip(names, inputs)))[0]
    return result


def check(op_type: str, inputs: list[np.ndarray], attributes: dict[str, Any]) -> None:
    expected = reference(op_type, inputs, attributes)
    for threads, runs in ((1, 1), (2, 2)):
        actual = run_node(op_type, inputs, attributes, threads=threads, runs=runs)[0]
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CASES = list(
    itertools.product(["nearest", "linear", "cubic"], ["zeros", "border", "reflection"], [0, 1])
)


def within_border(
    x: np.ndarray, grid: np.ndarray, align: int, margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images with `margin` more pixels of the border on each side, and the grid to sample them."""
    wide = np.pad(x, [(0, 0), (0, 0), *[(margin, margin)] * (x.ndim - 2)], mode="edge")
    n, m = (np.array(a.shape[:1:-1], np.float64) for a in (x, wide))
    places = (grid + 1) / 2 * (n - 1) if align else ((grid + 1) * n - 1) / 2
    places = places + margin
    moved = places / (m - 1) * 2 - 1 if align else (2 * places + 1) / m - 1
    return wide, moved.astype(grid.dtype)


@pytest.mark.parametrize(("mode", "padding", "align"), CASES)
def test_grid_sample(mode: str, padding: str, align: int) -> None:
    attributes: dict[str, Any] = {"mode": mode, "padding_mode": padding, "align_corners": align}
    x, grid = normal(2, 3, 4, 5), normal(2, 3, 4, 2, seed=1)
    if (mode, padding) == ("cubic", "border"):
        # The reference moves the centre onto the border first, and so loses its distance.
        expected = reference("GridSample", [*within_border(x, grid, align, 16)], attributes)
        actual = run_node("GridSample", [x, grid], attributes)[0]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
        return
    check("GridSample", [x, grid], attributes)
    if mode != "cubic":
        check("GridSample", [normal(1, 2, 3, 4, 3), normal(1, 2, 2, 3, 3, seed=2)], attributes)


def test_grid_sample_outside_every_border() -> None:
    x = normal(1, 1, 3, 3)
    places = np.array([np.nan, np.inf, -np.inf, 1e30, -5, 5], np.float32)
    grid = np.stack([places, places], -1)[None, None]
    for mode, padding, align in CASES:
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
        y = run_node("GridSample", [x, grid], attributes)[0]
        assert np.isfinite(y).all()
        if padding == "zeros":
            assert (y == 0).all()
        if padding == "border":
            first, last = x[0, 0, 0, 0], x[0, 0, -1, -1]
            expected = [first, last, first, last, first, last]
            np.testing.assert_allclose(y.ravel(), expected, 1e-6)


@pytest.mark.parametrize("align", [0, 1])
def test_affine_grid(align: int) -> None:
    attributes = {"align_corners": align}
    check("AffineGrid", [normal(2, 2, 3), np.array([2, 1, 4, 5])], attributes)
    check("AffineGrid", [normal(2, 3, 4), np.array([2, 1, 3, 4, 5])], attributes)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("pixels", ["half_pixel", "output_half_pixel"])
def test_roi_align(mode: str, sampling: int, pixels: str) -> None:
    generator = np.random.default_rng(3)
    corner = generator.uniform(0, 8, (5, 2))
    rois = np.concatenate([corner, corner + generator.uniform(1, 9, (5, 2))], 1).astype(np.float32)
    attributes = {
        "mode": mode,
        "sampling_ratio": sampling,
        "coordinate_transformation_mode": pixels,
        "output_height": 3,
        "output_width": 2,
        "spatial_scale": 0.7,
    }
    x = normal(2, 3, 9, 10)
    check("RoiAlign", [x, rois, np.array([0, 1, 1, 0, 1])], attributes)
    for bad in (np.array([0, 1, 2, 0, 1]), np.array([0, 1, -1, 0, 1])):
        with pytest.raises(InvalidArgument):
            run_node("RoiAlign", [x, rois, bad], attributes)


def test_col2im() -> None:
    for strides, pads, dilations in (
        ([1, 1], [0, 0, 0, 0], [1, 1]),
        ([2, 1], [1, 0, 1, 2], [1, 1]),
        ([1, 2], [0, 1, 1, 0], [2, 3]),
    ):
        image, block = (7, 8), (3, 2)
        counts = [
            (image[i] + pads[i] + pads[i + 2] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
            for i in range(2)
        ]
        x = normal(2, 3 * 6, counts[0] * counts[1])
        attributes = {"strides": strides, "pads": pads, "dilations": dilations}
        check("Col2Im", [x, np.array(image), np.array(block)], attributes)
        with pytest.raises(InvalidArgument):
            run_node("Col2Im", [x[:, :, 1:], np.array(image), np.array(block)], attributes)


def folded(
    x: np.ndarray, image: tuple[int, ...], block: tuple[int, ...], attributes: dict[str, Any]
) -> np.ndarray:
    """Col2Im in float64, window by window."""
    axes = len(image)
    strides, pads, dilations = (attributes[n] for n in ("strides", "pads", "dilations"))
    padded = [image[i] + pads[i] + pads[i + axes] for i in range(axes)]
    counts = [
        (padded[i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1 for i in range(axes)
    ]
    values = x.astype(np.float64).reshape(x.shape[0], -1, *block, *counts)
    sums = np.zeros((*values.shape[:2], *padded))
    for element in np.ndindex(*block):
        for window in np.ndindex(*counts):
            at = tuple(w * s + e * d for w, s, e, d in zip(window, strides, element, dilations))
            sums[(..., *at)] += values[(..., *element, *window)]
    inside = tuple(slice(pads[i], pads[i] + image[i]) for i in range(axes))
    return sums[(..., *inside)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
@pytest.mark.parametrize(
    ("image", "block", "strides", "pads", "dilations"),
    [
        ((33,), (4,), [1], [2, 1], [1]),
        ((33,), (3,), [3], [7, 0], [2]),  # windows that lie before the image
        ((5,), (2,), [2], [1, 9], [4]),
        ((9, 17), (3, 3), [1, 1], [1, 1, 1, 1], [1, 1]),
        ((6, 35), (2, 4), [2, 1], [0, 5, 3, 6], [3, 1]),
        ((4, 3), (2, 5), [1, 2], [4, 4, 4, 4], [1, 1]),
        ((3, 4, 9), (2, 1, 3), [1, 2, 1], [1, 0, 2, 0, 3, 1], [2, 1, 1]),
    ],
)
def test_col2im_of_every_rank(
    image: tuple[int, ...],
    block: tuple[int, ...],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    dtype: Any,
) -> None:
    axes = len(image)
    counts = [
        (image[i] + pads[i] + pads[i + axes] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        for i in range(axes)
    ]
    values = normal(2, 3 * int(np.prod(block)), int(np.prod(counts)), seed=sum(image)) * 9
    x = values.astype(dtype)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations}
    expected = folded(x, image, block, attributes)
    tolerance = 1e-2 if dtype == np.float16 else 1e-5
    for threads in (1, 3):
        [actual] = run_node(
            "Col2Im", [x, np.array(image), np.array(block)], attributes, threads=threads
        )
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance)


def test_max_unpool() -> None:
    x = normal(1, 1, 2, 2)
    where = np.array([[[[5, 7], [13, 15]]]])
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    expected = np.zeros((1, 1, 4, 4), np.float32)
    expected.ravel()[where.ravel()] = x.ravel()
    assert (run_node("MaxUnpool", [x, where], attributes)[0] == expected).all()
    larger = run_node("MaxUnpool", [x, where, np.array([1, 1, 5, 5])], attributes)[0]
    assert (larger == np.pad(expected, [(0, 0), (0, 0), (0, 1), (0, 1)])).all()
    with pytest.raises(InvalidArgument):
        run_node("MaxUnpool", [x, where + 1], attributes)


def test_max_unpool_of_many_channels() -> None:
    x = normal(2, 3, 5, 7)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    where = np.random.default_rng(1).choice(2 * 3 * 10 * 14, x.size, replace=False)
    expected = np.zeros((2, 3, 10, 14), np.float32)
    expected.ravel()[where] = x.ravel()
    [actual] = run_node("MaxUnpool", [x, where.reshape(x.shape)], attributes)
    assert (actual == expected).all()
    shape = np.array([2, 4, 11, 16])
    [actual] = run_node("MaxUnpool", [x, where.reshape(x.shape), shape], attributes)
    assert (actual == np.pad(expected, [(0, 0), (0, 1), (0, 1), (0, 2)])).all()


def test_center_crop_pad() -> None:
    x = normal(5, 4, 3)
    y = run_node("CenterCropPad", [x, np.array([2, 7])], {"axes": [0, -2]})[0]
    assert (y == np.pad(x[1:3], [(0, 0), (1, 2), (0, 0)])).all()


def test_determinant() -> None:
    x = np.random.default_rng(5).normal(size=(2, 3, 6, 6))
    np.testing.assert_allclose(run_node("Det", [x])[0], np.linalg.det(x), rtol=1e-12)
    assert run_node("Det", [np.zeros((2, 2), np.float32)])[0] == 0
    with pytest.raises(InvalidArgument):
        run_node("Det", [normal(2, 3)])
