# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bascule
from bascule.errors import InvalidGraph

from .comparison import (
    Array,
    assert_rewritten,
    assert_same,
    canonical,
    checked,
    model_of,
    normal,
    op_types,
    run,
)

EMPTY = np.zeros(0, dtype=np.float32)


def nearest(x: Array, scales: list[float]) -> Array:
    """Each coordinate divided by the scale; down where the axis grows, up where it shrinks."""
    for axis, scale in enumerate(scales):
        size = int(np.floor(x.shape[axis] * scale))
        places = np.arange(size, dtype=np.float32) / np.float32(scale)
        places = np.ceil(places) if scale < 1 else np.floor(places)
        x = x.take(places.astype(int).clip(0, x.shape[axis] - 1), axis)
    return x


def linear(x: Array, scales: list[float]) -> Array:
    for axis, scale in enumerate(scales):
        size, last = int(np.floor(x.shape[axis] * scale)), x.shape[axis] - 1
        places = (np.arange(size) / scale).clip(0, last)
        low = np.floor(places).astype(int)
        part = (places - low).reshape(-1, *(1,) * (x.ndim - axis - 1))
        x = x.take(low, axis) * (1 - part) + x.take((low + 1).clip(0, last), axis) * part
    return x.astype(np.float32)


SCALES = [[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.5, 2.25]]
X = normal(1, 2, 4, 5)


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(scales: list[float], mode: str) -> None:
    expected = {"nearest": nearest, "linear": linear}[mode](X, scales)
    assert_rewritten("Upsample", [X], 7, [expected], scales=scales, mode=mode)
    values = np.array(scales, dtype=np.float32)
    assert_rewritten("Upsample", [X, values], 9, [expected], mode=mode)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsample_of_images(mode: str) -> None:
    expected = {"nearest": nearest, "bilinear": linear}[mode](X, SCALES[0])
    assert_rewritten("Upsample", [X], 1, [expected], height_scale=2.0, width_scale=3.0, mode=mode)


def test_upsample_in_unknown_mode() -> None:
    with pytest.raises(InvalidGraph, match="mode 'cubic'"):
        canonical(model_of("Upsample", [X], 7, scales=[1.0] * 4, mode="cubic"))


@pytest.mark.parametrize(
    "scales", [*SCALES, [1.0, 1.0, 0.6, 0.6], [1.0, 1.0, 1.5, 0.6], [1.0, 1.0, 0.5, 1.0]]
)
@pytest.mark.parametrize("constants", [(), (1,)])
def test_resize_10(scales: list[float], constants: tuple[int, ...]) -> None:
    values = np.array(scales, dtype=np.float32)
    expected = nearest(X, scales)
    model = assert_rewritten("Resize", [X, values], 10, [expected], constants=constants)
    mixed = not constants or (min(scales) < 1 < max(scales))
    assert op_types(model).count("Resize") == 1 + mixed
    expected = linear(X, scales)
    assert_rewritten("Resize", [X, values], 10, [expected], constants=constants, mode="linear")


def test_resize_11_with_empty_inputs() -> None:
    scales = np.array([1, 1, 2, 2], dtype=np.float32)
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    expected = nearest(X, scales.tolist())
    assert_rewritten("Resize", [X, EMPTY, scales], 11, [expected], **options)
    sizes = np.array([1, 2, 8, 10])
    model = assert_rewritten("Resize", [X, EMPTY, EMPTY, sizes], 11, [expected], **options)
    assert next(iter(reversed(model.graph))).inputs[1:3] == [None, None]


@pytest.mark.parametrize("nearest_mode", ["floor", "round_prefer_floor"])
@pytest.mark.parametrize("scale", [2.0, 3.0, 0.5, 1.6])
def test_resize_11_tf_half_pixel(nearest_mode: str, scale: float) -> None:
    scales = np.array([1, scale], dtype=np.float32)
    x = normal(2, 10)
    places = (np.arange(int(10 * scale)) + 0.5) / scale
    places = np.floor(places) if nearest_mode == "floor" else np.ceil(places - 0.5)
    rows = [0, 1]  # 0.5 and 1.5, rounded down either way
    expected = x[rows][:, places.astype(int).clip(0, 9)]
    assert_rewritten(
        "Resize",
        [x, EMPTY, scales],
        11,
        [expected],
        coordinate_transformation_mode="tf_half_pixel_for_nn",
        nearest_mode=nearest_mode,
    )


def test_resize_11_tf_half_pixel_otherwise() -> None:
    scales = np.array([1, 2], dtype=np.float32)
    proto = model_of(
        "Resize",
        [normal(2, 5), EMPTY, scales],
        11,
        mode="linear",
        coordinate_transformation_mode="tf_half_pixel_for_nn",
    )
    with pytest.raises(InvalidGraph, match="tf_half_pixel_for_nn"):
        canonical(proto)


def test_resize_11_crop() -> None:
    roi = np.array([0, 0, 0.25, 0.2, 1, 1, 0.75, 0.9], dtype=np.float32)
    sizes = np.array([1, 2, 3, 3])
    inputs = [X, roi, EMPTY, sizes]
    options = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}
    newest = run(model_of("Resize", [X, roi, None, sizes], 19, **options), inputs)
    model = canonical(model_of("Resize", inputs, 11, **options))
    assert_same(run(checked(model), inputs), newest)


@pytest.mark.parametrize("axes", [None, [3, 2]])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_19_align_corners_by_scales_that_are_fed(mode: str, axes: list[int] | None) -> None:
    options: dict[str, Any] = {"coordinate_transformation_mode": "align_corners", "mode": mode}
    if axes is not None:
        options["axes"] = axes
    for lengths in ((4.0, 5.0), (5.2, 11.7), (1.0, 1.9)):
        scales = np.array([1, 1, lengths[0] / 4, lengths[1] / 5], dtype=np.float32)
        inputs = [X, None, scales if axes is None else scales[axes]]
        proto = model_of("Resize", inputs, 19, **options)
        model = canonical(proto)
        checked(model)
        node = next(iter(reversed(model.graph)))
        assert node.attributes["coordinate_transformation_mode"] == "tf_crop_and_resize"
        # By the kernels: onnx's reference crops to the fractional length, too.
        session = bascule.InferenceSession(proto.SerializeToString())
        actual = session.run(None, {"in0": X, "in2": inputs[2]})[0]
        np.testing.assert_allclose(actual, run(proto, inputs)[0], 1e-5, 1e-5)


def test_resize_19_align_corners_otherwise() -> None:
    options = {"coordinate_transformation_mode": "align_corners", "mode": "linear"}
    scales = np.array([1, 1, 1.3, 2.3], dtype=np.float32)
    sizes = np.array([1, 2, 5, 11])
    for proto in (
        model_of("Resize", [X, None, scales], 19, constants=(2,), **options),
        model_of("Resize", [X, None, scales], 19, known_shapes=False, **options),
        model_of("Resize", [X, None, None, sizes], 19, **options),
        model_of("Resize", [X, EMPTY, scales], 11, **options),
        model_of("Resize", [X, None, scales], 18, **options),
    ):
        node = next(iter(reversed(canonical(proto).graph)))
        assert node.attributes["coordinate_transformation_mode"] == "align_corners"
