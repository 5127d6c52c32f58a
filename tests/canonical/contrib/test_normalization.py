# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .comparison import Array, check, model_of, normal, operators, session


def _layer_norm(x: Array, scale: Array, bias: Any, epsilon: float) -> tuple[Array, Array, Array]:
    mean = x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + epsilon)
    return (x - mean) * inverse * scale + (0 if bias is None else bias), mean, inverse


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("skip", [(2, 3, 8), (1, 3, 8), (3, 8)])
def test_skip_layer_normalization(skip: tuple[int, ...], beta: bool, bias: bool) -> None:
    def reference(x: Array, s: Array, gamma: Array, beta: Any = None, bias: Any = None) -> Any:
        total = x + s + (0 if bias is None else bias)
        return [_layer_norm(total, gamma, beta, 1e-3)[0], None, None, total]

    check(
        "SkipLayerNormalization",
        reference,
        [
            normal(2, 3, 8),
            normal(*skip, seed=1),
            normal(8),
            normal(8, seed=2) if beta else None,
            normal(8, seed=3) if bias else None,
        ],
        {"epsilon": 1e-3},
    )


def test_skip_layer_normalization_shows_mean_and_deviation() -> None:
    def reference(x: Array, s: Array, gamma: Array) -> Any:
        return _layer_norm(x + s, gamma, None, 1e-12)

    inputs = [normal(2, 3, 8), normal(2, 3, 8, seed=1), normal(8)]
    check("SkipLayerNormalization", reference, inputs, elsewhere=False, dtypes=[np.float32])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 8), (4, 8)])
def test_skip_simplified_layer_normalization(shape: tuple[int, ...], bias: bool) -> None:
    def reference(x: Array, s: Array, gamma: Array, bias: Any = None) -> Any:
        total = x + s + (0 if bias is None else bias)
        inverse = 1 / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-5)
        return [total * inverse * gamma, None, None, total]

    inputs = [normal(*shape), normal(*shape, seed=1), normal(8), normal(8) if bias else None]
    check("SkipSimplifiedLayerNormalization", reference, inputs, {"epsilon": 1e-5})


def test_simplified_layer_normalization_shows_mean_and_deviation() -> None:
    def reference(x: Array, s: Array, gamma: Array) -> Any:
        total = x + s
        inverse = 1 / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-12)
        return [total * inverse * gamma, total.mean(-1, keepdims=True), inverse, total]

    inputs = [normal(2, 8), normal(2, 8, seed=1), normal(8)]
    check(
        "SkipSimplifiedLayerNormalization",
        reference,
        inputs,
        elsewhere=False,
        dtypes=[np.float32],
    )


@pytest.mark.parametrize(
    "op_type, fused",
    [
        ("SkipLayerNormalization", "bascule.SkipLayerNormalization"),
        ("SkipSimplifiedLayerNormalization", "bascule.SkipRMSNormalization"),
    ],
)
def test_is_one_kernel(op_type: str, fused: str) -> None:
    inputs = [normal(2, 3, 8), normal(2, 3, 8, seed=1), normal(8)]
    model = model_of(op_type, inputs, outputs=4, left_out=[1, 2])
    assert operators(session(model)) == [fused]


def _group_norm(x: Array, gamma: Array, beta: Array, groups: int, activation: int) -> Array:
    """Channels first."""
    split = x.reshape(x.shape[0], groups, -1)
    mean = split.mean(-1, keepdims=True)
    deviation = np.sqrt(split.var(-1, keepdims=True) + 1e-3)
    column = (-1, *[1] * (x.ndim - 2))
    y = ((split - mean) / deviation).reshape(x.shape) * gamma.reshape(column)
    y = y + beta.reshape(column)
    return y / (1 + np.exp(-y)) if activation else y


@pytest.mark.parametrize("activation", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm(groups: int, last: int, activation: int) -> None:
    def reference(x: Array, gamma: Array, beta: Array) -> Array:
        x = np.moveaxis(x, -1, 1) if last else x
        y = _group_norm(x, gamma, beta, groups, activation)
        return np.moveaxis(y, 1, -1) if last else y

    inputs = [normal(2, 4, 5, 8) if last else normal(2, 8, 4, 5), normal(8), normal(8, seed=1)]
    attributes = {"groups": groups, "activation": activation, "epsilon": 1e-3}
    check("GroupNorm", reference, inputs, {**attributes, "channels_last": last})


def test_group_norm_with_wider_weights() -> None:
    x, gamma, beta = normal(2, 4, 5, 8, dtype=np.float16), normal(8), normal(8, seed=1)
    attributes = {"groups": 2, "activation": 1, "epsilon": 1e-3}
    model = model_of("GroupNorm", [x, gamma, beta], attributes)
    (found,) = session(model).run(None, {"in0": x, "in1": gamma, "in2": beta})
    expected = _group_norm(np.moveaxis(x.astype(np.float64), -1, 1), gamma, beta, 2, 1)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("last", [0, 1])
def test_skip_group_norm(last: int, whole: bool, bias: bool) -> None:
    shape = (2, 4, 5, 8) if last else (2, 8, 4, 5)

    def reference(x: Array, gamma: Array, beta: Array, skip: Array, bias: Any = 0.0) -> Any:
        x = np.moveaxis(x, -1, 1) if last else x
        if skip.ndim == 2:
            skip = skip[:, :, None, None]
        elif last:
            skip = np.moveaxis(skip, -1, 1)
        total = x + skip + (bias if isinstance(bias, float) else bias[:, None, None])
        found = [_group_norm(total, gamma, beta, 2, 1), total]
        return [np.moveaxis(each, 1, -1) if last else each for each in found]

    inputs = [normal(*shape), normal(8), normal(8, seed=1)]
    inputs.append(normal(*shape, seed=2) if whole else normal(2, 8, seed=2))
    attributes = {"groups": 2, "activation": 1, "epsilon": 1e-3, "channels_last": last}
    check("SkipGroupNorm", reference, inputs + [normal(8, seed=3)] * bias, attributes)


def test_skip_group_norm_with_one_pixel() -> None:
    def reference(x: Array, gamma: Array, beta: Array, skip: Array) -> Any:
        total = x + skip
        y = _group_norm(np.moveaxis(total, -1, 1), gamma, beta, 2, 0)
        return [np.moveaxis(y, 1, -1), total]

    inputs = [normal(2, 4, 5, 8), normal(8), normal(8, seed=1), normal(2, 1, 1, 8, seed=2)]
    check("SkipGroupNorm", reference, inputs, {"groups": 2, "activation": 0, "epsilon": 1e-3})
