# SPDX-License-Identifier: Apache-2.0
"""Ways of rounding weights of matrix products to few bits, a scale for each block of rows.

Weights are [K, N], blocks lie along K, and a value q stands for s * (q - z). To the nearest each
weight is rounded by itself (`bascule.block_quantization`); here scales and zero points are fitted
(k-quant, HQQ), errors are passed on to the weights still to be rounded (GPTQ), or rows are scaled
so that those which matter are rounded finer (AWQ). The last two need `InputStatistics` of what the
weights are multiplied by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.block_quantization import quantize_blocks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blocks:
    """Quantized weights [K, N]."""

    integers: Array
    """uint8 [blocks, block_size, N]; those past K are 0."""
    scales: Array
    """[blocks, N] of the weights' type."""
    zeros: Array
    """[blocks, N], uint8 or, of HQQ, of the weights' type."""

    def restored(self, rows: int) -> Array:
        """The float32 weights [rows, N] that these stand for."""
        scales, zeros = (each.astype(np.float32)[:, None] for each in (self.scales, self.zeros))
        values = scales * (self.integers.astype(np.float32) - zeros)
        return np.asarray(values.reshape(-1, values.shape[-1])[:rows])

    def with_whole_zeros(self, weights: Array, bits: int) -> Blocks:
        """Zero points rounded to integers, and the `weights` once more by them."""
        top = (1 << bits) - 1
        zeros = np.clip(np.rint(self.zeros.astype(np.float32)), 0, top).astype(np.uint8)
        values, there = _in_blocks(weights, self.integers.shape[1])
        return _finish(values, there, self.scales, zeros, top, self.scales.dtype)


class InputStatistics:
    """What is kept of the rows x [K] that weights are multiplied by."""

    def __init__(self, size: int) -> None:
        self.gram: Array = np.zeros((size, size))
        """Sum of the outer products of x with itself."""
        self.sizes: Array = np.zeros(size)
        """Sum of |x|."""
        self.count = 0

    def add(self, values: Array) -> None:
        """Take in rows, [..., K]."""
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        self.gram += rows.T @ rows
        self.sizes += np.abs(rows).sum(axis=0)
        self.count += len(rows)


def round_to_nearest(
    weights: Array, block_size: int, bits: int, symmetric: bool, ratio: float = 1.0
) -> Blocks:
    """Each weight by itself; with a `ratio` below 1 the range of each block is cut to it."""
    found = Blocks(*quantize_blocks(weights, block_size, bits, symmetric))
    if ratio == 1:
        return found
    values, there = _in_blocks(weights, block_size)
    scales = found.scales.astype(np.float32) * np.float32(ratio)
    return _finish(values, there, scales, found.zeros, (1 << bits) - 1, weights.dtype)


def _in_blocks(weights: Array, block_size: int) -> tuple[Array, Array]:
    """float32 values [blocks, block_size, N], and 1 where they are weights, 0 past K."""
    rows, columns = weights.shape
    blocks = -(-rows // block_size)
    values = np.zeros((blocks * block_size, columns), np.float32)
    values[:rows] = weights
    there = (np.arange(blocks * block_size) < rows).astype(np.float32)
    return values.reshape(blocks, block_size, columns), there.reshape(blocks, block_size, 1)


def _finish(
    values: Array, there: Array, scales: Array, zeros: Array, top: int, dtype: Any
) -> Blocks:
    """Round values to the nearest of given scales and zero points."""
    scales = scales.astype(dtype)
    exact = scales.astype(np.float32)
    inverse = np.divide(1, exact, out=np.zeros_like(exact), where=exact != 0)
    integers = np.clip(np.rint(values * inverse[:, None] + zeros[:, None]), 0, top) * there
    return Blocks(integers.astype(np.uint8), scales, zeros)


# --- k-quant

_STEPS = 20
"""Scales that are tried for a block."""


def k_quant(weights: Array, block_size: int, bits: int) -> Blocks:
    """Fit scale and zero point of each block by least squares, large weights counting more.

    Of llama.cpp's k-quants (ggml's ``make_qkx2_quants``): for steps of several widths the weights
    are rounded, and scale and offset that are best for these integers are solved for. The weight of
    an error is |w| + sqrt(mean(w^2)). What is kept is best as it is stored, the zero point an
    integer; it is never worse than rounding to the nearest.
    """
    values, there = _in_blocks(weights, block_size)
    top = (1 << bits) - 1
    mean = (values**2).sum(axis=1) / there.sum(axis=1)
    importance = (np.abs(values) + np.sqrt(mean)[:, None]) * there
    best = round_to_nearest(weights, block_size, bits, symmetric=False)

    def error_of(blocks: Blocks) -> Array:
        restored = blocks.scales.astype(np.float32)[:, None] * (
            blocks.integers.astype(np.float32) - blocks.zeros.astype(np.float32)[:, None]
        )
        return np.asarray((importance * (restored - values) ** 2).sum(axis=1))

    least = error_of(best)
    low, high = np.minimum(values.min(axis=1), 0), values.max(axis=1)
    width = np.where(high > low, high - low, 1)
    total = importance.sum(axis=1)
    by_value = (importance * values).sum(axis=1)
    for step in range(_STEPS + 1):
        inverse = (top - 1 + 0.1 * step) / width
        guess = np.clip(np.rint((values - low[:, None]) * inverse[:, None]), 0, top) * there
        weighted = importance * guess
        first, second = weighted.sum(axis=1), (weighted * guess).sum(axis=1)
        both = (weighted * values).sum(axis=1)
        determinant = total * second - first**2
        solvable = determinant > 0
        determinant = np.where(solvable, determinant, 1)
        scale = (total * both - by_value * first) / determinant
        offset = (second * by_value - first * both) / determinant
        # Zero has to be among what integers stand for.
        scale = np.where(offset > 0, both / np.where(second > 0, second, 1), scale)
        offset = np.minimum(offset, 0)
        solvable &= scale > 0
        scale = np.where(solvable, scale, 1)
        zeros = np.clip(np.rint(-offset / scale), 0, top).astype(np.uint8)
        found = _finish(values, there, scale, zeros, top, weights.dtype)
        error = error_of(found)
        better = solvable & (error < least)
        least = np.where(better, error, least)
        best = Blocks(
            np.where(better[:, None], found.integers, best.integers),
            np.where(better, found.scales, best.scales),
            np.where(better, found.zeros, best.zeros),
        )
    return best


# --- HQQ


def hqq(
    weights: Array,
    block_size: int,
    bits: int,
    norm: float = 0.7,
    beta: float = 10.0,
    growth: float = 1.01,
    iterations: int = 20,
) -> Blocks:
    """Half-quadratic quantization: fit zero points, which are no integers, to most weights.

    Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023): the sum
    of |error| ** `norm` is made small by turns, for what is set apart as outliers (a shrinkage of
    the errors, weighed by `beta`, which grows by `growth`) and for the zero points. A block keeps
    the zero point of the least mean error.
    """
    values, there = _in_blocks(weights, block_size)
    top = (1 << bits) - 1
    low = np.where(there > 0, values, np.inf).min(axis=1)
    high = np.where(there > 0, values, -np.inf).max(axis=1)
    # A block of equal values is one step from zero.
    scales = np.where(high > low, (high - low) / top, np.where(low != 0, np.abs(low), 1))
    scales = scales.astype(weights.dtype).astype(np.float32)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)[:, None]
    zeros = -low * inverse[:, 0]
    count = there.sum(axis=1)
    best, least = zeros, np.full(zeros.shape, np.inf, np.float32)
    for _ in range(iterations):
        integers = np.clip(np.rint(values * inverse + zeros[:, None]), 0, top)
        errors = (values - scales[:, None] * (integers - zeros[:, None])) * there
        mean = np.abs(errors).sum(axis=1) / count
        better = mean < least
        if not better.any():
            break
        best, least = np.where(better, zeros, best), np.where(better, mean, least)
        sizes = np.abs(errors)
        shrunk = sizes - np.power(np.maximum(sizes, 1e-12), norm - 1) / beta
        outliers = np.sign(errors) * np.maximum(shrunk, 0)
        zeros = ((integers - (values - outliers) * inverse) * there).sum(axis=1) / count
        beta *= growth
    return _finish(values, there, scales, best.astype(weights.dtype), top, weights.dtype)


# --- GPTQ


def gptq(
    weights: Array,
    inputs: InputStatistics,
    block_size: int,
    bits: int,
    symmetric: bool,
    *,
    damping: float = 0.01,
    panel: int = 128,
    by_importance: bool = False,
    search: bool = False,
    per_column: bool = True,
) -> Blocks:
    """Round row after row, and let the rows to come make up for the errors of the product.

    Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers" (2022). With H = X^T X, an upper Cholesky factor U of H^-1 says what an error in
    row i is to change in those below: w_j -= error_i / U_ii * U_ij.

    Args:
        weights: [K, N].
        inputs: of what they are multiplied by, of size K.
        block_size: rows that share a scale.
        bits: 2, 4 or 8.
        symmetric: whether the zero point is the middle.
        damping: added to the diagonal of H, in shares of its mean.
        panel: rows after which the rest is brought up to date.
        by_importance: begin with the rows of the largest inputs, which see the fewest changes.
            Scales are then those of the weights as they were.
        search: try narrower ranges for each block, too.
        per_column: each column has scales of its own; else all of a block's rows share one.
    """
    rows, columns = weights.shape
    left = weights.astype(np.float64)
    hessian = inputs.gram.copy()
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    left[dead] = 0  # nothing is ever multiplied by them
    values, there = _in_blocks(left.astype(weights.dtype), block_size)
    order = np.argsort(-np.diag(hessian), kind="stable") if by_importance else np.arange(rows)
    left, hessian = left[order], hessian[np.ix_(order, order)]
    hessian[np.diag_indices(rows)] += damping * np.mean(np.diag(hessian))
    # U with H^-1 = U^T U, from the Cholesky factor of H with its axes reversed.
    lower = np.linalg.cholesky(hessian[::-1, ::-1])
    upper = np.linalg.inv(lower)[::-1, ::-1]

    def grid(group: Array) -> tuple[Array, Array]:
        return _grid(group, bits, symmetric, weights.dtype, search, per_column)

    top = (1 << bits) - 1
    scales = np.zeros((len(values), columns), weights.dtype)
    zeros = np.zeros((len(values), columns), np.uint8)
    if by_importance:
        for block, group in enumerate(values):
            scales[block], zeros[block] = grid(group[: int(there[block].sum())])
    integers = np.zeros((len(values) * block_size, columns), np.uint8)
    for start in range(0, rows, panel):
        stop = min(start + panel, rows)
        errors = np.zeros((stop - start, columns))
        for i in range(start, stop):
            row = int(order[i])
            block = row // block_size
            if not by_importance and row % block_size == 0:
                # Rows past the panel are not up to date yet.
                group = left[i : i + block_size].copy()
                late = max(min(i + block_size, rows) - stop, 0)
                if late:
                    group[-late:] -= upper[start:i, stop : i + block_size].T @ errors[: i - start]
                scales[block], zeros[block] = grid(group.astype(weights.dtype))
            scale, zero = scales[block].astype(np.float64), zeros[block].astype(np.float64)
            inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
            rounded = np.clip(np.rint(left[i] * inverse + zero), 0, top)
            integers[row] = rounded
            error = (left[i] - scale * (rounded - zero)) / upper[i, i]
            errors[i - start] = error
            left[i + 1 : stop] -= np.outer(upper[i, i + 1 : stop], error)
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return Blocks(integers.reshape(len(values), block_size, columns), scales, zeros)


def _grid(
    group: Array, bits: int, symmetric: bool, dtype: Any, search: bool, per_column: bool
) -> tuple[Array, Array]:
    """Scale and zero point [N] for one block of rows [rows, N]."""
    if not per_column:
        group = np.broadcast_to(group.reshape(-1, 1), (group.size, 1))
    best = round_to_nearest(group.astype(dtype), len(group), bits, symmetric)
    if search:
        least = _far(best, group)
        for share in np.arange(0.99, 0.2, -0.01):
            cut = (group * share).astype(dtype)
            found = round_to_nearest(cut, len(group), bits, symmetric)
            scales = found.scales.astype(np.float32)
            values, there = _in_blocks(group, len(group))
            found = _finish(values, there, scales, found.zeros, (1 << bits) - 1, dtype)
            error = _far(found, group)
            better = error < least
            least = np.where(better, error, least)
            best = Blocks(
                best.integers,
                np.where(better, found.scales, best.scales),
                np.where(better, found.zeros, best.zeros),
            )
    return best.scales[0], best.zeros[0]


def _far(blocks: Blocks, group: Array) -> Array:
    """How far values are from what they were, by the power that GPTQ's authors take."""
    return np.asarray((np.abs(blocks.restored(len(group)) - group) ** 2.4).sum(axis=0))


# --- AWQ


def row_scales(
    weights: Sequence[Array], inputs: InputStatistics, block_size: int, bits: int, symmetric: bool
) -> Array | None:
    """Factors [K] for the rows of all weights that are multiplied by the same input.

    Lin et al., "AWQ: Activation-aware Weight Quantization" (2023): a row that is multiplied by
    larger inputs is scaled up before it is rounded, and the input down. The factors are powers of
    the mean sizes of the inputs, the power in [0, 1] chosen for the least error of the products.

    Returns:
        float32 factors, or None if none are better than rounding as it is.
    """
    mean = inputs.sizes / max(inputs.count, 1)
    mean = np.where(mean > 0, mean, mean[mean > 0].min(initial=1.0))
    best, least = None, np.inf
    for power in np.arange(0, 1, 0.05):
        factors = mean**power
        factors = (factors / np.sqrt(factors.max() * factors.min())).astype(np.float32)
        error = 0.0
        for each in weights:
            scaled = (each.astype(np.float32) * factors[:, None]).astype(each.dtype)
            found = round_to_nearest(scaled, block_size, bits, symmetric)
            change = found.restored(len(each)) / factors[:, None] - each.astype(np.float32)
            error += float((change * (inputs.gram @ change)).sum())
        if error < least:
            best, least = (factors if power else None), error
    return best
