# SPDX-License-Identifier: Apache-2.0
"""What the elements of an array are like, in a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType

_CHUNK = 1 << 20
"""Elements that are widened at a time."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the elements of a tensor; of complex ones, of both parts.

    Attributes:
        count: of the elements.
        min: the smallest, infinities included; NaN where there is no number.
        max: the largest, infinities included; NaN where there is no number.
        mean: of the finite ones; NaN where there is none.
        std: the standard deviation of the finite ones; NaN where there is none.
        nan: how many are NaN.
        inf: how many are infinite.
        zeros: the share of zeros, from 0 to 1.
        denormals: how many are below the smallest normal number of the element type.
        largest: whether the largest finite number of the element type is reached, in either sign.
    """

    count: int
    min: float
    max: float
    mean: float
    std: float
    nan: int
    inf: int
    zeros: float
    denormals: int
    largest: bool


def statistics_of(array: Any) -> Statistics | None:
    """The statistics of an array; None for strings, sequences and what else is no tensor."""
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OSU":
        return None
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag])
    tiny, top = _limits(array.dtype)
    flat = array.reshape(-1)
    total = _Total(tiny, top)
    for start in range(0, flat.size, _CHUNK):
        with np.errstate(all="ignore"):
            total.add(flat[start : start + _CHUNK].astype(np.float64))
    return total.result()


def sequence_statistics(items: Any) -> Statistics | None:
    """Of all tensors of one float type in a list together; None for what is no such list."""
    if not isinstance(items, list):
        return None
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if not arrays or len({array.dtype for array in arrays}) > 1:
        return None
    return statistics_of(np.concatenate([array.reshape(-1) for array in arrays]))


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """(the smallest normal number, the largest finite one) of a float type, else (0, inf)."""
    if dtype.kind in "iub" or not DataType.from_numpy(dtype).is_float:
        return 0.0, math.inf
    if dtype.char in "efd":
        return float(np.finfo(dtype).smallest_normal), float(np.finfo(dtype).max)
    import ml_dtypes  # only where one of its types is

    info = ml_dtypes.finfo(dtype)
    return float(info.smallest_normal), float(info.max)


class _Total:
    """Sums over chunks; the variance by the mean and squares of each chunk, which do not cancel."""

    def __init__(self, tiny: float, top: float) -> None:
        self._tiny, self._top = tiny, top
        self.count = self.nan = self.inf = self.zeros = self.denormals = self.finite = 0
        self.least, self.most = math.inf, -math.inf
        self.mean = self.squares = 0.0
        self.largest = False

    def add(self, chunk: np.ndarray[Any, Any]) -> None:
        self.count += chunk.size
        numbers = chunk[~np.isnan(chunk)]
        self.nan += chunk.size - numbers.size
        if numbers.size:
            self.least = min(self.least, float(numbers.min()))
            self.most = max(self.most, float(numbers.max()))
        finite = numbers[np.isfinite(numbers)]
        self.inf += numbers.size - finite.size
        if not finite.size:
            return
        size = np.abs(finite)
        self.zeros += int(np.count_nonzero(size == 0))
        self.denormals += int(np.count_nonzero((size > 0) & (size < self._tiny)))
        self.largest = self.largest or bool(size.max() >= self._top)
        mean = float(finite.mean())
        squares = float(np.square(finite - mean).sum())
        total = self.finite + finite.size
        shift = mean - self.mean
        self.squares += squares + shift * shift * self.finite * finite.size / total
        self.mean += shift * finite.size / total
        self.finite = total

    def result(self) -> Statistics:
        some = self.count > self.nan
        return Statistics(
            self.count,
            self.least if some else math.nan,
            self.most if some else math.nan,
            self.mean if self.finite else math.nan,
            math.sqrt(self.squares / self.finite) if self.finite else math.nan,
            self.nan,
            self.inf,
            self.zeros / self.count if self.count else 0.0,
            self.denormals,
            self.largest,
        )
