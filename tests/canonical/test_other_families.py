# SPDX-License-Identifier: Apache-2.0
"""Families with one or two rewrites each."""

from __future__ import annotations

import numpy as np
import pytest

from .comparison import (
    assert_rewritten,
    assert_unchanged_meaning,
    canonical,
    model_of,
    normal,
    op_types,
    run,
)


def test_scatter() -> None:
    data, updates = normal(3, 4), normal(2, 2)
    indices = np.array([[0, 2], [1, 0]])
    expected = data.copy()
    for row, column in np.ndindex(2, 2):
        expected[indices[row, column], column] = updates[row, column]
    for opset in (9, 10):
        model = assert_rewritten("Scatter", [data, indices, updates], opset, [expected], axis=0)
        assert op_types(model)[-1] == "ScatterElements"


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32, np.uint8])
@pytest.mark.parametrize("depth", [np.array(3), np.array(3.0, np.float32)])
def test_one_hot_of_negative_indices(dtype: type, depth: np.ndarray) -> None:  # type: ignore[type-arg]
    indices = np.array([[0, 2, -1], [5, 1, -3]])
    if dtype is np.uint8:
        indices = abs(indices)
    values = np.array([2, 7], dtype=np.float32)
    expected = np.where(indices[..., None] == np.arange(3), np.float32(7), np.float32(2))
    assert_rewritten("OneHot", [indices.astype(dtype), depth, values], 9, [expected])


def test_grid_sample() -> None:
    x, grid = normal(1, 2, 4, 5), np.tanh(normal(1, 3, 3, 2))
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")):
        expected = run(model_of("GridSample", [x, grid], 20, mode=new), [x, grid])
        assert_rewritten("GridSample", [x, grid], 16, expected, mode=old)


def test_roi_align() -> None:
    x = normal(1, 2, 6, 6)
    rois = np.array([[0, 0, 3, 4], [1, 2, 5, 5]], dtype=np.float32)
    inputs = [x, rois, np.zeros(2, dtype=np.int64)]
    sizes = {"output_height": 2, "output_width": 2, "sampling_ratio": 2}
    mode = {"coordinate_transformation_mode": "output_half_pixel"}
    expected = run(model_of("RoiAlign", inputs, 16, **sizes, **mode), inputs)
    assert_rewritten("RoiAlign", inputs, 10, expected, **sizes)


@pytest.mark.parametrize("axis", [None, 1, 2])
def test_dft(axis: int | None) -> None:
    x = normal(2, 4, 5, 1)
    along = 1 if axis is None else axis
    spectrum = np.fft.fft(x[..., 0], axis=along)
    expected = np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)
    options = {} if axis is None else {"axis": axis}
    assert_rewritten("DFT", [x], 17, [expected], **options)


def test_dft_of_a_length() -> None:
    x, length = normal(2, 4, 1), np.array(6)
    spectrum = np.fft.fft(x[..., 0], n=6, axis=1)
    expected = np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)
    assert_rewritten("DFT", [x, length], 17, [expected])


@pytest.mark.parametrize("shape", [(), (1,)])
def test_quantize_with_one_scale(shape: tuple[int, ...]) -> None:
    x = normal(2, 3, 4)
    scale, zero = np.full(shape, 0.05, np.float32), np.full(shape, 100, np.uint8)
    levels = (np.rint(x / np.float32(0.05)) + 100).clip(0, 255).astype(np.uint8)
    assert_rewritten("QuantizeLinear", [x, scale, zero], 10, [levels])
    back = ((levels.astype(np.int32) - 100) * np.float32(0.05)).astype(np.float32)
    assert_rewritten("DequantizeLinear", [levels, scale, zero], 10, [back])


@pytest.mark.parametrize("op_type, gates", [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("output_sequence", [0, 1])
def test_recurrent(op_type: str, gates: int, output_sequence: int) -> None:
    x, w, r = normal(5, 2, 3), normal(1, gates * 4, 3), normal(1, gates * 4, 4)
    expected = run(model_of(op_type, [x, w, r], 7, outputs=2, hidden_size=4), [x, w, r])
    assert_rewritten(
        op_type,
        [x, w, r],
        1,
        expected,
        outputs=2,
        hidden_size=4,
        output_sequence=output_sequence,
    )


def test_misspelt_direction() -> None:
    x, w, r = normal(5, 2, 3), normal(1, 12, 3), normal(1, 12, 4)
    model = canonical(model_of("GRU", [x, w, r], 1, outputs=2, hidden_size=4, direction="foward"))
    assert next(iter(model.graph)).attributes["direction"] == "forward"


@pytest.mark.parametrize("opset", [1, 6])
def test_gemm_with_broadcast(opset: int) -> None:
    a, b, c = normal(2, 3), normal(3, 4), normal(4)
    assert_rewritten("Gemm", [a, b, c], opset, [a @ b + c], broadcast=1)


@pytest.mark.parametrize("opset", [11, 12, 13, 16])
def test_gather_and_scatter_keep_their_meaning(opset: int) -> None:
    data, indices = normal(3, 4), np.array([[0, 2], [1, 0], [3, 3]])
    assert_unchanged_meaning("GatherElements", [data, indices], opset, axis=1)
    assert_unchanged_meaning("ScatterElements", [data, indices, normal(3, 2)], opset, axis=1)
