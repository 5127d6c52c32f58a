# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms beside NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.cuda_emulation import missing, run_node

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def pairs(values: Any) -> Any:
    return np.stack([values.real, values.imag], axis=-1)


@pytest.mark.parametrize("length", [1, 7, 12])
@pytest.mark.parametrize("axis", [1, -2])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_dft(length: int, axis: int, parts: int, inverse: int) -> None:
    rng = np.random.default_rng(length)
    x = rng.standard_normal((2, 9, 3, parts)).astype(np.float32)
    inputs = [x, np.array(length, np.int64), np.array(axis, np.int64)]
    (y,) = run_node("DFT", inputs, {"inverse": inverse})
    values = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    transform = np.fft.ifft if inverse else np.fft.fft
    expected = pairs(transform(values.astype(np.complex128), length, axis=1 if axis == 1 else 2))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


_LENGTHS = [
    *(1, 2, 3, 4, 5, 8, 16, 60, 64, 77, 100, 441, 512, 1024, 61, 37 * 3),
    *(67, 2 * 67, 127, 509, 1021),  # with a large prime factor
    *(8192, 3**9, 5 * 1999),  # too long for shared memory
]


@pytest.mark.parametrize("length", _LENGTHS)
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("axis", [1, 2])
def test_lengths(length: int, inverse: int, axis: int) -> None:
    rng = np.random.default_rng(length)
    shape = (1, length, 2) if axis == 1 else (1, 2, length)
    x = rng.standard_normal((*shape, 2))
    (y,) = run_node("DFT", [x, None, np.array(axis)], {"inverse": inverse})
    transform = np.fft.ifft if inverse else np.fft.fft
    expected = pairs(transform(x[..., 0] + 1j * x[..., 1], axis=axis))
    bound = 2e-15 * np.abs(expected).max() * max(1.0, np.log2(length))
    assert np.abs(y - expected).max() <= bound


@pytest.mark.parametrize("length", [64, 77, 127, 134, 10007])
@pytest.mark.parametrize("onesided", [0, 1])
def test_sums_of_float32_are_rounded_once(length: int, onesided: int) -> None:
    x = np.random.default_rng(length).standard_normal((1, length, 1)).astype(np.float32)
    (y,) = run_node("DFT", [x], {"onesided": onesided})
    wide = x[..., 0].astype(np.float64)
    expected = pairs((np.fft.rfft if onesided else np.fft.fft)(wide)).astype(np.float32)
    different = np.abs(y - expected) > np.spacing(np.abs(expected)) + 1e-12
    assert not different.any()


def test_symmetric_lines_have_zeros() -> None:
    """Factors that mirror each other are the same bits; a GPU rounds their products otherwise."""
    x = np.zeros((1, 10, 1, 2))
    x[0, :, 0, 0] = np.arange(0, 100, 10)
    (y,) = run_node("DFT", [x, None, np.array(1)], {"inverse": 1})
    np.testing.assert_allclose(y[0, 5, 0], [-5, 0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("length", [8, 9, 67, 134])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float16, 2e-3)])
def test_onesided(length: int, dtype: Any, tolerance: float) -> None:
    x = np.random.default_rng(length).standard_normal((2, length, 1)).astype(dtype)
    (y,) = run_node("DFT", [x], {"onesided": 1})
    expected = pairs(np.fft.rfft(x[..., 0].astype(np.float64), axis=1))
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    size = np.array(length, np.int64)
    (back,) = run_node("DFT", [expected.astype(dtype), size], {"onesided": 1, "inverse": 1})
    np.testing.assert_allclose(back, x, rtol=2 * tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [False, True])
def test_stft(onesided: int, windowed: bool) -> None:
    rng = np.random.default_rng(5)
    signal = rng.standard_normal((2, 40, 1)).astype(np.float32)
    window = rng.standard_normal(16).astype(np.float32) if windowed else None
    inputs = [signal, np.array(8, np.int64), window, np.array(16, np.int64)]
    (y,) = run_node("STFT", inputs, {"onesided": onesided})
    frames = np.stack([signal[:, i : i + 16, 0] for i in range(0, 25, 8)], 1)
    frames = frames * (window if window is not None else 1)
    expected = pairs((np.fft.rfft if onesided else np.fft.fft)(frames.astype(np.float64)))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
