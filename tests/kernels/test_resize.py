# SPDX-License-Identifier: Apache-2.0
"""Resize against onnx's reference implementation, which computes in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

import bascule
from bascule.errors import Fail, InvalidArgument
from tests.support.native import run_node

COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
]


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def reference(inputs: list[np.ndarray | None], attributes: dict[str, Any]) -> np.ndarray:
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(inputs)]
    node = onnx.helper.make_node("Resize", names, ["y"], **attributes)
    feeds = {n: a for n, a in zip(names, inputs) if a is not None}
    values = [
        onnx.helper.make_tensor_value_info(
            n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
        )
        for n, a in feeds.items()
    ]
    y = onnx.helper.make_empty_tensor_value_info("y")
    graph = onnx.helper.make_graph([node], "g", values, [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    result: np.ndarray = ReferenceEvaluator(model).run(None, feeds)[0]
    return result


def lengths(shape: tuple[int, ...], factors: np.ndarray) -> np.ndarray:
    """Those that scales give: the float32 products rounded down."""
    return np.floor(np.array(shape, np.float32) * factors.astype(np.float32)).astype(np.int64)


def check(inputs: list[np.ndarray | None], attributes: dict[str, Any], tol: float = 4e-6) -> None:
    given = inputs
    x, factors = inputs[0], inputs[2]
    is_aligned = attributes.get("coordinate_transformation_mode") == "align_corners"
    if is_aligned and x is not None and factors is not None:
        # The reference takes the fractional length, the standard's text that of the output.
        given = [x, None, None, lengths(x.shape, factors)]
    expected = reference(given, attributes)
    for threads in (1, 2):
        y = run_node("Resize", inputs, attributes, threads=threads, runs=threads)[0]
        assert y.dtype == expected.dtype
        assert y.shape == expected.shape
        np.testing.assert_allclose(y.astype(np.float64), expected.astype(np.float64), tol, tol)


def sizes(*values: int) -> list[Any]:
    return [None, None, np.array(values, np.int64)]


def scales(*values: float) -> list[Any]:
    return [None, np.array(values, np.float32)]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("factors", [(2.0, 2.0), (1.7, 0.6), (0.45, 3.0), (0.6, 0.3)])
def test_scales(coordinates: str, mode: str, factors: tuple[float, float]) -> None:
    attributes = {"coordinate_transformation_mode": coordinates, "mode": mode}
    # No place is about halfway between two elements, where the reference goes by its last bit.
    check([normal(1, 3, 10, 25), *scales(1, 1, *factors)], attributes, 2e-5)
    # The last axis stays: interpolation of runs.
    check([normal(1, 10, 25, 5), *scales(1, *factors, 1)], attributes, 2e-5)


def test_lengths_by_scales_are_float32_products() -> None:
    factors = [0.1, 0.7, 0.9, 1.1, 1.3, 2.2, *np.random.default_rng(5).uniform(0.1, 3, 40)]
    for n in (1, 10, 20, 30, 49):
        for factor in np.array(factors, np.float32):
            x = normal(2, n)
            y = run_node("Resize", [x, None, np.array([1, factor], np.float32)])[0]
            assert y.shape == (2, int(np.float32(n) * factor))
    x = normal(2, 10)
    assert run_node("Resize", [x, *scales(1, 0.7)])[0].shape == (2, 7)
    # float32 does not hold every length.
    long = np.zeros((1 << 24) + 1, np.int8)
    assert run_node("Resize", [long[:, None], *scales(1, 2)])[0].shape == (len(long), 2)


@pytest.mark.parametrize("size", ["10", "N"])
@pytest.mark.parametrize("node", ["Resize(x, , s)", "Upsample(x, s)"])
def test_lengths_by_scales_in_a_model(node: str, size: str) -> None:
    opset, factor = (19, 0.7) if node.startswith("Resize") else (9, 1.3)
    length = int(np.float32(10) * np.float32(factor))
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g (float[1,{size}] x, float[1,{length}] z) '
        f"=> (float[1,L] y, int64[2] n) <float[2] s = {{1, {factor}}}> "
        f"{{ r = {node} y = Add(r, z) n = Shape(r) }}"
    )
    x, z = normal(1, 10), normal(1, length, seed=1)
    for level in bascule.GraphOptimizationLevel:
        options = bascule.SessionOptions()
        options.graph_optimization_level = level
        session = bascule.InferenceSession(model.SerializeToString(), options)
        for _ in range(2):
            y, n = session.run(None, {"x": x, "z": z})
            assert y.shape == (1, length)
            assert n.tolist() == [1, length]


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.5, 1.9])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_align_corners_by_scales_ends_in_the_last_element(mode: str, factor: float) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": "align_corners"}
    for n in (7, 11, 23):
        x = normal(3, n)
        y = run_node("Resize", [x, *scales(1, factor)], attributes)[0]
        np.testing.assert_allclose(y[:, [0, -1]], x[:, [0, -1]], 1e-6, 1e-6)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_a_single_element_of_pytorch_half_pixel(mode: str) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": "pytorch_half_pixel"}
    x = normal(3, 6)
    y = run_node("Resize", [x, *scales(1, 0.3)], attributes)[0]
    np.testing.assert_allclose(y, x[:, :1], 1e-6, 1e-6)


def test_nearest_by_scales_divides_in_float32() -> None:
    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    factors = [0.6, 1 / 3, 0.1, 1.7, 3.3, *np.random.default_rng(6).uniform(0.1, 4, 20)]
    for factor in np.array(factors, np.float32):
        x = np.arange(300, dtype=np.float32)
        y = run_node("Resize", [x, None, factor[None]], attributes)[0]
        places = np.arange(len(y), dtype=np.float32) / factor
        assert np.array_equal(y, np.floor(places).clip(0, 299))


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil"])
def test_nearest_by_scales_halfway(nearest: str) -> None:
    """Though 4.5 / 0.3 is not quite 15 in float32, its place is between elements 14 and 15."""
    y = run_node("Resize", [np.arange(20), *scales(0.3)], {"nearest_mode": nearest})[0]
    places = (2 * np.arange(6) + 1) * 10  # by 6
    expected = places // 6 if nearest == "round_prefer_ceil" else -(-places // 6) - 1
    assert np.array_equal(y, expected)


def test_nearest_by_sizes_is_exact() -> None:
    asymmetric = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    half_pixel = {"nearest_mode": "round_prefer_ceil"}
    for n in (1, 3, 7, 10, 49, 300):
        x = np.arange(n)
        for size in (1, 3, 6, 14, 41, 90, 147):
            o = np.arange(size)
            y = run_node("Resize", [x, *sizes(size)], asymmetric)[0]
            assert np.array_equal(y, o * n // size)
            y = run_node("Resize", [x, *sizes(size)], half_pixel)[0]
            assert np.array_equal(y, (2 * o + 1) * n // (2 * size))


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("size", [(1, 2, 20, 6), (1, 2, 5, 12), (1, 2, 10, 9)])
def test_nearest(nearest: str, coordinates: str, size: tuple[int, ...]) -> None:
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    check([normal(1, 2, 10, 9), *sizes(*size)], attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("outside", [0, 1])
@pytest.mark.parametrize("size", [(7, 40), (30, 9), (5, 5)])
def test_antialias(mode: str, outside: int, size: tuple[int, int]) -> None:
    attributes = {"mode": mode, "antialias": 1, "exclude_outside": outside}
    check([normal(2, 18, 21), *sizes(2, *size)], attributes, 2e-5)


def test_cubic_coefficient_and_outside() -> None:
    attributes = {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}
    check([normal(9, 10), *sizes(20, 5)], attributes, 2e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("axes", [[1, 2], [2], [-1, 0]])
def test_axes(mode: str, axes: list[int]) -> None:
    size = np.array([7, 9][: len(axes)], np.int64)
    x = normal(4, 5, 6)
    expected_shape = list(x.shape)
    for axis, n in zip(axes, size):
        expected_shape[axis] = n
    y = run_node("Resize", [x, None, None, size], {"mode": mode, "axes": axes})[0]
    expected = reference([x, None, None, np.array(expected_shape, np.int64)], {"mode": mode})
    np.testing.assert_allclose(y, expected, 1e-5, 1e-5)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_aspect(policy: str) -> None:
    attributes = {"mode": "linear", "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    check([normal(1, 2, 7, 5), *sizes(12, 11)], attributes)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("region", [(0.21, 0.32, 0.68, 0.9), (-0.3, 0.4, 0.8, 1.4)])
def test_region(mode: str, region: tuple[float, ...]) -> None:
    roi = np.array([0, 0, *region[:2], 1, 1, *region[2:]], np.float32)
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.0,
    }
    check([normal(1, 2, 9, 8), roi, *sizes(1, 2, 6, 19)[1:]], attributes, 2e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.int8, np.int32])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_types(dtype: Any, mode: str) -> None:
    x = (normal(2, 9, 9) * 60 + 60).clip(0, 120).astype(dtype)
    tolerance = 2e-3 if dtype == np.float16 else 2e-5
    check([x, *sizes(2, 14, 6)], {"mode": mode}, tolerance)


def test_elements_of_other_types_are_copied() -> None:
    x = normal(3, 4) > 0
    y = run_node("Resize", [x, *sizes(6, 8)])[0]
    assert np.array_equal(y, x.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("channels", [1, 3, 16, 33])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_channels_last(channels: int, mode: str) -> None:
    x = normal(2, 8, 7, channels)
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    y = run_node("Resize", [x, *scales(1, 2, 2, 1)], {"mode": mode})[0]
    expected = run_node("Resize", [first, *scales(1, 1, 2, 2)], {"mode": mode})[0]
    np.testing.assert_allclose(np.moveaxis(y, -1, 1), expected, 1e-6, 1e-6)


def test_errors() -> None:
    x = normal(2, 3)
    with pytest.raises(Fail, match="sizes has 1 elements"):
        run_node("Resize", [x, *sizes(3)])
    with pytest.raises(InvalidArgument, match="scale of axis 1"):
        run_node("Resize", [x, *scales(1, -1)])
    with pytest.raises(Fail, match="empty"):
        run_node("Resize", [x[:0], *sizes(3, 3)])
    assert run_node("Resize", [x, *sizes(0, 3)])[0].shape == (0, 3)


@pytest.mark.parametrize("channels", [1, 5, 24, 80])
@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "linear"},
        {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
        {"mode": "linear", "antialias": 1},
    ],
)
def test_sum_of_resized_images(channels: int, attributes: dict[str, Any]) -> None:
    shapes = [(4, 3), (9, 14), (9, 2), (2, 14), (20, 30)]
    images = [normal(2, *shape, channels, seed=i) for i, shape in enumerate(shapes)]
    target = (2, 9, 14, channels)
    single = [
        np.moveaxis(
            reference(
                [np.moveaxis(image, 3, 1), *sizes(2, channels, 9, 14)],
                {**attributes, "axes": [0, 1, 2, 3]},
            ),
            1,
            3,
        )
        for image in images
    ]
    expected = np.sum(single, axis=0, dtype=np.float64)
    given = {**attributes, "sizes": list(target)}
    results = [
        run_node("ResizeSum", images, given, domain="bascule", threads=threads, runs=2)[0]
        for threads in (1, 2, 5)
    ]
    np.testing.assert_allclose(results[0], expected, 2e-5, 2e-5)
    for result in results[1:]:
        assert np.array_equal(result, results[0])


def test_sum_of_images_that_do_not_fit_is_refused() -> None:
    x, z = normal(1, 2, 3, 4), normal(1, 2, 3, 5)
    given = {"mode": "linear", "sizes": [1, 4, 6, 4]}
    with pytest.raises(Fail, match="to be resized"):
        run_node("ResizeSum", [x, z], given, domain="bascule")
    with pytest.raises(Fail, match="to be resized"):
        run_node("ResizeSum", [x, x[:, :0]], given, domain="bascule")
    for bad in ({"sizes": [1, 4, 6]}, {"sizes": [1, -4, 6, 4]}, {"mode": "nearest"}):
        with pytest.raises(InvalidArgument, match=r"sizes|whole"):
            run_node("ResizeSum", [x], {**given, **bad}, domain="bascule")
    assert (
        run_node("ResizeSum", [x], {**given, "sizes": [1, 0, 6, 4]}, domain="bascule")[0].size == 0
    )
