# SPDX-License-Identifier: Apache-2.0
"""Several products with packed weights in one operator, which no CPU elsewhere runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.kernels.test_matmul_nbits import Case
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, feeds_of, model_of, normal, operators, session


def norm(x: Array, scale: Array, epsilon: float) -> Array:
    found: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * scale
    return found


def run(
    op_type: str, inputs: list[Any], attributes: dict[str, Any], expected: list[Array], tol: float
) -> None:
    feeds = feeds_of(inputs)
    for shapes in ("static", "symbolic", "unknown"):
        if shapes == "unknown" and op_type == "MatMulNBitsQLoRA":
            continue
        model = model_of(op_type, inputs, attributes, len(expected), shapes)
        found = [session(model).run(None, feeds)]
        if shapes == "static":
            found.append(EmulatedSession(model.SerializeToString()).run(None, feeds))
        for outputs in found:
            for array, wanted in zip(outputs, expected, strict=True):
                assert array.dtype == inputs[0].dtype
                np.testing.assert_allclose(array.astype(np.float64), wanted, rtol=tol, atol=tol * 8)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scaled, skip", [(False, False), (True, False), (True, True)])
def test_mlp(scaled: bool, bias: bool, skip: bool, dtype: Any) -> None:
    gate, up = Case(64, 48, 4, 32), Case(64, 48, 4, 32)
    up.b = up.b[::-1].copy()
    up.scales, up.weights = up.scales[::-1].copy(), up.weights[::-1].copy()
    x, residual, scale = (normal(*s, seed=k) for k, s in enumerate([(2, 3, 64), (2, 3, 64), (64,)]))
    b1, b2 = normal(48), normal(48, seed=1)
    inputs = [
        *(x, residual if skip else None, scale if scaled else None),
        *(gate.b, gate.scales, b1 if bias else None, up.b, up.scales, b2 if bias else None),
    ]
    inputs = [
        each.astype(dtype) if each is not None and each.dtype == np.float32 else each
        for each in inputs
    ]
    wide = x.astype(np.float64) + (residual if skip else 0)
    rows = norm(wide, scale.astype(np.float64), 1e-3) if scaled else wide
    first = rows @ gate.weights.T + (b1 if bias else 0)
    second = rows @ up.weights.T + (b2 if bias else 0)
    expected = [first / (1 + np.exp(-first)) * second, *([wide] if skip else [])]
    attributes = {**gate.attributes, "activation": "silu", "epsilon": 1e-3}
    run("MatMulNBitsMlp", inputs, attributes, expected, 1e-5 if dtype == np.float32 else 3e-2)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_qkv(bias: bool, skip: bool) -> None:
    cases = [Case(64, n, 4, 32) for n in (48, 16, 16)]
    x, residual, scale = (normal(*s, seed=k) for k, s in enumerate([(2, 3, 64), (2, 3, 64), (64,)]))
    biases = [normal(len(case.b), seed=k) if bias else None for k, case in enumerate(cases)]
    inputs: list[Any] = [x, residual if skip else None, scale]
    for case, own in zip(cases, biases):
        inputs += [case.b, case.scales, own]
    wide = x.astype(np.float64) + (residual if skip else 0)
    rows = norm(wide, scale.astype(np.float64), 1e-6)
    expected = [
        rows @ case.weights.T + (0 if own is None else own) for case, own in zip(cases, biases)
    ]
    expected += [wide] if skip else []
    attributes = {"K": 64, "Nq": 48, "Nkv": 16, "block_size": 32}
    run("MatMulNBitsQkv", inputs, attributes, expected, 1e-5)


@pytest.mark.parametrize("adapter", ["whole", "no down", "no up"])
@pytest.mark.parametrize("rank", [8, 40])
def test_qlora(rank: int, adapter: str) -> None:
    base, down, up = Case(64, 48, 4, 32), Case(64, rank, 8, 16), Case(rank, 48, 8, 16)
    x = normal(2, 3, 64)
    a = down.b[:0] if adapter == "no down" else down.b
    b = up.b[:, :0] if adapter == "no up" else up.b
    expected = x.astype(np.float64) @ base.weights.T
    if adapter == "whole":
        expected = expected + x @ down.weights.T @ up.weights.T
    inputs = [x, base.b, base.scales, a, down.scales, b, up.scales]
    attributes = {"K": 64, "N": 48, "lora_block_size": 16}
    model = model_of("MatMulNBitsQLoRA", inputs, attributes)
    found = [session(model), EmulatedSession(model.SerializeToString())]
    for made in found:
        (y,) = made.run(None, feeds_of(inputs))
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)
    products = {"whole": 3, "no down": 2, "no up": 1}[adapter]
    assert operators(found[0]).count("bascule.MatMulNBits") == products


def test_what_is_refused() -> None:
    case = Case(64, 48, 4, 32)
    x, weights = normal(2, 64), [case.b, case.scales, None, case.b, case.scales, None]
    attributes = {**case.attributes, "activation": "silu"}
    with pytest.raises(InvalidGraph, match="'skip' is there without 'norm_scale'"):
        session(model_of("MatMulNBitsMlp", [x, x, None, *weights], attributes))
    with pytest.raises(NotSupported, match="activation 'relu'"):
        inputs = [x, None, None, *weights]
        session(model_of("MatMulNBitsMlp", inputs, {**attributes, "activation": "relu"}))
    inputs = [x, case.b, case.scales, case.b, case.scales, case.b, case.scales]
    with pytest.raises(NotSupported, match="an adapter whose sizes are not known"):
        session(model_of("MatMulNBitsQLoRA", inputs, {"K": 64, "N": 48}, shapes="unknown"))
