# SPDX-License-Identifier: Apache-2.0
"""DFT and STFT against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.native import run_node

# Fours and twos, odd factors, a larger prime factor, lengths that only chirps can do, and long ones
# of each kind.
LENGTHS = [1, 2, 3, 4, 7, 8, 12, 31, 37, 64, 74, 100, 400, 512, 1009, 2310, 9261, 16384, 20014]


def parts(values: np.ndarray) -> np.ndarray:
    return np.stack([values.real, values.imag], -1)


def scalar(value: int) -> np.ndarray:
    return np.array(value, np.int64)


def close(actual: np.ndarray, expected: np.ndarray, dtype: Any) -> None:
    assert actual.dtype == dtype and actual.shape == expected.shape
    tolerance = {"float64": 1e-12, "float32": 2e-7, "float16": 1e-3}[np.dtype(dtype).name]
    largest = np.abs(expected).max(initial=1)
    error = np.abs(actual.astype(np.float64) - expected).max(initial=0)
    assert error <= tolerance * largest


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_lengths(length: int, dtype: Any) -> None:
    rng = np.random.default_rng(length)
    x = rng.normal(size=(3, length, 2)).astype(dtype)
    values = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    (y,) = run_node("DFT", [x], threads=2, static=True)
    close(y, parts(np.fft.fft(values)), dtype)
    (y,) = run_node("DFT", [x], {"inverse": 1})
    close(y, parts(np.fft.ifft(values)), dtype)
    (y,) = run_node("DFT", [x[..., :1]], {"onesided": 1})
    close(y, parts(np.fft.rfft(values.real)), dtype)
    (y,) = run_node("DFT", [x, scalar(length)], {"onesided": 1, "inverse": 1}, constants=(1,))
    close(y, np.fft.irfft(values, length)[..., None], dtype)


@pytest.mark.parametrize("length", [24, 37, 99, 9000])
@pytest.mark.parametrize("attributes", [{}, {"onesided": 1}, {"inverse": 1}])
def test_a_line_has_the_same_bits_alone_and_beside_others(
    length: int, attributes: dict[str, int]
) -> None:
    for parts_of_x in (1, 2):
        x = np.random.default_rng(length).normal(size=(19, length, parts_of_x))
        (y,) = run_node("DFT", [x.astype(np.float32)], attributes)
        (two,) = run_node("DFT", [x.astype(np.float32)], attributes, threads=2)
        assert y.tobytes() == two.tobytes()
        for i in (0, 7, 18):
            (alone,) = run_node("DFT", [x[i : i + 1].astype(np.float32)], attributes)
            assert alone.tobytes() == y[i].tobytes()


@pytest.mark.parametrize("axis", [0, 1, 2, -2, -3])
@pytest.mark.parametrize("length", [3, 6, 9])
def test_axes_and_lengths_asked_for(axis: int, length: int) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
    values = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    (y,) = run_node("DFT", [x, scalar(length), scalar(axis)])
    at = axis if axis >= 0 else axis + 1
    close(y, parts(np.fft.fft(values, length, at)), np.float32)
    (y,) = run_node("DFT", [x, None, scalar(axis)], {"onesided": 1, "inverse": 1})
    close(y, np.fft.irfft(values, axis=at)[..., None], np.float32)


def test_dft_refuses() -> None:
    x = np.zeros((2, 8, 2), np.float32)
    with pytest.raises(Exception, match="last axis"):
        run_node("DFT", [x, None, scalar(2)])
    with pytest.raises(Exception, match="dft_length is 0"):
        run_node("DFT", [x, scalar(0)])
    with pytest.raises(Exception, match="last axis of 1 or 2"):
        run_node("DFT", [np.zeros((2, 3), np.float32)])


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("given", ["window", "length", "both", "none"])
@pytest.mark.parametrize("is_complex", [False, True])
def test_stft(onesided: int, given: str, is_complex: bool) -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(2, 100, 2 if is_complex else 1)).astype(np.float32)
    length = 100 if given == "none" else 30
    window = rng.uniform(size=length).astype(np.float32) if given in ("window", "both") else None
    frame_length = scalar(length) if given in ("length", "both") else None
    (y,) = run_node("STFT", [signal, scalar(7), window, frame_length], {"onesided": onesided})
    values = signal[..., 0].astype(np.float64)
    if is_complex:
        values = values + 1j * signal[..., 1]
    frames = [values[:, i : i + length] for i in range(0, 100 - length + 1, 7)]
    weights = np.ones(length) if window is None else window.astype(np.float64)
    expected = parts(np.fft.fft(np.stack(frames, 1) * weights))
    close(y, expected[:, :, : length // 2 + 1] if onesided else expected, np.float32)


def test_stft_refuses() -> None:
    signal = np.zeros((1, 20, 1), np.float32)
    for inputs, text in [
        ([signal, scalar(0), None, scalar(4)], "frame_step is 0"),
        ([signal, scalar(2), None, scalar(21)], "do not fit"),
        ([signal, scalar(2), np.ones(5, np.float32), scalar(4)], "frame_length is 4"),
        ([signal[0], scalar(2), None, scalar(4)], "signal has shape"),
    ]:
        with pytest.raises(Exception, match=text):
            run_node("STFT", inputs)
