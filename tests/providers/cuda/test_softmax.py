# SPDX-License-Identifier: Apache-2.0
"""Softmax, LogSoftmax and Hardmax of the CUDA provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.providers.cuda.against_cpu import agree, same
from tests.support import cuda_emulation
from tests.support.cuda_emulation import emulated_device, run_node

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

OPERATORS = ("Softmax", "LogSoftmax", "Hardmax")


def random(dtype: Any, *shape: int) -> Any:
    return np.random.default_rng(shape).normal(0, 3, shape).astype(dtype)


def reference(x: Any, axis: int, logarithm: bool) -> Any:
    shifted = x.astype(np.float64) - x.max(axis, keepdims=True).astype(np.float64)
    result = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    return (result if logarithm else np.exp(result)).astype(x.dtype)


@pytest.mark.parametrize("op_type", OPERATORS[:2])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 5, 7), -1),
        ((3, 5, 7), 0),
        ((3, 5, 7), 1),
        ((9, 128), 1),
        ((70, 256), 1),
        ((3, 260), 1),
        ((2, 1000), 1),
        ((2, 1024), 1),
        ((2, 1027), 1),
        ((1, 2048), 1),
        ((1, 5000), 1),
        ((1, 9001), 1),
        ((1, 16384), 1),
        ((2, 300, 33), 1),
        ((7,), 0),
        ((4, 1, 3), 1),
    ],
)
def test_every_length(op_type: str, dtype: Any, shape: tuple[int, ...], axis: int) -> None:
    x = random(dtype, *shape)
    [y] = run_node(op_type, [x], {"axis": axis})
    same(y, reference(x, axis, op_type == "LogSoftmax"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_hardmax(dtype: Any) -> None:
    x = np.round(random(dtype, 5, 40, 6).astype(np.float32)).astype(dtype)
    x[0, 0, 0], x[1, 7, 0], x[2, :, 1], x[3, 5, 2] = np.nan, np.nan, -np.inf, np.inf
    for axis in (0, 1, 2):
        agree("Hardmax", [x], {"axis": axis})


@pytest.mark.parametrize("op_type", OPERATORS[:2])
@pytest.mark.parametrize("n", [6, 300, 1500, 9000])
def test_no_numbers(op_type: str, n: int) -> None:
    x = random(np.float32, 6, n)
    x[0, 3], x[1, 4], x[2, 5], x[3] = np.nan, np.inf, -np.inf, -np.inf
    x[4, : n // 2], x[5, n // 2 :] = -np.inf, -np.inf
    with np.errstate(all="ignore"):
        agree(op_type, [x], {"axis": 1})
        agree(op_type, [x.T.copy()], {"axis": 0})


@pytest.mark.parametrize("op_type", OPERATORS)
def test_of_nothing(op_type: str) -> None:
    agree(op_type, [np.ones((3, 0), np.float32)])
    agree(op_type, [np.ones((0, 3, 2), np.float32)], {"axis": 1})


def test_large_numbers() -> None:
    x = np.array([[1e30, 1e30, 0], [-1e30, -2e30, -1e30]], np.float32)
    agree("Softmax", [x])
    agree("LogSoftmax", [np.array([[3e4, 2e4, -1e4]], np.float16)])


def test_a_row_does_not_depend_on_the_others() -> None:
    x = random(np.float32, 40, 333)  # rows that start at any address
    [together] = run_node("Softmax", [x])
    for k in (0, 1, 2, 39):
        [alone] = run_node("Softmax", [x[k : k + 1].copy()])
        assert alone.tobytes() == together[k : k + 1].tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 100, 128, 197, 256, 257, 512, 770, 1024])
def test_few_rows_and_many_give_the_same(
    dtype: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = random(dtype, 5, n)
    device = emulated_device()
    started = len(device.launches)
    [few] = run_node("Softmax", [x])
    monkeypatch.setattr(device, "processors", 0)
    [many] = run_node("Softmax", [x])
    first, second = device.launches[started:]
    assert first.startswith("softmax_spread") and second.startswith("softmax_warp")
    assert few.tobytes() == many.tobytes()
