# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported

from .comparison import (
    TOLERANCES,
    Array,
    assert_close,
    check,
    model_of,
    normal,
    run_elsewhere,
    session,
)


def check_all_types(op_type: str, reference: Any, inputs: list[Any], attributes: Any) -> None:
    check(op_type, reference, inputs, attributes)
    # The other runtime takes no arrays of bfloat16.
    check(op_type, reference, inputs, attributes, dtypes=[ml_dtypes.bfloat16], elsewhere=False)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def swish(x: Array, alpha: float = 1.0) -> Array:
    return x * sigmoid(alpha * x)


def normed(x: Array, epsilon: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


@pytest.mark.parametrize("activation", ["silu", "swish", "sigmoid"])
@pytest.mark.parametrize("shape, size", [((2, 3, 8), 8), ((2, 3, 8), 4), ((3, 8), 2), ((8,), 4)])
def test_gated_rms_norm(shape: tuple[int, ...], size: int, activation: str) -> None:
    def reference(x: Array, scale: Array, gate: Array) -> Array:
        y = (normed(x.reshape(-1, size), 1e-3) * scale).reshape(shape)
        return y * (sigmoid(gate) if activation == "sigmoid" else swish(gate))

    check_all_types(
        "GatedRMSNorm",
        reference,
        [normal(*shape), normal(size, seed=1), normal(*shape, seed=2)],
        {"activation": activation, "epsilon": 1e-3},
    )


@pytest.mark.parametrize("scale", [None, (8,), (3, 8), (24,)])
@pytest.mark.parametrize("shape, branches", [((2, 3, 8), 0), ((2, 24), 3), ((24,), 3), ((3, 8), 0)])
def test_branchwise_rms_norm(
    shape: tuple[int, ...], branches: int, scale: tuple[int, ...] | None
) -> None:
    def reference(x: Array, weight: Any = None) -> Array:
        y = normed(x.reshape(-1, 3, 8), 1e-3)
        return (y if weight is None else y * weight.reshape(-1, 8)).reshape(shape)

    inputs = [normal(*shape), *([normal(*scale, seed=1)] if scale else [])]
    attributes = {"epsilon": 1e-3, **({"num_branches": branches} if branches else {})}
    check_all_types("BranchwiseRMSNorm", reference, inputs, attributes)


def mixed(op_type: str, inputs: list[Any], expected: Array, **attributes: Any) -> None:
    """Inputs of several types, of which the first is that of the result."""
    model = model_of(op_type, inputs, attributes, shapes="symbolic")
    feeds = {f"in{index}": x for index, x in enumerate(inputs)}
    [found] = session(model).run(None, feeds)
    assert found.dtype == inputs[0].dtype
    assert_close(found, expected, TOLERANCES[found.dtype], "NumPy")
    for other in run_elsewhere(model, feeds) or ():
        assert_close(found, other, TOLERANCES[found.dtype], "beside the other runtime")


@pytest.mark.parametrize("types", [(np.float16, np.float32), (np.float32, np.float16)])
def test_scales_of_other_types(types: tuple[Any, Any]) -> None:
    x, scale = normal(2, 3, 8).astype(types[0]), normal(3, 8, seed=1).astype(types[1])
    expected = normed(x.astype(np.float64), 1e-5) * scale
    mixed("BranchwiseRMSNorm", [x, scale], expected)
    factor = np.array(1.75, types[1])
    mixed("ScaledSiLU", [x, factor], swish(1.75 * x.astype(np.float64)))


@pytest.mark.parametrize("shape", [(2, 3, 8), (3, 8)])
def test_gated_add(shape: tuple[int, ...]) -> None:
    inputs = [normal(*shape), normal(*shape, seed=1), normal(*shape[:-1], 1, seed=2)]
    check("GatedAdd", lambda x, y, gate: x + y * gate, inputs)


def test_gated_add_of_a_projection() -> None:
    def reference(x: Array, y: Array, gate: Array, weight: Array) -> Array:
        return x + y * sigmoid(gate @ weight)

    inputs = [normal(2, 3, 8), normal(2, 3, 8, seed=1), normal(2, 3, 5, seed=2), normal(5, 1)]
    check("GatedAdd", reference, inputs, dtypes=[ml_dtypes.bfloat16], elsewhere=False)
    with pytest.raises(NotSupported, match=r"GatedAdd.*'gate_weight'.*node"):
        session(model_of("GatedAdd", inputs))


@pytest.mark.parametrize("alpha", [1.0, -1.5])
@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_scaled_silu(shape: tuple[int, ...], alpha: float) -> None:
    inputs = [np.asarray(normal(*shape))]
    check_all_types("ScaledSiLU", lambda x: [swish(alpha * x)], inputs, {"alpha": alpha})


def test_scaled_silu_by_an_input() -> None:
    inputs = [normal(2, 3), np.array(1.5, np.float32)]
    check("ScaledSiLU", lambda x, scale: swish(scale * x), inputs, {"alpha": 3.0})


@pytest.mark.parametrize("rounds", [0, 1])
@pytest.mark.parametrize("limit", [0.0, -1.0, 0.75])
@pytest.mark.parametrize("alpha, beta", [(1.0, 0.0), (1.702, 1.0)])
@pytest.mark.parametrize("halves", [False, True])
def test_swiglu(halves: bool, alpha: float, beta: float, limit: float, rounds: int) -> None:
    def reference(gate: Array, up: Any = None) -> Array:
        if up is None:
            gate, up = np.split(gate, 2, -1)
        if limit > 0:
            gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
        return swish(gate, alpha) * (up + beta)

    check(
        "SwiGLU",
        reference,
        [normal(2, 3, 8), *([] if halves else [normal(2, 3, 8, seed=1)])],
        {
            "activation_alpha": alpha,
            "activation_beta": beta,
            "limit": limit,
            "round_activation": rounds,
        },
        dtypes=[np.float32, np.float16, ml_dtypes.bfloat16],
        elsewhere=False,  # it has no kernel for the processor
    )


@pytest.mark.parametrize("with_norm", [False, True])
def test_engram_gate(with_norm: bool) -> None:
    def reference(k: Array, q: Array, v: Array, a: Array, b: Array, c: Any = None) -> list[Any]:
        dot = (normed(k, 1e-3) * a * normed(q, 1e-3) * b).sum(-1, keepdims=True) / np.sqrt(8)
        gate = sigmoid(np.sign(dot) * np.sqrt(np.maximum(np.abs(dot), 1e-6)))
        y = gate * v[:, :, None]
        return [y, *([] if c is None else [normed(y, 1e-3) * c])]

    inputs = [normal(2, 3, 4, 8), normal(2, 3, 4, 8, seed=1), normal(2, 3, 8)]
    inputs += [normal(4, 8, seed=seed) for seed in range(2 + with_norm)]
    check("EngramGate", reference, inputs, {"epsilon": 1e-3})


X, ROW = normal(2, 3, 8), normal(8)


@pytest.mark.parametrize(
    "op_type, inputs, attributes, outputs, problem",
    [
        ("GatedRMSNorm", [X, ROW, X], {"activation": "relu"}, 1, "'activation' is 'relu'"),
        ("GatedRMSNorm", [X, normal(3), X], {}, 1, "rows of 8 are no multiple of the 3"),
        ("BranchwiseRMSNorm", [ROW], {}, 1, "rank 1 has no branches"),
        ("BranchwiseRMSNorm", [X], {"num_branches": 3}, 1, "rows of 8 are not 3 branches"),
        ("GatedAdd", [X, X, X], {}, 1, "'gate' has 8 numbers"),
        ("ScaledSiLU", [X, ROW], {}, 1, "'scale' has rank 1"),
        ("SwiGLU", [normal(2, 3)], {}, 1, "rows of 3"),
        ("EngramGate", [X] * 5, {}, 1, "'key' has rank 3"),
        ("EngramGate", [X] * 5, {}, 2, "needs input 'conv_norm_scale'"),
    ],
)
def test_refused(
    op_type: str, inputs: list[Any], attributes: dict[str, Any], outputs: int, problem: str
) -> None:
    with pytest.raises(InvalidGraph, match=f"{op_type}.*{problem}.*node"):
        session(model_of(op_type, inputs, attributes, outputs))
