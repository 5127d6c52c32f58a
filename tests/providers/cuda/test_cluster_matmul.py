# SPDX-License-Identifier: Apache-2.0
"""Products with few rows by clusters of blocks, which cut K between them."""

from __future__ import annotations

from dataclasses import replace
from math import erf
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.providers.cuda.activation import NO_ACTIVATION, Activation
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.operators import cluster_matmul
from bascule.providers.cuda.operators.product import Epilogue, Product
from bascule.providers.cuda.tensor import Tensor
from tests.support import cuda_emulation
from tests.support.cuda_emulation import blank_call, new_device, run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

TOLERANCES = {np.float16: 2e-3, ml_dtypes.bfloat16: 2e-2}


def random(seed: int, dtype: Any, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(dtype)


def wide(x: Any) -> Any:
    return x.astype(np.float64)


def product_of(
    call: Call, a: Any, b: Any, transposed: bool = False, constant: bool = False, **epilogue: Any
) -> tuple[Product, Tensor]:
    of_a, of_b = call.upload(a), call.upload(b.T.copy() if transposed else b)
    (m, k), n = a.shape, b.shape[1]
    e = Epilogue(**epilogue)
    made = Product(of_a, of_b, m, n, k, False, transposed, (), (m, n), e, constant)
    return made, call.empty((m, n), of_a.dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("splits", cluster_matmul.SPLITS)
@pytest.mark.parametrize(
    "sizes", [(64, 64, 64), (1, 8, 8), (70, 72, 136), (33, 200, 520), (5, 136, 1032)]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_sizes(dtype: Any, splits: int, sizes: tuple[int, int, int], transposed: bool) -> None:
    m, n, k = sizes
    call = blank_call()
    a, b = random(1, dtype, m, k), random(2, dtype, k, n)
    bias, residual = random(3, dtype, n), random(4, dtype, m, n)
    addends = {"bias": call.upload(bias), "residual": call.upload(residual)}
    product, y = product_of(call, a, b, transposed, splits > 2, alpha=0.5, **addends)
    assert cluster_matmul.fits(call, product, y)
    cluster_matmul.launch(call, product, y, splits)
    expected = 0.5 * (wide(a) @ wide(b)) + wide(bias) + wide(residual)
    tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(
        wide(call.download(y)), expected, rtol=tolerance, atol=tolerance * k**0.5
    )


gelu = np.vectorize(lambda x: x / 2 * (1 + erf(x / 2**0.5)))


def gelu_tanh(x: Any) -> Any:
    return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        (Activation("Gelu"), gelu),
        (Activation("Relu"), lambda x: np.maximum(x, 0)),
        (Activation("GeluTanh"), gelu_tanh),
        (Activation("Clip", -1, 0.25), lambda x: np.clip(x, -1, 0.25)),
        (Activation("Swish", 1.5), lambda x: x / (1 + np.exp(-1.5 * x))),
        (Activation("HardSwish"), lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        (NO_ACTIVATION, lambda x: x),
    ],
)
def test_activations(activation: Activation, function: Any) -> None:
    call = blank_call()
    a, b = random(1, np.float16, 20, 64), random(2, np.float16, 64, 80)
    product, y = product_of(call, a, b, activation=activation)
    cluster_matmul.launch(call, product, y, 2)
    expected = function(wide(a) @ wide(b))
    np.testing.assert_allclose(wide(call.download(y)), expected, rtol=2e-3, atol=2e-3)


def test_a_row_does_not_depend_on_the_others() -> None:
    call = blank_call()
    a, b = random(1, np.float16, 70, 200), random(2, np.float16, 200, 72)
    product, y = product_of(call, a, b)
    cluster_matmul.launch(call, product, y, 2)
    alone, y_alone = product_of(call, a[65:66], b)
    cluster_matmul.launch(call, alone, y_alone, 2)
    assert call.download(y)[65].tobytes() == call.download(y_alone)[0].tobytes()


@pytest.mark.parametrize("width", [8, 24, 64, 72])
def test_columns_that_are_several_results(width: int) -> None:
    call = blank_call()
    a, b = random(1, np.float16, 70, 64), random(2, np.float16, 64, 3 * width)
    bias = random(3, np.float16, 3 * width)
    product, y = product_of(call, a, b, bias=call.upload(bias))
    cluster_matmul.launch(call, product, y, 2)
    split, parts = replace(product, parts=3), call.empty((3, 70, width), DataType.FLOAT16)
    assert cluster_matmul.fits(call, split, parts)
    cluster_matmul.launch(call, split, parts, 2)
    whole = call.download(y).reshape(70, 3, width)
    np.testing.assert_array_equal(call.download(parts), whole.swapaxes(0, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"transpose_a": True},
        {"m": 4097},
        {"n": 68},
        {"parts": 3},
        {"k": 60},
        {"m": 0},
        {"k": 0},
    ],
)
def test_what_does_not_fit(change: dict[str, Any]) -> None:
    call = blank_call()
    product, y = product_of(call, random(1, np.float16, 8, 64), random(2, np.float16, 64, 64))
    assert cluster_matmul.fits(call, product, y)
    assert not cluster_matmul.fits(call, replace(product, **change), y)
    sigmoid = replace(product, epilogue=Epilogue(activation=Activation("Sigmoid")))
    assert not cluster_matmul.fits(call, sigmoid, y)
    single, y = product_of(call, random(1, np.float32, 8, 64), random(2, np.float32, 64, 64))
    assert not cluster_matmul.fits(call, single, y)


def test_the_fastest_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    call = blank_call()
    a, b = random(1, np.float16, 20, 256), random(2, np.float16, 256, 64)
    product, y = product_of(call, a, b)
    monkeypatch.setattr(call.device, "cublas", object())
    asked: list[Any] = []

    def library(call: Call, p: Product, y: Tensor) -> bool:
        asked.append(p)
        return True

    def third(device: Any, key: str, count: int, start: Any) -> int:
        assert count == 3  # the library, K as a whole, and in two parts
        for choice in range(count):
            start(choice)(0)
        return 2

    monkeypatch.setattr(cluster_matmul, "fastest", third)
    for _ in range(2):
        started = len(call.device.launches)
        assert cluster_matmul.multiply_by_clusters(call, product, y, library)
        assert call.device.launches[started:][-1] == "cluster_matmul_rows_2_float16"
    assert len(asked) == 2  # once to choose its algorithm, once to be timed
    expected = wide(a) @ wide(b)
    np.testing.assert_allclose(wide(call.download(y)), expected, rtol=2e-3, atol=3e-2)


def test_operators_take_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    device = new_device()
    monkeypatch.setattr(device, "cublas", object())
    monkeypatch.setattr(cluster_matmul, "fastest", lambda *_: 1)
    started = len(device.launches)
    a, b, bias = (
        random(1, np.float16, 2, 10, 64),
        random(2, np.float16, 64, 48),
        random(3, np.float16, 48),
    )
    sums = wide(a) @ wide(b) + wide(bias)
    (y,) = run_node("MatMul", [a, b, bias], {"activation": "Gelu"}, domain="bascule", device=device)
    np.testing.assert_allclose(wide(y), gelu(sums), rtol=2e-3, atol=5e-3)
    parts = run_node("SplitMatMul", [a, b, bias], outputs=2, domain="bascule", device=device)
    np.testing.assert_allclose(wide(np.concatenate(parts, -1)), sums, rtol=2e-3, atol=5e-3)
    x, w = random(4, np.float16, 1, 5, 5, 16), random(5, np.float16, 24, 16, 1, 1)
    (y,) = run_node("Conv", [x, w], {"channels_last": 1}, domain="bascule", device=device)
    np.testing.assert_allclose(wide(y), wide(x) @ wide(w[:, :, 0, 0]).T, rtol=2e-3, atol=5e-3)
    rows, columns = "cluster_matmul_rows_1_float16", "cluster_matmul_columns_1_float16"
    assert device.launches[started:] == [rows, rows, columns]


def test_the_library_is_the_way_where_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    call = blank_call()
    product, y = product_of(call, random(1, np.float16, 20, 64), random(2, np.float16, 64, 64))
    assert not cluster_matmul.multiply_by_clusters(call, product, y, lambda *_: True)
    monkeypatch.setattr(call.device, "cublas", object())
    assert not cluster_matmul.multiply_by_clusters(call, product, y, lambda *_: True)
    assert DataType.FLOAT16 is y.dtype
