# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import assert_rewritten, canonical, model_of, normal, op_types

X = normal(2, 3, 4, 5)


@pytest.mark.parametrize(
    "op_type, attributes, expected",
    [
        ("Affine", {"alpha": 2.0, "beta": 0.5}, X * 2 + 0.5),
        ("Affine", {}, X),
        ("Scale", {"scale": 3.0}, X * 3),
        (
            "ImageScaler",
            {"scale": 2.0, "bias": [1.0, 2.0, 3.0]},
            X * 2 + np.array([1, 2, 3]).reshape(3, 1, 1),
        ),
        ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}, 2 * np.log1p(np.exp(X * 0.5))),
        ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}, 2 * np.tanh(X * 0.5)),
        ("ThresholdedRelu", {"alpha": 0.5}, np.where(X > 0.5, X, 0)),
        (
            "MeanVarianceNormalization",
            {},
            (X - X.mean((0, 2, 3), keepdims=True)) / X.std((0, 2, 3), keepdims=True),
        ),
        (
            "MeanVarianceNormalization",
            {"across_channels": 1},
            (X - X.mean()) / X.std(),
        ),
        (
            "MeanVarianceNormalization",
            {"normalize_variance": 0},
            X - X.mean((0, 2, 3), keepdims=True),
        ),
        ("MemcpyFromHost", {}, X),
        ("MemcpyToHost", {}, X),
        ("Crop", {"border": [1, 0, 2, 1]}, X[:, :, 0:-1, 1:-2]),
        ("Crop", {"border": [0, 0, 0, 0]}, X),
        ("Crop", {"border": [1, 2, 0, 0], "scale": [2, 3]}, X[:, :, 2:4, 1:4]),
    ],
)
def test_of_one_input(op_type: str, attributes: dict[str, Any], expected: Any) -> None:
    assert_rewritten(op_type, [X], 6, [expected.astype(np.float32)], **attributes)


def test_crop_without_border() -> None:
    with pytest.raises(InvalidGraph, match="'border'"):
        canonical(model_of("Crop", [X], 1, border=[1]))


def test_dynamic_slice() -> None:
    bounds = [np.array([1, 0]), np.array([3, 2]), np.array([1, 2])]
    assert_rewritten("DynamicSlice", [X, *bounds], 6, [X[:, 1:3, 0:2]])


def test_constant_fill() -> None:
    like = normal(2, 3)
    assert_rewritten(
        "ConstantFill", [like], 6, [np.full((2, 3, 4), 1.5, np.float32)], value=1.5, extra_shape=[4]
    )
    assert_rewritten("ConstantFill", [], 6, [np.full((2, 2), 3)], value=3.0, dtype=7, shape=[2, 2])
    shape = np.array([2, 4])
    expected = [np.zeros((2, 4), np.float32)]
    assert_rewritten("ConstantFill", [shape], 6, expected, input_as_shape=1)


def test_given_tensor_fill() -> None:
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    values = [float(value) for value in range(6)]
    assert_rewritten("GivenTensorFill", [], 6, [expected], values=values, shape=[2, 3])


@pytest.mark.parametrize("axis", [-1, 1])
def test_simplified_layer_normalization(axis: int) -> None:
    x = normal(2, 3, 4)
    scale = abs(normal(*x.shape[axis:])) + np.float32(0.5)
    axes = tuple(range(axis, 0)) if axis < 0 else tuple(range(axis, 3))
    inverse = 1 / np.sqrt((x * x).mean(axes, keepdims=True) + np.float32(1e-5))
    expected = [(x * inverse * scale).astype(np.float32), inverse.astype(np.float32)]
    model = assert_rewritten(
        "SimplifiedLayerNormalization", [x, scale], 12, expected, outputs=2, axis=axis
    )
    assert op_types(model)[-1] == "RMSNormalization"


def test_layer_normalization_before_its_opset() -> None:
    x, scale = normal(2, 3, 4), normal(4)
    mean, deviation = x.mean(2, keepdims=True), np.sqrt(x.var(2, keepdims=True) + 1e-5)
    expected = ((x - mean) / deviation * scale).astype(np.float32)
    assert_rewritten("LayerNormalization", [x, scale], 12, [expected], epsilon=1e-5)
