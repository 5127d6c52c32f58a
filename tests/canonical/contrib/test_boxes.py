# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from .comparison import Array, check, normal


def crops(x: Array, rois: Array, index: Array, size: Array, mode: str, fill: float) -> Array:
    height, width = size
    y = np.full((len(rois), x.shape[1], height, width), fill)
    last = np.array(x.shape[2:]) - 1.0

    def places(first: float, end: float, count: int, last: float) -> Array:
        if count == 1:
            return np.array([(first + end) / 2 * last])
        return first * last + np.arange(count) * (end - first) * last / (count - 1)

    for n, (y1, x1, y2, x2) in enumerate(rois):
        rows, columns = places(y1, y2, height, last[0]), places(x1, x2, width, last[1])
        for i, j in np.ndindex(height, width):
            at = np.array([rows[i], columns[j]])
            if (at < 0).any() or (at > last).any():
                continue
            image = x[index[n]]
            if mode == "nearest":
                r, c = np.floor(at + 0.5).astype(int)
                y[n, :, i, j] = image[:, r, c]
                continue
            (r, c), (dr, dc) = np.floor(at).astype(int), at - np.floor(at)
            r2, c2 = min(r + 1, int(last[0])), min(c + 1, int(last[1]))
            top = image[:, r, c] * (1 - dc) + image[:, r, c2] * dc
            bottom = image[:, r2, c] * (1 - dc) + image[:, r2, c2] * dc
            y[n, :, i, j] = top * (1 - dr) + bottom * dr
    return y


@pytest.mark.parametrize("size", [(3, 4), (1, 2), (5, 1)])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_crop_and_resize(mode: str, size: tuple[int, int]) -> None:
    rois = np.array(
        [[0.13, 0.21, 0.83, 0.94], [0, 0, 1, 1], [-0.3, 0.1, 0.63, 1.37], [0.73, 0.9, 0.23, 0.15]],
        np.float32,
    )
    inputs = [normal(2, 3, 6, 7), rois, np.array([0, 1, 1, 0], np.int32), np.array(size, np.int32)]
    check(
        "CropAndResize",
        lambda *inputs: crops(*inputs, mode, 0.25),
        inputs,
        {"mode": mode, "extrapolation_value": 0.25},
        dtypes=[np.float32],
    )


def test_image_of_one_row() -> None:
    rois = np.array([[0, 0.2, 0, 0.9]], np.float32)
    inputs = [normal(1, 2, 1, 7), rois, np.array([0], np.int32), np.array([1, 3], np.int32)]
    check("CropAndResize", lambda *x: crops(*x, "bilinear", 0.0), inputs, dtypes=[np.float32])
