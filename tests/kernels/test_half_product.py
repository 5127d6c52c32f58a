# SPDX-License-Identifier: Apache-2.0
"""Products of float16 and bfloat16 with constant weights, which stay 16 bits wide."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from bascule.native import _native
from tests.kernels.test_matmul import check, normal, wide
from tests.support.native import compile_graph, node_graph, run_node

TYPES = (np.float16, ml_dtypes.bfloat16)
ONE_ROUNDING = {np.float16: 5e-4 + 1e-5, ml_dtypes.bfloat16: 4e-3 + 1e-5}
"""Of the largest value."""


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("k", [0, 1, 37, 512, 1030, 1537])
def test_rows_panels_and_blocks(k: int, transposed: int, dtype: Any) -> None:
    for n in (1, 17, 33, 200):
        b = normal(k, n, dtype=dtype, seed=n)
        given = np.ascontiguousarray(b.T) if transposed else b
        c = normal(n, dtype=dtype, seed=1)
        a = normal(300, k, dtype=dtype, seed=2)
        runner = compile_graph(
            node_graph("Gemm", [a, given, c], {"transB": transposed}, constants=(1, 2)), threads=2
        )
        whole: npt.NDArray = runner.run_values([a], [])[0]
        check(whole, wide(a) @ wide(b) + wide(c), dtype, ONE_ROUNDING[dtype])
        for rows in (1, 2, 3, 6, 7, 15, 29):
            part = runner.run_values([np.ascontiguousarray(a[-rows:])], [])[0]
            np.testing.assert_array_equal(part, whole[-rows:])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ["", "Relu", "Gelu", "Clip"])
@pytest.mark.parametrize("m", [1, 5, 40])
def test_everything_after_the_sums_is_rounded_once(m: int, activation: str, dtype: Any) -> None:
    a, b = normal(m, 64, dtype=dtype), normal(64, 70, dtype=dtype, seed=1)
    bias, residual = normal(70, dtype=dtype, seed=2), normal(m, 70, dtype=dtype, seed=3)
    attributes: dict[str, Any] = {"alpha": 0.3}
    if activation:
        attributes["activation"] = activation
    if activation == "Clip":
        attributes |= {"activation_alpha": -1.0, "activation_beta": 2.0}
    floats = [x.astype(np.float32) for x in (a, b, bias, residual)]
    [expected] = run_node("MatMul", floats, attributes, domain="bascule")
    for threads in (1, 2):
        [actual] = run_node(
            "MatMul",
            [a, b, bias, residual],
            attributes,
            domain="bascule",
            constants=(1, 2),
            threads=threads,
        )
        check(actual, wide(expected), dtype, ONE_ROUNDING[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_batches_of_weights(dtype: Any) -> None:
    a, b = normal(3, 2, 5, 33, dtype=dtype), normal(2, 33, 40, dtype=dtype, seed=1)
    [actual] = run_node("MatMul", [a, b], constants=(1,), threads=2)
    check(actual, wide(a) @ wide(b), dtype, ONE_ROUNDING[dtype])
    turned = np.ascontiguousarray(np.swapaxes(a, -1, -2))
    [again] = run_node("MatMul", [turned, b], {"transA": 1}, domain="bascule", constants=(1,))
    np.testing.assert_array_equal(again, actual)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(9,), (7, 8), (3, 5, 6)])
def test_pointwise_convolutions(sizes: tuple[int, ...], stride: int, dtype: Any) -> None:
    x = normal(2, *sizes, 40, dtype=dtype)
    w, bias = normal(37, 40, dtype=dtype, seed=1), normal(37, dtype=dtype, seed=2)
    seen = x[(slice(None), *(slice(None, None, stride) for _ in sizes))]
    residual = normal(*seen.shape[:-1], 37, dtype=dtype, seed=3)
    expected = np.maximum(wide(seen) @ wide(w).T + wide(bias) + wide(residual), 0)
    attributes = {"channels_last": 1, "activation": "Relu", "strides": [stride] * len(sizes)}
    [actual] = run_node(
        "Conv",
        [x, w.reshape(37, 40, *(1 for _ in sizes)), bias, residual],
        attributes,
        domain="bascule",
        constants=(1, 2),
        threads=2,
    )
    check(actual, expected, dtype, ONE_ROUNDING[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_special_values(dtype: Any) -> None:
    a = normal(9, 40, dtype=dtype)
    a[2, 3], a[4, 39], a[5, 0] = np.nan, np.inf, -np.inf
    b = np.abs(normal(40, 35, dtype=dtype, seed=1)) + dtype(0.5)
    [actual] = run_node("MatMul", [a, b], constants=(1,))
    assert np.isnan(actual[2]).all()
    assert (actual[4] == np.inf).all()
    assert (actual[5] == -np.inf).all()
    assert np.isfinite(actual[[0, 1, 3, 6, 7, 8]].astype(np.float32)).all()


def _float16_product(a: npt.NDArray, b: npt.NDArray) -> npt.NDArray:
    (m, k), n = a.shape, b.shape[1]
    data = _native.float16_product(a.tobytes(), b.tobytes(), m, k, n)
    return np.frombuffer(data, np.float16).reshape(m, n)


@pytest.mark.parametrize("m, k, n", [(1, 64, 32), (3, 100, 33), (14, 1, 1), (230, 600, 40)])
def test_float16_sums_of_32_products(m: int, k: int, n: int) -> None:
    """What AVX512-FP16 computes, emulated on other processors."""
    a, b = normal(m, k, dtype=np.float16), normal(k, n, dtype=np.float16, seed=1)
    total = np.zeros((m, n), np.float32)
    for start in range(0, k, 32):
        part = np.zeros((m, n), np.float16)
        for i in range(start, min(start + 32, k)):
            step = a[:, i : i + 1].astype(np.float64) * b[i].astype(np.float64) + part
            part = step.astype(np.float16)
        total += part
    actual = _float16_product(a, b)
    check(actual, total.astype(np.float64), np.float16, 1e-3)
    check(actual, wide(a) @ wide(b), np.float16, 3e-3)
    np.testing.assert_array_equal(_float16_product(a[-1:], b), actual[-1:])


@pytest.mark.parametrize("m", [1, 7, 40])
def test_float16_sums_are_asked_for(m: int) -> None:
    """On processors without AVX512-FP16 the choice changes nothing."""
    a, b = normal(m, 300, dtype=np.float16), normal(300, 70, dtype=np.float16, seed=1)
    asked = {"bascule.float16_sums": 1}
    for operator in ("MatMul", "Gemm"):
        [exact] = run_node(operator, [a, b], constants=(1,))
        [actual] = run_node(operator, [a, b], asked, constants=(1,), threads=2)
        check(exact, wide(a) @ wide(b), np.float16, ONE_ROUNDING[np.float16])
        if _native.active_isa() == "avx512_fp16":
            np.testing.assert_array_equal(actual, _float16_product(a, b))
        else:
            np.testing.assert_array_equal(actual, exact)


def test_float16_sums_of_nothing() -> None:
    assert (_float16_product(np.zeros((5, 0), np.float16), np.zeros((0, 4), np.float16)) == 0).all()
    with pytest.raises(Exception, match="do not fit"):
        _native.float16_product(b"", b"", 1, 1, 1)
