# SPDX-License-Identifier: Apache-2.0
"""The yardsticks of the benchmarks."""

from __future__ import annotations

import math

import pytest

from bascule import errors
from bascule.native import _native

MIB = 1 << 20


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_peaks_are_positive(threads: int) -> None:
    figures = [
        _native.peak_gflops(threads, seconds=0.002),
        _native.read_bandwidth(threads, seconds=0.002, bytes=threads * MIB),
    ]
    assert all(0 < figure < 1e6 and math.isfinite(figure) for figure in figures)


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_refuses_threads(threads: int) -> None:
    with pytest.raises(errors.InvalidArgument, match="threads"):
        _native.peak_gflops(threads, seconds=0.001)
    with pytest.raises(errors.InvalidArgument, match="threads"):
        _native.read_bandwidth(threads, seconds=0.001, bytes=MIB)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_refuses_seconds(seconds: float) -> None:
    with pytest.raises(errors.InvalidArgument, match="seconds"):
        _native.peak_gflops(1, seconds=seconds)


def test_refuses_too_few_bytes() -> None:
    with pytest.raises(errors.InvalidArgument, match="1 MiB"):
        _native.read_bandwidth(2, seconds=0.001, bytes=2 * MIB - 1)
