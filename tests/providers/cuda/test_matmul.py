# SPDX-License-Identifier: Apache-2.0
"""Matrix products of the CUDA provider, on the emulated device."""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule import errors
from bascule.providers.cuda.operators import odd_columns
from tests.support import cuda_emulation
from tests.support.cuda_emulation import EmulatedDevice, run_node, unused_device

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

ERRORS = {"float32": 2e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}
FLOATS = sorted(ERRORS)


def normal(seed: int, dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    """Random numbers of a type."""
    x = np.random.default_rng(seed).normal(size=shape)
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def wide(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x.astype("float64")


def check(
    y: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], dtype: str, inside: int = 1
) -> None:
    """Right up to rounding: of the result, and of a sum of `inside` products."""
    assert y.dtype.name == dtype and y.shape == expected.shape
    error = ERRORS[dtype]
    sums = max(ERRORS["float32"] if dtype != "float64" else error, 0) * max(inside, 1) ** 0.5
    np.testing.assert_allclose(wide(y), expected, rtol=error, atol=error * 0.1 + sums)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "a,b",
    [
        ((65, 33), (33, 70)),
        ((3, 9, 5), (5, 4)),
        ((2, 3, 9, 17), (2, 3, 17, 10)),
        ((2, 1, 9, 17), (3, 17, 10)),
        ((4, 7), (3, 7, 6)),
        ((7,), (7,)),
        ((7,), (2, 7, 3)),
        ((2, 3, 7), (7,)),
        ((1, 64), (64, 136)),
        ((0, 4), (4, 3)),
        ((3, 0), (0, 4)),
    ],
)
def test_matmul(dtype: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    left, right = normal(1, dtype, *a), normal(2, dtype, *b)
    (y,) = run_node("MatMul", [left, right])
    check(y, np.matmul(wide(left), wide(right)), dtype, a[-1])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_integer_sums_wrap(dtype: str) -> None:
    rng = np.random.default_rng(3)
    limits = np.iinfo(dtype)
    a, b = (
        rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        for shape in ((2, 5, 40), (40, 66))
    )
    (y,) = run_node("MatMul", [a, b])
    np.testing.assert_array_equal(y, np.matmul(a, b))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("rows", [1, 2, 3, 8])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("k,n", [(264, 72), (24, 1064), (1200, 8)])
def test_few_rows_are_streamed(dtype: str, rows: int, transposed: int, k: int, n: int) -> None:
    a, b = normal(4, dtype, rows, k), normal(5, dtype, *((n, k) if transposed else (k, n)))
    bias, residual = normal(6, dtype, n), normal(7, dtype, rows, n)
    device = unused_device()
    (y,) = run_node(
        "MatMul",
        [a, b, bias, residual],
        {"transB": transposed, "alpha": 0.5, "activation": "Relu"},
        domain="bascule",
        device=device,
    )
    by_tiles = transposed and dtype != "float32"
    way = "stream_matmul" if by_tiles else "gemv"
    assert all(name.startswith(way) for name in device.launches)
    product = wide(a) @ (wide(b).T if transposed else wide(b))
    check(y, np.maximum(0.5 * product + wide(bias) + wide(residual), 0), dtype, k)


@pytest.mark.host
@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows_are_streamed_without_tensor_cores(rows: int) -> None:
    device = EmulatedDevice()
    device.capability, device.shared_memory = 75, 65536
    a, b = normal(4, "float16", rows, 264), normal(5, "float16", 72, 264)
    (y,) = run_node("MatMul", [a, b], {"transB": 1}, domain="bascule", device=device)
    assert [name.startswith("gemv_rows") for name in device.launches] == [True]
    check(y, wide(a) @ wide(b).T, "float16", 264)


@pytest.mark.host
def test_weights_are_streamed_where_shared_memory_is_short() -> None:
    device = EmulatedDevice()
    device.capability, device.shared_memory = 120, 101376
    a, b = normal(8, "float16", 1, 8192), normal(9, "float16", 72, 8192)
    (y,) = run_node("MatMul", [a, b], {"transB": 1}, domain="bascule", device=device)
    assert device.launches == ["stream_matmul_float16"]
    check(y, wide(a) @ wide(b).T, "float16", 8192)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("m,k,n", [(1, 2048, 2304), (1, 8200, 40), (2, 96, 4400), (5, 4104, 20)])
def test_weights_are_streamed_in_any_share(m: int, k: int, n: int, constant: bool) -> None:
    a, b = normal(8, "float16", m, k), normal(9, "float16", n, k)
    device = unused_device()
    constants = (1,) if constant else ()
    options = {"device": device, "domain": "bascule", "constants": constants}
    (y,) = run_node("MatMul", [a, b], {"transB": 1}, **options)
    assert device.launches == ["stream_matmul_float16"]
    check(y, wide(a) @ wide(b).T, "float16", k)


def sigmoid(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, tuple[dict[str, float], Callable[[Any], Any]]] = {
    "Relu": ({}, lambda x: np.maximum(x, 0)),
    "LeakyRelu": ({"alpha": 0.25}, lambda x: np.where(x < 0, 0.25 * x, x)),
    "Clip": ({"alpha": -0.5, "beta": 1.5}, lambda x: np.clip(x, -0.5, 1.5)),
    "Gelu": ({}, lambda x: x / 2 * (1 + np.vectorize(erf)(x / 2**0.5))),
    "GeluTanh": (
        {},
        lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    ),
    "Sigmoid": ({}, sigmoid),
    "Tanh": ({}, np.tanh),
    "Swish": ({"alpha": 1.5}, lambda x: x * sigmoid(1.5 * x)),
    "HardSwish": ({}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "HardSigmoid": ({"alpha": 0.25, "beta": 0.375}, lambda x: np.clip(0.25 * x + 0.375, 0, 1)),
    "Elu": ({"alpha": 0.75}, lambda x: np.where(x < 0, 0.75 * np.expm1(x), x)),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("rows", [2, 19])
def test_activations(name: str, dtype: str, rows: int) -> None:
    parameters, function = ACTIVATIONS[name]
    attributes = {f"activation_{key}": value for key, value in parameters.items()}
    a, b, bias = normal(8, dtype, rows, 16), normal(9, dtype, 16, 24), normal(10, dtype, 24)
    (y,) = run_node("MatMul", [a, b, bias], {"activation": name, **attributes}, domain="bascule")
    check(y, function(wide(a) @ wide(b) + wide(bias)), dtype, 160)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("transpose_a", [0, 1])
@pytest.mark.parametrize("transpose_b", [0, 1])
def test_fused_matmul_swaps_the_last_axes(dtype: str, transpose_a: int, transpose_b: int) -> None:
    a = normal(11, dtype, *((3, 20, 66) if transpose_a else (3, 66, 20)))
    b = normal(12, dtype, *((30, 20) if transpose_b else (20, 30)))
    residual = normal(13, dtype, 3, 66, 30)
    attributes = {"transA": transpose_a, "transB": transpose_b, "alpha": -2.0}
    (y,) = run_node("MatMul", [a, b, None, residual], attributes, domain="bascule")
    left = wide(a).swapaxes(1, 2) if transpose_a else wide(a)
    right = wide(b).T if transpose_b else wide(b)
    check(y, -2.0 * (left @ right) + wide(residual), dtype, 80)


@pytest.mark.parametrize("c", [None, (), (1,), (9,), (1, 9), (12, 1), (12, 9), (1, 1)])
@pytest.mark.parametrize("beta", [1.0, 0.25, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_gemm(c: tuple[int, ...] | None, beta: float, dtype: str) -> None:
    a, b = normal(14, dtype, 7, 12), normal(15, dtype, 9, 7)
    inputs = [a, b] if c is None else [a, b, normal(16, dtype, *c)]
    attributes = {"transA": 1, "transB": 1, "alpha": 0.5, "beta": beta}
    (y,) = run_node("Gemm", inputs, attributes, constants=(1, 2))
    expected = 0.5 * (wide(a).T @ wide(b).T)
    if c is not None:
        expected = expected + beta * wide(inputs[2])
    check(y, expected, dtype, 7)


def test_gemm_of_integers_is_scaled_like_on_the_cpu() -> None:
    a = np.array([[3, -7]], np.int32)
    b = np.array([[5, 2], [1, -4]], np.int32)
    c = np.array([[10, 11]], np.int32)
    (y,) = run_node("Gemm", [a, b, c], {"alpha": 0.5, "beta": 2.0})
    np.testing.assert_array_equal(y, np.trunc((a @ b) * 0.5).astype(np.int32) + 2 * c)


@pytest.mark.parametrize("rows", [1, 9])
def test_constant_weights_with_odd_rows_are_transposed(rows: int) -> None:
    a, b = normal(17, "float16", rows, 64), normal(18, "float16", 64, 1025)
    device = unused_device()
    (y,) = run_node("MatMul", [a, b], device=device, constants=(1,))
    check(y, wide(a) @ wide(b), "float16", 64)
    ways = ["stream_matmul_float16"] if rows == 1 else ["drop_columns_2"]
    if rows > 1 and device.cublas is None:
        ways = ["matmul_tiled_float16"]
    assert device.launches == ["matmul_addend_float16", *ways]


@pytest.mark.parametrize("columns", [1025, 1026, 1031])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_large_results_with_odd_rows_are_written_in_place(
    has_bias: bool, dtype: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd_columns, "_CACHED_BYTES", 0)
    monkeypatch.setattr(odd_columns, "_FEWEST_ROWS", 4)
    a, b = normal(19, dtype, 45, 64), normal(20, dtype, 64, columns)
    bias = normal(21, dtype, columns) if has_bias else None
    device = unused_device()
    (y,) = run_node("MatMul", [a, b, bias], domain="bascule", device=device, constants=(1,))
    check(y, wide(a) @ wide(b) + (0 if bias is None else wide(bias)), dtype, 64)
    if device.cublas is not None:
        assert device.launches[-1] == f"edge_columns_{a.itemsize}"


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("form", [(1, 64, 40, 1), (3, 768, 100, 1), (9, 64, 40, 1), (2, 64, 40, 0)])
def test_products_of_normalized_rows(kind: str, dtype: str, form: Any) -> None:
    m, k, n, turned = form
    a, b = normal(1, dtype, m, k), normal(2, dtype, *((n, k) if turned else (k, n)))
    scale, shift = normal(3, dtype, k) + 1, normal(4, dtype, k)
    bias, residual = normal(5, dtype, n), normal(6, dtype, m, n)
    centers = kind == "LayerNormalization"
    inputs = [a, b, bias, residual, scale.astype(dtype), shift if centers else None]
    attributes = {"transB": turned, "normalization": kind, "epsilon": 1e-3, "activation": "Relu"}
    (y,) = run_node("Project", inputs, attributes, domain="bascule", constants=(1,))
    x = wide(a)
    x = x - x.mean(-1, keepdims=True) if centers else x
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * wide(inputs[4])
    x = x + wide(shift) if centers else x
    expected = x @ (wide(b).T if turned else wide(b)) + wide(bias) + wide(residual)
    error = {"float32": 2e-5, "float16": 3e-2, "float64": 1e-10}[dtype]
    np.testing.assert_allclose(wide(y), np.maximum(expected, 0), error, error * k**0.5)


@pytest.mark.parametrize(
    "inputs,message",
    [
        ([(3, 4), (5, 6)], "matrix sizes do not fit"),
        ([(2, 3, 4), (3, 4, 5)], "do not broadcast"),
    ],
)
def test_wrong_shapes_are_refused(inputs: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(errors.Fail, match=message):
        run_node("MatMul", [normal(1, "float32", *shape) for shape in inputs])


@pytest.mark.parametrize("name,dtype", [("Relu", "int32"), ("Softsign", "float32")])
def test_activations_that_there_are_not_are_refused(name: str, dtype: str) -> None:
    a, b = np.ones((2, 3), dtype), np.ones((3, 4), dtype)
    with pytest.raises((NotImplementedError, ValueError), match=f"'{name}'"):
        run_node("MatMul", [a, b], {"activation": name}, domain="bascule")
