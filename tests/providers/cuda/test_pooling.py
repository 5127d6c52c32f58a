# SPDX-License-Identifier: Apache-2.0
"""Pools on the emulated device against the CPU provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.kernels.test_pool import CASES
from tests.providers.cuda.against_cpu import agree, last, normal
from tests.support import cuda_emulation
from tests.support.cuda_emulation import emulated_device

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

TYPES = [np.float64, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("shape, attributes", CASES)
def test_max(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    x = normal(*shape)
    for order in (0, 1):
        agree("MaxPool", [x], {**attributes, "storage_order": order}, outputs=2)
    agree("MaxPool", [last(x)], {**attributes, "channels_last": 1}, domain="bascule")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_max_of_images_with_channels_last(dtype: Any) -> None:
    x = normal(3, 9, 8, 16, dtype=dtype)
    x[0, 3, 3, 5], x[1] = np.nan, -np.inf
    cases: list[dict[str, Any]] = [
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [2, 3], "dilations": [2, 1], "pads": [0, 1, 2, 0], "ceil_mode": 1},
    ]
    for attributes in cases:
        attributes["channels_last"] = 1
        agree("MaxPool", [x], attributes, domain="bascule")
    assert emulated_device().launches[-1] == f"max_pool_image_{np.dtype(dtype).name}"


@pytest.mark.parametrize("shape, attributes", CASES)
@pytest.mark.parametrize("padded", [0, 1])
def test_average(shape: tuple[int, ...], attributes: dict[str, Any], padded: int) -> None:
    x, attributes = normal(*shape), {**attributes, "count_include_pad": padded}
    agree("AveragePool", [x], attributes)
    agree("AveragePool", [last(x)], {**attributes, "channels_last": 1}, domain="bascule")


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, *TYPES])
def test_norms(p: int, dtype: Any) -> None:
    x = normal(2, 3, 9, 8, dtype=dtype)
    agree("LpPool", [x], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "p": p})
    agree("GlobalLpPool", [x], {"p": p})


@pytest.mark.parametrize("dtype", [*TYPES, np.int8, np.uint8])
def test_types(dtype: Any) -> None:
    x = (normal(2, 3, 9, 10) * 40).astype(dtype)
    attributes = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    agree("MaxPool", [x], attributes, outputs=2)
    if dtype in TYPES:
        agree("AveragePool", [x], attributes)


def test_nan_and_infinity() -> None:
    x = normal(1, 2, 6, 6)
    x[0, 0, 2, 3], x[0, 1] = np.nan, -np.inf
    agree("MaxPool", [x], {"kernel_shape": [2, 2]}, outputs=2)
    agree("GlobalMaxPool", [x])


@pytest.mark.parametrize("shape", [(2, 5, 7, 7), (1, 3, 40, 41), (2, 3), (1, 2, 5), (0, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [np.float32, *TYPES])
def test_global(shape: tuple[int, ...], dtype: Any) -> None:
    x = normal(*shape, dtype=dtype)
    agree("GlobalAveragePool", [x])
    agree("GlobalMaxPool", [x])


def test_a_window_that_does_not_fit_is_an_error() -> None:
    for op_type in ("MaxPool", "AveragePool", "LpPool"):
        with pytest.raises(Fail, match="reaches over 5 does not fit an axis of 3"):
            cuda_emulation.run_node(op_type, [normal(1, 2, 5, 3)], {"kernel_shape": [3, 5]})
