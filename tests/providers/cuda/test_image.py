# SPDX-License-Identifier: Apache-2.0
"""Reading from and writing into images, on the emulated device against the CPU provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.providers.cuda.against_cpu import agree, normal
from tests.support import cuda_emulation, native

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

TYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
OTHERS = [
    *(np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64),
    *(np.bool_, np.complex64, np.complex128),
]


def numbers(dtype: Any, *shape: int) -> Any:
    """All over the range of integers; complex numbers with both parts."""
    rng = np.random.default_rng(5)
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if np.dtype(dtype).kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return (
        (rng.normal(size=shape) * 50).astype(dtype)
        if dtype is not np.bool_
        else (rng.integers(0, 2, shape).astype(bool))
    )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(mode: str, padding: str, align: int) -> None:
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    for size, grid in (((5, 6), (4, 3)), ((3, 4, 5), (2, 3, 2)), ((7,), (9,)), ((1, 1), (2, 2))):
        places = normal(2, *grid, len(size), seed=1)
        places.flat[:3] = (np.nan, np.inf, -40)
        agree("GridSample", [normal(2, 3, *size), places], attributes)


@pytest.mark.parametrize("dtype", TYPES)
def test_types(dtype: Any) -> None:
    x, places = normal(1, 2, 5, 6, dtype=dtype), normal(1, 3, 4, 2, seed=1)
    agree("GridSample", [x, places])
    agree("AffineGrid", [normal(2, 2, 3, dtype=dtype), np.array([2, 3, 4, 5])])
    rois = np.array([[0, 0, 3, 4], [1, 1.5, 5.5, 3]], dtype)
    agree("RoiAlign", [x, rois, np.array([0, 0])], {"output_height": 2, "output_width": 3})
    regions = np.array([[0, 0, 0, 3, 4], [0, 1, 1.5, 8, 3]], dtype)
    agree("MaxRoiPool", [x, regions], {"pooled_shape": [2, 3]})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("dtype", OTHERS)
def test_grid_sample_of_other_numbers(dtype: Any, mode: str) -> None:
    places = normal(2, 3, 4, 2, seed=1)
    # Sums of float64, in which a GPU rounds products and sums at once.
    tolerance = 1e-15 if dtype in (np.int64, np.uint64) else None
    inputs = [numbers(dtype, 2, 3, 5, 6), places]
    agree("GridSample", inputs, {"mode": mode}, tolerance=tolerance)


@pytest.mark.parametrize("dtype", TYPES)
def test_grids(dtype: Any) -> None:
    agree("GridSample", [normal(1, 2, 5, 6), normal(1, 3, 4, 2, seed=1, dtype=dtype)])


@pytest.mark.parametrize("align", [0, 1])
def test_affine_grid(align: int) -> None:
    agree("AffineGrid", [normal(2, 2, 3), np.array([2, 1, 1, 4])], {"align_corners": align})
    agree("AffineGrid", [normal(1, 3, 4), np.array([1, 2, 3, 2, 4])], {"align_corners": align})


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("pixels", ["half_pixel", "output_half_pixel"])
def test_roi_align(mode: str, sampling: int, pixels: str) -> None:
    rois = np.array([[0, 0, 9, 9], [-3, 2, 4, 20], [5, 5, 5, 5], [8, 8, 2, 2]], np.float32)
    attributes = {
        "output_height": 3,
        "output_width": 2,
        "sampling_ratio": sampling,
        "spatial_scale": 0.7,
        "mode": mode,
        "coordinate_transformation_mode": pixels,
    }
    agree("RoiAlign", [normal(2, 3, 8, 9), rois, np.array([0, 1, 1, 0])], attributes)


def test_max_roi_pool() -> None:
    x = normal(2, 3, 8, 9)
    x[0, 0, 2, 2] = np.nan
    rois = np.array([[1, 0, 0, 8, 7], [0, 2, 1, 3, 30], [0, 20, 20, 30, 30]], np.float32)
    agree("MaxRoiPool", [x, rois], {"pooled_shape": [3, 4], "spatial_scale": 0.8})


def test_max_unpool() -> None:
    attributes = {"kernel_shape": [2, 3], "strides": [2, 2]}
    y, indices = native.run_node("MaxPool", [normal(2, 3, 8, 9)], attributes, 2)
    agree("MaxUnpool", [y, indices], attributes)
    agree("MaxUnpool", [y, indices, np.array([2, 3, 9, 12])], attributes)


def test_pads_that_take_more_than_there_is() -> None:
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [9, 0, 0, 9]}
    x, indices = normal(1, 1, 3, 3), np.arange(9).reshape(1, 1, 3, 3)
    for inputs in ([x, indices], [x, indices, np.array([1, 1, 8, 8])]):
        with pytest.raises(Fail, match=r"the pads \[9, 0, 0, 9\] leave a shape of"):
            cuda_emulation.run_node("MaxUnpool", inputs, attributes)


@pytest.mark.parametrize("dtype", [*TYPES, *OTHERS])
def test_col2im(dtype: Any) -> None:
    x = numbers(dtype, 2, 3 * 6, 12)
    agree("Col2Im", [x, np.array([5, 5]), np.array([2, 3])])
    x = numbers(dtype, 1, 2 * 4, 8)
    attributes = {"pads": [1, 0, 0, 1], "strides": [2, 1], "dilations": [1, 2]}
    agree("Col2Im", [x, np.array([4, 5]), np.array([2, 2])], attributes)
