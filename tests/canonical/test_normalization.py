# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import (
    Array,
    assert_rewritten,
    assert_unchanged_meaning,
    canonical,
    model_of,
    normal,
    op_types,
)


def parameters(*shape: int) -> list[Array]:
    return [normal(*shape), normal(*shape) + 1, normal(*shape) * 2, abs(normal(*shape)) + 1]


def normalized(x: Array, mean: Array, variance: Array, scale: Array, bias: Array) -> Array:
    y = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    return y.astype(np.float32)


@pytest.mark.parametrize("opset, attributes", [(1, {"is_test": 1}), (6, {"is_test": 1}), (7, {})])
def test_inference(opset: int, attributes: dict[str, Any]) -> None:
    x, (scale, bias, mean, variance) = normal(2, 3, 4, 5), parameters(3)
    if opset == 1:
        attributes = {**attributes, "consumed_inputs": [0, 0, 0, 1, 1]}
    columns = [v.reshape(3, 1, 1) for v in (mean, variance, scale, bias)]
    inputs = [x, scale, bias, mean, variance]
    expected = normalized(x, *columns)
    model = assert_rewritten("BatchNormalization", inputs, opset, [expected], **attributes)
    assert "training_mode" not in next(iter(reversed(model.graph))).attributes


def test_inference_keeps_statistics() -> None:
    x, (scale, bias, mean, variance) = normal(2, 3, 4), parameters(3)
    columns = [v.reshape(3, 1) for v in (mean, variance, scale, bias)]
    assert_rewritten(
        "BatchNormalization",
        [x, scale, bias, mean, variance],
        6,
        [normalized(x, *columns), mean, variance, mean, variance],
        outputs=5,
        is_test=1,
    )


@pytest.mark.parametrize("opset", [6, 7, 9])
def test_training(opset: int) -> None:
    x, (scale, bias, mean, variance) = normal(2, 3, 4, 5), parameters(3)
    batch_mean, batch_variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    columns = [v.reshape(3, 1, 1) for v in (batch_mean, batch_variance, scale, bias)]
    expected = [
        normalized(x, *columns),
        mean * np.float32(0.8) + batch_mean * np.float32(0.2),
        variance * np.float32(0.8) + batch_variance * np.float32(0.2),
        batch_mean,
        batch_variance,
    ]
    inputs = [x, scale, bias, mean, variance]
    assert_rewritten("BatchNormalization", inputs, opset, expected, outputs=5, momentum=0.8)
    assert_rewritten("BatchNormalization", inputs, opset, expected[:3], outputs=3, momentum=0.8)


def test_each_activation_for_itself() -> None:
    x, (scale, bias, mean, variance) = normal(2, 3, 4), parameters(3, 4)
    inputs = [x, scale, bias, mean, variance]
    expected = normalized(x, mean, variance, scale, bias)
    assert_rewritten("BatchNormalization", inputs, 7, [expected], spatial=0)
    batch_mean, batch_variance = x.mean(axis=0), x.var(axis=0)
    trained = [
        normalized(x, batch_mean, batch_variance, scale, bias),
        mean * np.float32(0.5) + batch_mean * np.float32(0.5),
        variance * np.float32(0.5) + batch_variance * np.float32(0.5),
        batch_mean,
        batch_variance,
    ]
    assert_rewritten("BatchNormalization", inputs, 7, trained, outputs=5, spatial=0, momentum=0.5)


def test_training_mode_of_opset_14_is_kept() -> None:
    inputs = [normal(2, 3, 4), *parameters(3)]
    assert_unchanged_meaning("BatchNormalization", inputs, 14, outputs=3, training_mode=1)


def test_instance_normalization() -> None:
    x, scale, bias = normal(2, 3, 4), normal(3), normal(3) + 1
    mean, variance = x.mean(axis=2, keepdims=True), x.var(axis=2, keepdims=True)
    expected = normalized(x, mean, variance, scale[:, None], bias[:, None])
    assert_rewritten(
        "InstanceNormalization", [x, scale, bias], 1, [expected], consumed_inputs=[0, 0, 0]
    )


def test_group_normalization() -> None:
    x, scale, bias = normal(2, 6, 4, 5), normal(3), normal(3) + 1
    groups = x.reshape(2, 3, -1)
    mean, variance = groups.mean(axis=2, keepdims=True), groups.var(axis=2, keepdims=True)
    expected = normalized(groups, mean, variance, scale[:, None], bias[:, None]).reshape(x.shape)
    assert_rewritten("GroupNormalization", [x, scale, bias], 18, [expected], num_groups=3)
    assert_rewritten(
        "GroupNormalization",
        [x, np.repeat(scale, 2), np.repeat(bias, 2)],
        21,
        [expected],
        num_groups=3,
    )


def test_group_normalization_that_does_not_divide() -> None:
    with pytest.raises(InvalidGraph, match="cannot be split into 4 groups"):
        x, scale = normal(2, 6, 4), normal(4)
        canonical(model_of("GroupNormalization", [x, scale, scale], 18, num_groups=4))


def test_mean_variance_normalization() -> None:
    x = normal(2, 3, 4, 5)
    model = assert_unchanged_meaning("MeanVarianceNormalization", [x], 9, axes=[0, 2, 3])
    assert "MeanVarianceNormalization" in op_types(model)
