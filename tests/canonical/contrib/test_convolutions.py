# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, normal, operators, session
from .test_products import ACTIVATIONS


def convolution(
    x: Array, w: Array, b: Array | None, stride: int = 1, pad: int = 0, group: int = 1
) -> Array:
    """Channels first, with the same stride and padding along each axis."""
    axes = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(pad, pad)] * axes)
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], tuple(range(2, 2 + axes)))
    windows = windows[(slice(None), slice(None), *[slice(None, None, stride)] * axes)]
    kernel = list(range(2 + axes, 2 + 2 * axes))
    results = [
        np.tensordot(part, weights, ([1, *kernel], [1, *range(2, 2 + axes)]))
        for part, weights in zip(np.split(windows, group, 1), np.split(w, group, 0))
    ]
    y = np.moveaxis(np.concatenate(results, -1), -1, 1)
    return y if b is None else y + b.reshape(1, -1, *[1] * axes)


def first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


def last(x: Array) -> Array:
    return np.moveaxis(x, 1, -1)


SPATIAL = {"one axis": (9,), "two axes": (6, 7), "three axes": (4, 5, 3)}
FUSED = {
    **{name: ACTIVATIONS[name] for name in ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid")},
    "Clip": ({"min": -0.5, "max": 1.0}, lambda x: np.clip(x, -0.5, 1.0)),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", FUSED)
def test_fused_conv(activation: str, residual: bool) -> None:
    parameters, function = FUSED[activation]

    def reference(x: Array, w: Array, b: Array, z: Any = 0) -> Array:
        return function(convolution(x, w, b, pad=1) + z)

    inputs = [normal(2, 3, 6, 7), normal(4, 3, 3, 3), normal(4, seed=1)]
    if residual:
        inputs.append(normal(2, 4, 6, 7, seed=2))
    attributes: dict[str, Any] = {"activation": activation, "pads": [1, 1, 1, 1]}
    if parameters:
        attributes["activation_params"] = list(parameters.values())
    check("FusedConv", reference, inputs, attributes)


@pytest.mark.parametrize("spatial", SPATIAL)
def test_fused_conv_of_axes(spatial: str) -> None:
    sizes = SPATIAL[spatial]
    check(
        "FusedConv",
        lambda x, w: np.maximum(convolution(x, w, None, stride=2), 0),
        [normal(2, 4, *sizes), normal(6, 4, *[2] * len(sizes))],
        {"activation": "Relu", "strides": [2] * len(sizes)},
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("spatial", SPATIAL)
def test_nhwc_conv(spatial: str, group: int, bias: bool) -> None:
    sizes = SPATIAL[spatial]

    def reference(x: Array, w: Array, b: Any = None) -> Array:
        return last(convolution(first(x), first(w), b, stride=2, pad=1, group=group))

    inputs = [normal(2, *sizes, 4), normal(6, *[3] * len(sizes), 4 // group)]
    check(
        "NhwcConv",
        reference,
        inputs + [normal(6, seed=1)] * bias,
        {"group": group, "strides": [2] * len(sizes), "pads": [1] * 2 * len(sizes)},
    )


def test_nhwc_conv_with_weights_of_the_schema() -> None:
    check(
        "NhwcConv",
        lambda x, w: last(convolution(first(x), w, None)),
        [normal(2, 6, 7, 4), normal(6, 4, 3, 3)],
        {"kernel_shape": [3, 3]},
        shapes=["static"],
    )


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", [None, "Relu", "LeakyRelu"])
def test_nhwc_fused_conv(activation: str | None, residual: bool) -> None:
    parameters, function = FUSED.get(activation or "", ({}, lambda x: x))

    def reference(x: Array, w: Array, b: Array, z: Any = 0) -> Array:
        return function(last(convolution(first(x), w, b, pad=1)) + z)

    inputs = [normal(2, 6, 7, 3), normal(4, 3, 3, 3), normal(4, seed=1)]
    if residual:
        inputs.append(normal(2, 6, 7, 4, seed=2))
    attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    if activation is not None:
        attributes["activation"] = activation
    if parameters:
        attributes["activation_params"] = list(parameters.values())
    check("NhwcFusedConv", reference, inputs, attributes)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_nhwc_max_pool(kind: Any) -> None:
    x = np.random.default_rng(5).integers(0, 120, (2, 6, 7, 3)).astype(kind)

    def reference(x: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), (1, 2))
        return windows[:, ::2].max((-1, -2))

    attributes = {"kernel_shape": [2, 3], "strides": [2, 1]}
    check("NhwcMaxPool", reference, [x], attributes, dtypes=[np.float32])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 2, 1]])
def test_conv_transpose_with_dynamic_pads(pads: list[int], bias: bool) -> None:
    def reference(x: Array, w: Array, pads: Array, b: Any = None) -> Array:
        rows, columns = x.shape[2:]
        y = np.zeros((x.shape[0], w.shape[1], 2 * rows + 1, 2 * columns + 1))
        for i, j in np.ndindex(rows, columns):
            part = np.tensordot(x[:, :, i, j], w, 1)
            y[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += part
        y = y[:, :, pads[0] : y.shape[2] - pads[2], pads[1] : y.shape[3] - pads[3]]
        return y if b is None else y + b[:, None, None]

    inputs = [normal(2, 3, 4, 5), normal(3, 2, 3, 3), np.array(pads)]
    check(
        "ConvTransposeWithDynamicPads",
        reference,
        inputs + [normal(2, seed=1)] * bias,
        {"strides": [2, 2]},
    )


def test_is_one_kernel() -> None:
    inputs = [normal(2, 3, 6, 7), normal(4, 3, 3, 3), normal(4), normal(2, 4, 4, 5)]
    model = model_of("FusedConv", inputs, {"activation": "Relu"}, constants=[1, 2])
    assert "bascule.Conv" in operators(session(model))
    assert not {"Conv", "Add", "Relu"} & set(operators(session(model)))
    inputs = [normal(2, 6, 7, 3), normal(4, 3, 3, 3), normal(4), normal(2, 4, 5, 4)]
    model = model_of("NhwcFusedConv", inputs, {"activation": "Relu"}, constants=[1, 2])
    assert operators(session(model)) == ["bascule.Conv"]


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"activation": "Clip", "activation_params": [1.0]}, "'Clip' takes two parameters, got 1"),
        ({"activation": "Relu", "activation_params": [1.0]}, "'Relu' takes 0 parameters, got 1"),
        ({"strides": 2}, "attribute 'strides' must be a list of integers"),
        ({"strides": [1.5, 2.0]}, "attribute 'strides' must be a list of integers"),
        ({"channels": 2}, "attribute 'channels' is unknown"),
    ],
)
def test_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        session(model_of("FusedConv", [normal(2, 3, 6, 7), normal(4, 3, 3, 3)], attributes))
