# SPDX-License-Identifier: Apache-2.0
"""Weights of matrix products quantized in blocks, as com.microsoft's MatMulNBits, MatMulBnb4 and
DequantizeLinear with a block size read them.

A block of values v has a scale s and a zero point z, and v is about s * (q - z). Symmetric: z is
the middle, 2**(bits - 1), and s = m / -2**(bits - 1) for the value m of the greatest size, so that
m is met. Else s = (max - min) / (2**bits - 1) over the block and zero, and z = round(-min / s).
Rounding is half away from zero. Formulas: onnxruntime's contrib operator documentation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _round(values: Array) -> Array:
    """To the nearest integer, halves away from zero."""
    rounded: Array = np.trunc(values + np.copysign(np.float32(0.5), values))
    # What is just below a half is not to be pushed over it by the sum.
    return np.where(np.abs(values) < 0.5, np.float32(0), rounded)


def quantize_blocks(
    weights: Array, block_size: int, bits: int, symmetric: bool
) -> tuple[Array, Array, Array]:
    """Quantize the columns of [K, N] weights in blocks of `block_size` rows; the last may be short.

    Returns:
        uint8 [blocks, block_size, N] values, of which those past K are 0; scales [blocks, N] of
        the weights' type; uint8 [blocks, N] zero points.
    """
    rows, columns = weights.shape
    blocks = -(-rows // block_size)
    middle, top = 1 << (bits - 1), (1 << bits) - 1
    padded = np.zeros((blocks * block_size, columns), np.float32)
    padded[:rows] = weights
    values = padded.reshape(blocks, block_size, columns)
    low, high = values.min(axis=1), values.max(axis=1)
    if symmetric:
        scale = np.where(np.abs(low) >= np.abs(high), low, high) / np.float32(-middle)
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = (high - low) / np.float32(top)
    exact, scale = scale, scale.astype(weights.dtype).astype(np.float32)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    if symmetric:
        zero = np.full_like(scale, middle)
    else:
        ratio = np.divide(-low, exact, out=np.zeros_like(scale), where=exact != 0)
        zero = np.clip(_round(ratio), 0, top)
    quantized = np.clip(_round(values * inverse[:, None] + zero[:, None]), 0, top)
    quantized.reshape(-1, columns)[rows:] = 0
    return quantized.astype(np.uint8), scale.astype(weights.dtype), zero.astype(np.uint8)


def pack(values: Array, bits: int, fill: int = 0) -> Array:
    """uint8 values along the last axis packed into bytes, the first one in the lowest bits.

    `fill` takes the places that are left over at the end.
    """
    per_byte = 8 // bits
    count = values.shape[-1]
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -count % per_byte)]
    groups = np.pad(values, padding, constant_values=fill).reshape(*values.shape[:-1], -1, per_byte)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: Array = np.bitwise_or.reduce((groups & ((1 << bits) - 1)) << shifts, axis=-1)
    return packed.astype(np.uint8)


def quantize_matmul_nbits(
    packed: Array,
    weights: Array,
    scales: Array,
    zero_points: Array,
    block_size: int,
    columns: int,
    rows: int,
    symmetric: bool,
    bits: int,
) -> None:
    """Quantize [K, N] weights for MatMulNBits, into the arrays that are passed.

    Args:
        packed: uint8 [N, blocks, block_size * bits / 8], written.
        weights: float32 or float16 [K, N].
        scales: [N, blocks] of the weights' type, written.
        zero_points: uint8 [N, ceil(blocks * bits / 8)], written unless `symmetric`.
        block_size: rows in a block.
        columns: N.
        rows: K.
        symmetric: whether the zero point is the middle.
        bits: 2, 4 or 8.
    """
    found, scale, zero = quantize_blocks(
        _of_shape(weights, rows, columns), block_size, bits, symmetric
    )
    packed[...] = pack(found.transpose(2, 0, 1), bits).reshape(packed.shape)
    scales[...] = scale.T.reshape(scales.shape)
    if not symmetric:
        zero_points[...] = pack(zero.T, bits, 1 << (bits - 1)).reshape(zero_points.shape)


def quantize_qdq_matmul_nbits(
    packed: Array,
    weights: Array,
    scales: Array,
    zero_points: Array,
    block_size: int,
    columns: int,
    rows: int,
    symmetric: bool,
    bits: int,
) -> bool:
    """Quantize [K, N] weights for DequantizeLinear along axis 0, into the arrays that are passed.

    Args:
        packed: uint8 [K * N * bits / 8], written: signed integers if `symmetric`, else unsigned.
        weights: float32 or float16 [K, N].
        scales: [blocks, N] of the weights' type, written.
        zero_points: uint8 [blocks * N * bits / 8], written unless `symmetric`.
        block_size: rows in a block.
        columns: N.
        rows: K.
        symmetric: whether the zero point is the middle.
        bits: 2 or 4.

    Returns:
        Whether the integers are signed.
    """
    found, scale, zero = quantize_blocks(
        _of_shape(weights, rows, columns), block_size, bits, symmetric
    )
    flat = found.reshape(-1, columns)[:rows].reshape(-1)
    if symmetric:
        flat = flat - np.uint8(1 << (bits - 1))  # wraps to the two's complement
    packed[...] = pack(flat, bits).reshape(packed.shape)
    scales[...] = scale.reshape(scales.shape)
    if not symmetric:
        zero_points[...] = pack(zero.reshape(-1), bits).reshape(zero_points.shape)
    return symmetric


def quantize_matmul_bnb4(
    packed: Array,
    weights: Array,
    largest: Array,
    block_size: int,
    quant_type: int,
    columns: int,
    rows: int,
) -> None:
    """Quantize transposed weights [N, K] for MatMulBnb4, into the arrays that are passed.

    Args:
        packed: uint8 [ceil(N * K / 2)], written; the first of two values is in the high bits.
        weights: float32 or float16 [N, K], read in this order.
        largest: [blocks] of the weights' type, written: the greatest size in each block.
        block_size: values in a block.
        quant_type: 0 for FP4, 1 for NF4.
        columns: N.
        rows: K.
    """
    from bascule.canonical.contrib.packed_weights import MEANINGS  # with which comes all of onnx

    meanings = np.array(MEANINGS[quant_type], np.float32)
    flat = np.asarray(weights, np.float32).reshape(-1)
    blocks = -(-flat.size // block_size)
    values = np.zeros((blocks, block_size), np.float32)
    values.reshape(-1)[: flat.size] = flat
    top = np.abs(values).max(axis=1)
    inverse = np.divide(np.float32(1), top, out=np.zeros_like(top), where=top != 0)
    values *= inverse[:, None]
    if quant_type == 0:  # a sign, and eight sizes
        codes = _nearest(np.abs(values), meanings[:8]) + 8 * (values < 0)
    else:
        codes = _nearest(values, meanings)
    pairs = codes.reshape(-1).astype(np.uint8)[: flat.size + flat.size % 2]
    pairs = np.pad(pairs, (0, flat.size + flat.size % 2 - pairs.size))
    packed[...] = (pairs[0::2] << 4 | pairs[1::2]).reshape(packed.shape)
    largest[...] = top.astype(largest.dtype).reshape(largest.shape)


def _nearest(values: Array, meanings: Array) -> Array:
    """The number of the meaning that is nearest to each value."""
    order = np.argsort(meanings, kind="stable")
    borders = (meanings[order][1:] + meanings[order][:-1]) / np.float32(2)
    found: Array = order[np.searchsorted(borders, values, side="left")]
    return found


def _of_shape(weights: Array, rows: int, columns: int) -> Array:
    if weights.size != rows * columns:
        raise ValueError(f"weights {list(weights.shape)} are not [{rows}, {columns}]")
    return weights.reshape(rows, columns)
