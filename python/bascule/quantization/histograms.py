# SPDX-License-Identifier: Apache-2.0
"""Histograms of tensors, gathered batch by batch, and the range that keeps most of one.

Sources: Migacz, 8-bit inference with TensorRT (GTC 2017), for the entropy; a percentile leaves out
equally much at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Histogram:
    """Counts of values in bins of one width, symmetric about zero; grows as values do."""

    counts: Array
    width: float
    lowest: float
    highest: float
    total: float = 0.0
    squares: float = 0.0

    @staticmethod
    def of(bins: int) -> Histogram:
        """An empty one that will have `bins` bins at first."""
        return Histogram(np.zeros(bins, np.int64), 0.0, np.inf, -np.inf)

    def add(self, values: Array) -> None:
        """Count finite values."""
        flat = values[np.isfinite(values)].astype(np.float64).reshape(-1)
        if not flat.size:
            return
        self.lowest = min(self.lowest, float(flat.min()))
        self.highest = max(self.highest, float(flat.max()))
        self.total += float(flat.sum())
        self.squares += float(np.square(flat).sum())
        reach = max(-self.lowest, self.highest)
        if not self.width:
            self.width = 2 * reach / len(self.counts) or 1.0
        missing = int(np.ceil(max(0.0, reach / self.width - len(self.counts) / 2)))
        if missing:
            self.counts = np.pad(self.counts, missing)
        found, _ = np.histogram(flat, len(self.counts), (self.edges[0], self.edges[-1]))
        self.counts = self.counts + found

    @property
    def edges(self) -> Array:
        """The borders of the bins, one more than those."""
        half = len(self.counts) / 2 * self.width
        return np.linspace(-half, half, len(self.counts) + 1)

    def clipped(self, low: float, high: float) -> tuple[float, float]:
        """A range, as far as there are values."""
        if self.lowest > self.highest:
            return 0.0, 0.0
        return max(low, self.lowest), min(high, self.highest)

    def by_percentile(self, percentile: float, symmetric: bool = False) -> tuple[float, float]:
        """The range that holds `percentile` per cent of the values."""
        if not 0 <= percentile <= 100:
            raise ValueError(f"percentile {percentile} is not between 0 and 100")
        count = self.counts.sum()
        if not count:
            return 0.0, 0.0
        edges = self.edges
        if symmetric:
            half = (len(self.counts) + 1) // 2
            sizes = self.counts[-half:] + self.counts[:half][::-1]
            share = np.cumsum(sizes) / count
            reach = edges[-half - 1 :][min(np.searchsorted(share, percentile / 100) + 1, half)]
            return -float(reach), float(reach)
        share = np.cumsum(self.counts) / count
        cut = (1 - percentile / 100) / 2
        low = edges[np.searchsorted(share, cut, side="right")]
        high = edges[min(np.searchsorted(share, 1 - cut) + 1, len(edges) - 1)]
        return self.clipped(float(low), float(high))

    def by_entropy(self, levels: int = 128) -> tuple[float, float]:
        """The range that loses least: the divergence of the values in `levels` levels is least."""
        counts = self.counts.astype(np.float64)
        bins, edges = len(counts), self.edges
        middle, half = bins // 2, levels // 2
        if not counts.sum():
            return 0.0, 0.0
        best, found = np.inf, (float(edges[0]), float(edges[-1]))
        for reach in range(half, middle + 1):
            start, stop = middle - reach, min(middle + reach + 1, bins)
            inside = counts[start:stop]
            kept = inside.copy()
            kept[0] += counts[:start].sum()
            kept[-1] += counts[stop:].sum()
            divergence = _divergence(kept, _in_levels(inside, kept > 0, levels))
            if divergence < best:
                best, found = divergence, (float(edges[start]), float(edges[stop]))
        return self.clipped(*found)

    def mean_and_deviation(self) -> tuple[float, float]:
        """Of the values."""
        count = max(int(self.counts.sum()), 1)
        mean = self.total / count
        return mean, float(np.sqrt(max(self.squares / count - mean * mean, 0.0)))


def _in_levels(counts: Array, is_used: Array, levels: int) -> Array:
    """The counts as they are when each group of bins is one level: spread over its used bins."""
    size = len(counts) // levels
    group = np.minimum(np.arange(len(counts)) // max(size, 1), levels - 1)
    totals = np.bincount(group, counts, levels)
    used = np.bincount(group, is_used, levels)
    shares = np.divide(totals, used, out=np.zeros(levels), where=used > 0)
    spread: Array = np.where(is_used, shares[group], 0.0)
    return spread


def _divergence(p: Array, q: Array, least: float = 1e-4) -> float:
    """Kullback and Leibler's divergence; what is nothing counts as a little."""
    if not p.any() or not q.any():
        return np.inf
    p, q = (_smoothed(each, least) for each in (p, q))
    return float(np.sum(p * np.log(p / q)))


def _smoothed(counts: Array, least: float) -> Array:
    zero = counts == 0
    taken = least * zero.sum() / (~zero).sum()
    shares = counts / counts.sum()
    return np.where(zero, least, np.maximum(shares - taken, least))
