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


@pytest.mark.parametrize("length", [8, 9])
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
