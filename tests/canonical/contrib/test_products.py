# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, normal, operators, session
from .test_activations import tanh_gelu

ACTIVATIONS: dict[str, tuple[dict[str, float], Any]] = {
    "Relu": ({}, lambda x: np.maximum(x, 0)),
    "Sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": ({}, np.tanh),
    "Softplus": ({}, lambda x: np.log1p(np.exp(x))),
    "Softsign": ({}, lambda x: x / (1 + np.abs(x))),
    "LeakyRelu": ({"alpha": 0.2}, lambda x: np.where(x < 0, 0.2 * x, x)),
    "Elu": ({"alpha": 0.7}, lambda x: np.where(x < 0, 0.7 * np.expm1(x), x)),
    "ThresholdedRelu": ({"alpha": 0.3}, lambda x: np.where(x > 0.3, x, 0)),
    "HardSigmoid": ({"alpha": 0.3, "beta": 0.4}, lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
    "Selu": (
        {"alpha": 1.5, "gamma": 1.1},
        lambda x: 1.1 * np.where(x < 0, 1.5 * np.expm1(x), x),
    ),
}


def arranged(x: Array, trans: int, batch: int) -> Array:
    """What is stored so, as a stack of matrices."""
    if batch:
        x = np.moveaxis(x, 0, -2)
    return x.swapaxes(-1, -2) if trans and x.ndim > 1 else x


def stored(x: Array, trans: int, batch: int) -> Array:
    """The reverse."""
    if trans:
        x = x.swapaxes(-1, -2)
    return np.ascontiguousarray(np.moveaxis(x, -2, 0) if batch else x)


def check_fused_matmul(shape: tuple[int, ...], **flags: int) -> None:
    a_flags = flags.get("transA", 0), flags.get("transBatchA", 0)
    b_flags = flags.get("transB", 0), flags.get("transBatchB", 0)

    def reference(a: Array, b: Array) -> Array:
        return 0.5 * (arranged(a, *a_flags) @ arranged(b, *b_flags))

    a = stored(normal(*shape), *a_flags)
    b = stored(normal(*shape[:-2], 4, 6), *b_flags)
    check("FusedMatMul", reference, [a, b], {"alpha": 0.5, **flags})


@pytest.mark.parametrize("b_trans", [0, 1])
@pytest.mark.parametrize("a_trans", [0, 1])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 5, 3, 4), (2, 0, 4)])
def test_fused_matmul(shape: tuple[int, ...], a_trans: int, b_trans: int) -> None:
    check_fused_matmul(shape, transA=a_trans, transB=b_trans)


@pytest.mark.parametrize("batch", [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("b_trans", [0, 1])
@pytest.mark.parametrize("a_trans", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 5, 3, 4)])
def test_fused_matmul_of_batches_inside(
    shape: tuple[int, ...], a_trans: int, b_trans: int, batch: tuple[int, int]
) -> None:
    flags = {"transBatchA": batch[0], "transBatchB": batch[1]}
    check_fused_matmul(shape, transA=a_trans, transB=b_trans, **flags)


@pytest.mark.parametrize(
    "a, b", [((4,), (4, 6)), ((3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 6)), ((4,), (4,))]
)
@pytest.mark.parametrize("alpha", [1.0, -2.0])
def test_fused_matmul_broadcasts(a: tuple[int, ...], b: tuple[int, ...], alpha: float) -> None:
    def reference(x: Array, y: Array) -> Array:
        return np.asarray(alpha * (x @ y))

    check("FusedMatMul", reference, [normal(*a), normal(*b)], {"alpha": alpha})


def test_fused_matmul_with_weights() -> None:
    inputs = [normal(2, 3, 4), normal(6, 4)]
    attributes = {"transB": 1, "alpha": 0.25}
    check("FusedMatMul", lambda a, b: 0.25 * (a @ b.T), inputs, attributes, constants=[1])


def test_fused_matmul_in_double() -> None:
    a, b = normal(2, 3, 4, dtype=np.float64), normal(6, 4, dtype=np.float64)
    model = model_of("FusedMatMul", [a, b], {"transB": 1, "alpha": 0.25})
    (found,) = session(model).run(None, {"in0": a, "in1": b})
    np.testing.assert_allclose(found, 0.25 * (a @ b.T), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("flags", [{}, {"transA": 1}, {"transB": 1}])
def test_transpose_matmul(flags: dict[str, int]) -> None:
    a = stored(normal(2, 3, 4), flags.get("transA", 0), 0)
    b = stored(normal(2, 4, 6), flags.get("transB", 0), 0)

    def reference(a: Array, b: Array) -> Array:
        return 2 * (arranged(a, flags.get("transA", 0), 0) @ arranged(b, flags.get("transB", 0), 0))

    check("TransposeMatMul", reference, [a, b], {"alpha": 2.0, **flags})


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fused_gemm(activation: str) -> None:
    parameters, function = ACTIVATIONS[activation]
    attributes = {f"activation_{name}": value for name, value in parameters.items()}

    def reference(a: Array, b: Array, c: Array) -> Array:
        return function(0.5 * (a.T @ b.T) + 2 * c)

    check(
        "FusedGemm",
        reference,
        [normal(4, 3), normal(6, 4), normal(6, seed=2)],
        {"activation": activation, "alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}
        | attributes,
    )


def test_fused_gemm_without_addend() -> None:
    check(
        "FusedGemm",
        lambda a, b: np.maximum(a @ b, 0),
        [normal(3, 4), normal(4, 6)],
        {"activation": "Relu"},
    )


@pytest.mark.parametrize("activation", ["Relu", "HardSigmoid"])
def test_fused_matmul_activation(activation: str) -> None:
    parameters, function = ACTIVATIONS[activation]
    check(
        "FusedMatMulActivation",
        lambda a, b: function(0.5 * (a @ b.swapaxes(-1, -2))),
        [normal(2, 3, 4), normal(2, 6, 4)],
        {"activation": activation, "alpha": 0.5, "transB": 1}
        | {f"activation_{name}": value for name, value in parameters.items()},
    )


@pytest.mark.parametrize("bias", [False, True])
def test_gemm_fast_gelu(bias: bool) -> None:
    inputs = [normal(2, 3, 4), normal(4, 6)] + [normal(6, seed=1)] * bias
    check("GemmFastGelu", lambda x, w, b=0: tanh_gelu(x @ w + b), inputs)


def test_is_one_kernel() -> None:
    flags = {"transA": 1, "transB": 1, "alpha": 0.5}
    model = model_of("FusedMatMul", [normal(2, 4, 3), normal(2, 6, 4)], flags)
    assert operators(session(model)) == ["bascule.MatMul"]
    attributes = {"activation": "Relu", "transB": 1}
    inputs = [normal(3, 4), normal(6, 4), normal(6)]
    model = model_of("FusedGemm", inputs, attributes, constants=[1, 2])
    assert operators(session(model)) == ["bascule.MatMul"]


@pytest.mark.parametrize(
    "op_type, attributes, message",
    [
        ("FusedMatMul", {"transC": 1}, "attribute 'transC' is unknown"),
        ("FusedMatMul", {"alpha": 1}, "attribute 'alpha' must be a float"),
        ("FusedGemm", {"activation": "Sine"}, "activation 'Sine' is unknown"),
        ("FusedMatMulActivation", {}, "required attribute 'activation' is missing"),
    ],
)
def test_is_refused(op_type: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message) as caught:
        session(model_of(op_type, [normal(3, 4), normal(4, 6)], attributes))
    assert f"com.microsoft.{op_type}" in str(caught.value) and "node" in str(caught.value)


def test_missing_operand_is_refused() -> None:
    with pytest.raises(InvalidGraph, match="input 'B' is missing"):
        session(model_of("FusedMatMul", [normal(3, 4)]))
