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
