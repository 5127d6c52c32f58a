# SPDX-License-Identifier: Apache-2.0
"""Products by cuBLASLt: how its interface is used, with a library on the host in its place."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from math import erf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.providers.cuda.libraries import cublaslt
from bascule.providers.cuda.libraries.cublaslt import CublasLt, Problem
from bascule.providers.cuda.operators import odd_columns
from tests.providers.cuda.test_recurrent import make_inputs as recurrent_inputs
from tests.support.cuda_emulation import EmulatedDevice, run_node
from tests.support.cuda_emulator import build

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(build.missing()), reason=build.missing()),
]

SOURCE = Path(__file__).parents[2] / "support" / "cuda_libraries" / "cublaslt.cpp"
ERRORS = {"float32": 1e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CublasLt:
    made = tmp_path_factory.mktemp("cublaslt") / "library.so"
    compiler = shutil.which("g++")
    assert compiler is not None and sys.platform == "linux"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(made)], check=True)
    return CublasLt(90, library=str(made))


@pytest.fixture
def device(library: CublasLt) -> EmulatedDevice:
    device = EmulatedDevice()
    device.cublas = library
    device.stream = SimpleNamespace(ptr=0)
    return device


def normal(seed: int, dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(seed).normal(size=shape)
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def wide(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x.astype("float64")


def check(y: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], dtype: str) -> None:
    assert y.dtype.name == dtype and y.shape == expected.shape
    np.testing.assert_allclose(wide(y), expected, rtol=ERRORS[dtype], atol=ERRORS[dtype])


@pytest.mark.parametrize("dtype", sorted(ERRORS))
@pytest.mark.parametrize("transpose_a", [0, 1])
@pytest.mark.parametrize("transpose_b", [0, 1])
@pytest.mark.parametrize(
    "a,b",
    [
        ((), ()),
        ((4,), ()),
        ((), (3,)),
        ((2, 3), (2, 3)),
        ((2, 1), (3,)),
        ((2, 3), (2, 1)),
        ((5, 1, 2), (3, 2)),
    ],
)
def test_batches_and_transposes(
    device: EmulatedDevice,
    dtype: str,
    transpose_a: int,
    transpose_b: int,
    a: tuple[int, ...],
    b: tuple[int, ...],
) -> None:
    left = normal(1, dtype, *a, *((5, 11) if transpose_a else (11, 5)))
    right = normal(2, dtype, *b, *((7, 5) if transpose_b else (5, 7)))
    attributes = {"transA": transpose_a, "transB": transpose_b, "alpha": 0.5}
    (y,) = run_node("MatMul", [left, right], attributes, domain="bascule", device=device)
    x = wide(left).swapaxes(-1, -2) if transpose_a else wide(left)
    w = wide(right).swapaxes(-1, -2) if transpose_b else wide(right)
    check(y, 0.5 * np.matmul(x, w), dtype)
    assert not device.launches


GELU: Callable[[Any], Any] = np.vectorize(lambda x: x / 2 * (1 + erf(x / 2**0.5)))
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "": lambda x: x,
    "Relu": lambda x: np.maximum(x, 0),
    "GeluTanh": lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "Gelu": GELU,
    "Swish": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("has_residual", [False, True])
def test_epilogues(
    device: EmulatedDevice, name: str, dtype: str, has_bias: bool, has_residual: bool
) -> None:
    a, b = normal(3, dtype, 2, 9, 6), normal(4, dtype, 6, 24)
    bias = normal(5, dtype, 24) if has_bias else None
    residual = normal(6, dtype, 2, 9, 24) if has_residual else None
    inputs = [a, b, bias, residual]
    (y,) = run_node("MatMul", inputs, {"activation": name}, domain="bascule", device=device)
    sums = wide(a) @ wide(b)
    for addend in (bias, residual):
        sums = sums if addend is None else sums + wide(addend)
    check(y, ACTIVATIONS[name](sums), dtype)
    in_the_library = dtype != "float64" and name in cublaslt.ACTIVATIONS
    only_sums = dtype == "float64" and not has_bias and not name
    swish_or_gelu = not in_the_library and not only_sums
    assert len(device.launches) == int(swish_or_gelu)


@pytest.mark.parametrize("name", ["HardSwish", "HardSigmoid"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_what_vanishes_away_from_zero_is_rounded_once(
    device: EmulatedDevice, name: str, dtype: str, batch: tuple[int, ...]
) -> None:
    a, b = normal(8, dtype, *batch, 19, 16), normal(9, dtype, *batch, 16, 24)
    bias, residual = normal(10, dtype, 24), normal(11, dtype, *batch, 19, 24)
    parameters = {"activation_alpha": 0.25, "activation_beta": 0.375}
    attributes = {"activation": name, "alpha": 0.75, **parameters}
    inputs = [a, b, bias, residual]
    device.launches.clear()
    (y,) = run_node("MatMul", inputs, attributes, domain="bascule", device=device)
    assert device.launches == [f"gemv_combine_{dtype}"]
    x = 0.75 * (wide(a) @ wide(b)) + wide(bias) + wide(residual)
    functions = {
        "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        "HardSigmoid": lambda x: np.clip(0.25 * x + 0.375, 0, 1),
    }
    # Half a unit of the last place, and what float32 sums of 18 numbers below 20 can lose.
    unit = 2.0**-11 if dtype == "float16" else 2.0**-8
    np.testing.assert_allclose(wide(y), functions[name](x), rtol=unit, atol=18 * 20 * 2.0**-24)


@pytest.mark.parametrize("c", [(), (7,), (1, 7), (9, 1), (9, 7)])
def test_gemm(device: EmulatedDevice, c: tuple[int, ...]) -> None:
    a, b, addend = (normal(i, "float32", *s) for i, s in enumerate([(9, 5), (7, 5), c]))
    attributes = {"transB": 1, "alpha": 2.0, "beta": 0.5}
    (y,) = run_node("Gemm", [a, b, addend], attributes, device=device)
    check(y, 2 * (wide(a) @ wide(b).T) + 0.5 * wide(addend), "float32")


def test_bytes(library: CublasLt) -> None:
    rng = np.random.default_rng(7)
    a, b = (rng.integers(-128, 128, shape, np.int8) for shape in ((9, 20), (6, 20)))
    plan = library.plan(
        Problem(DataType.INT8, 9, 6, 20, transpose_b=True, d_stride=54, alignment=1)
    )
    assert plan is not None
    y, space = np.empty((9, 6), np.int32), np.empty(plan.workspace, np.uint8)
    addresses = [x.ctypes.data for x in (a, b, y, y)]
    plan.run(*addresses, 0, space.ctypes.data, 0)
    np.testing.assert_array_equal(y, a.astype(np.int32) @ b.astype(np.int32).T)


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_inputs_of_recurrent_networks(
    device: EmulatedDevice, op_type: str, dtype: str, direction: str, has_bias: bool
) -> None:
    """By the library, but for float64 with a bias: the same as by the kernel."""
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": 5}
    if op_type == "GRU":
        attributes["linear_before_reset"] = 1
    inputs = recurrent_inputs(op_type, np.float32, attributes, False)
    narrow = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    inputs = [x if x is None or x.dtype == np.int32 else x.astype(narrow) for x in inputs]
    if not has_bias:
        inputs[3] = None
    outputs = 3 if op_type == "LSTM" else 2
    device.launches.clear()
    results = run_node(op_type, inputs, attributes, outputs, device=device)
    by_kernel = f"recurrent_project_{dtype}" in device.launches
    assert by_kernel == (dtype == "float64" and has_bias)
    for ours, theirs in zip(results, run_node(op_type, inputs, attributes, outputs), strict=True):
        check(ours, wide(theirs), dtype)


def test_what_the_library_cannot_do_has_no_plan(library: CublasLt) -> None:
    assert library.plan(Problem(DataType.FLOAT, 0, 4, 4)) is None
    assert library.plan(Problem(DataType.INT32, 4, 4, 4)) is None
    assert library.plan(Problem(DataType.FLOAT, 4, 4, 4, activation="Tanh")) is None
    assert library.plan(Problem(DataType.DOUBLE, 4, 4, 4, bias=True)) is None


def test_an_error_names_the_function_and_the_status(library: CublasLt) -> None:
    plan = library.plan(Problem(DataType.FLOAT, 4, 4, 4))
    assert plan is not None
    with pytest.raises(errors.EngineError, match=r"cublasLtMatmul .*CUBLAS_STATUS_INVALID_VALUE"):
        plan.run(0, 0, 0, 0, 0, 0, 1)  # the host has no streams


def test_a_missing_library_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: not there")

    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    monkeypatch.setattr(cublaslt.ctypes, "CDLL", missing)
    with pytest.raises(errors.EngineError, match=r'pip install "bascule\[cuda13\]"'):
        CublasLt(90)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("columns", [65, 66, 68, 69, 71])
@pytest.mark.parametrize("way", ["drop", "edge"])
def test_columns_that_are_no_multiples_of_a_vector(
    way: str,
    columns: int,
    dtype: str,
    transposed: bool,
    has_bias: bool,
    device: EmulatedDevice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if way == "edge":
        monkeypatch.setattr(odd_columns, "_CACHED_BYTES", 0)
        monkeypatch.setattr(odd_columns, "_FEWEST_ROWS", 2)
    a, b = normal(1, dtype, 3, 9, 1024), normal(2, dtype, columns, 1024)
    bias = normal(3, dtype, columns) if has_bias else None
    (y,) = run_node(
        "MatMul",
        [a, b if transposed else b.T, bias],
        {"transB": int(transposed), "activation": "Relu"},
        domain="bascule",
        device=device,
        constants=[1, 2],
    )
    size = a.itemsize
    if columns * size % 16:
        assert device.launches[-1] == f"{way}_columns_{size}"
    expected = wide(a) @ wide(b).T + (0 if bias is None else wide(bias))
    check(y, np.maximum(expected, 0), dtype)


def test_odd_columns_of_what_the_library_cannot_finish(
    device: EmulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd_columns, "_CACHED_BYTES", 0)
    monkeypatch.setattr(odd_columns, "_FEWEST_ROWS", 2)
    a, b = normal(1, "float32", 27, 1024), normal(2, "float32", 1024, 67)
    residual = normal(3, "float32", 27, 67)
    for activation, addend in (("Tanh", None), ("", residual)):
        (y,) = run_node(
            "MatMul",
            [a, b, None, addend],
            {"activation": activation},
            domain="bascule",
            device=device,
            constants=[1],
        )
        expected = wide(a) @ wide(b)
        check(y, expected + wide(residual) if addend is not None else np.tanh(expected), "float32")


def test_the_library_is_left_when_its_last_plan_goes(
    library: CublasLt, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Any] = []
    another = CublasLt(90, library=library._library._name)
    monkeypatch.setattr(another._library, "cublasLtDestroy", left.append)
    plan = another.plan(Problem(DataType.FLOAT, 2, 3, 4))
    assert plan is not None
    del another
    assert not left
    del plan
    assert len(left) == 1
