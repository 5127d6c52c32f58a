# SPDX-License-Identifier: Apache-2.0
"""Resize on the emulated device against the CPU provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.kernels.test_resize import COORDINATES
from tests.providers.cuda.against_cpu import agree, normal
from tests.providers.cuda.test_image import numbers
from tests.support import cuda_emulation

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

MODES = ("nearest", "linear", "cubic")


def scales(*values: float) -> list[Any]:
    return [None, np.array(values, np.float32)]


def sizes(*values: int) -> list[Any]:
    return [None, None, np.array(values, np.int64)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_scales(coordinates: str, mode: str) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    for factors in ((2.0, 2.0), (0.6, 1.7), (0.3, 0.25), (1.0, 3.3)):
        agree("Resize", [normal(2, 3, 7, 10), *scales(1, 1, *factors)], attributes)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest(nearest: str) -> None:
    for coordinates in COORDINATES:
        attributes = {"nearest_mode": nearest, "coordinate_transformation_mode": coordinates}
        agree("Resize", [normal(1, 2, 6, 9), *sizes(1, 2, 9, 4)], attributes)


def test_lengths_and_places_by_scales() -> None:
    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for factor in (0.1, 0.6, 0.7, 0.9, 1 / 3, 1.1, 1.7, 3.3):
        agree("Resize", [normal(2, 60), *scales(1, factor)], attributes)
        for nearest in ("round_prefer_floor", "round_prefer_ceil", "ceil"):
            agree("Resize", [normal(2, 20), *scales(1, factor)], {"nearest_mode": nearest})


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_nearest_by_sizes(policy: str) -> None:
    attributes = {
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
        "keep_aspect_ratio_policy": policy,
    }
    for size in ((6, 14), (30, 41), (49, 3)):
        agree("Resize", [normal(21, 49), *sizes(*size)], attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("outside", [0, 1])
def test_antialias(mode: str, outside: int) -> None:
    attributes = {"mode": mode, "antialias": 1, "exclude_outside": outside}
    for size in ((4, 3), (20, 5), (1, 30)):
        agree("Resize", [normal(1, 2, 13, 17), *sizes(1, 2, *size)], attributes)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_axes_and_aspect(policy: str) -> None:
    attributes = {"mode": "linear", "axes": [-1, 1], "keep_aspect_ratio_policy": policy}
    agree("Resize", [normal(2, 5, 6, 7), *sizes(11, 8)], attributes)


@pytest.mark.parametrize("mode", MODES)
def test_region(mode: str) -> None:
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    region = np.array([0, 0, -0.2, 0.4, 1, 1, 0.7, 1.2], np.float32)
    agree("Resize", [normal(1, 2, 6, 5), region, *sizes(1, 2, 4, 9)[1:]], attributes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "dtype",
    [
        *(np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, np.int16, np.uint16),
        *(np.int32, np.uint32),
    ],
)
def test_types(dtype: Any, mode: str) -> None:
    x = (np.abs(normal(2, 3, 5, 6)) * 60).astype(dtype)
    agree("Resize", [x, *scales(1, 1, 1.5, 0.8)], {"mode": mode})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.bool_, np.complex64, np.complex128])
def test_other_numbers(dtype: Any, mode: str) -> None:
    x = numbers(dtype, 2, 3, 5, 6)
    # Sums of float64, in which a GPU rounds products and sums at once.
    tolerance = 1e-15 if dtype in (np.int64, np.uint64) else None
    for given in (scales(1, 1, 1.5, 0.8), scales(1, 2.5, 1, 1)):
        agree("Resize", [x, *given], {"mode": mode}, tolerance=tolerance)


def test_nothing_to_do_and_empty() -> None:
    agree("Resize", [normal(2, 3, 4), *scales(1, 1, 1)])
    agree("Resize", [normal(0, 3, 4), *scales(1, 2, 2)])
    agree("Resize", [np.array([[True, False]]), *sizes(1, 5)])
