# SPDX-License-Identifier: Apache-2.0
"""bascule.block_quantization under the names of onnxruntime's extension module, one a width."""

from __future__ import annotations

from bascule.block_quantization import (
    Array,
    quantize_matmul_bnb4,
    quantize_matmul_nbits,
    quantize_qdq_matmul_nbits,
)

__all__ = [
    "quantize_matmul_2bits",
    "quantize_matmul_4bits",
    "quantize_matmul_8bits",
    "quantize_matmul_bnb4",
    "quantize_qdq_matmul_2bits",
    "quantize_qdq_matmul_4bits",
]


def quantize_matmul_2bits(
    packed: Array,
    weights: Array,
    scales: Array,
    zero_points: Array,
    block_size: int,
    columns: int,
    rows: int,
    symmetric: bool,
) -> None:
    """Quantize weights to 2 bits for MatMulNBits, into the arrays that are passed.

    Args:
        packed: uint8 [N, blocks, block_size * 2 / 8], written.
        weights: float32 or float16 [K, N].
        scales: [N, blocks] of the weights' type, written.
        zero_points: uint8 [N, ceil(blocks * 2 / 8)], written unless `symmetric`.
        block_size: rows in a block.
        columns: N.
        rows: K.
        symmetric: whether the zero point is the middle.
    """
    quantize_matmul_nbits(
        packed, weights, scales, zero_points, block_size, columns, rows, symmetric, 2
    )


def quantize_matmul_4bits(
    packed: Array,
    weights: Array,
    scales: Array,
    zero_points: Array,
    block_size: int,
    columns: int,
    rows: int,
    symmetric: bool,
) -> None:
    """Quantize weights to 4 bits for MatMulNBits, into the arrays that are passed.

    Args:
        packed: uint8 [N, blocks, block_size * 4 / 8], written.
        weights: float32 or float16 [K, N].
        scales: [N, blocks] of the weights' type, written.
        zero_points: uint8 [N, ceil(blocks * 4 / 8)], written unless `symmetric`.
        block_size: rows in a block.
        columns: N.
        rows: K.
        symmetric: whether the zero point is the middle.
    """
    quantize_matmul_nbits(
        packed, weights, scales, zero_points, block_size, columns, rows, symmetric, 4
    )


def quantize_matmul_8bits(
    packed: Array,
    weights: Array,
    scales: Array,
    zero_points: Array,
    block_size: int,
    columns: int,
    rows: int,
    symmetric: bool,
) -> None:
    """Quantize weights to 8 bits for MatMulNBits, into the arrays that are passed.

    Args:
        packed: uint8 [N, blocks, block_size * 8 / 8], written.
        weights: float32 or float16 [K, N].
        scales: [N, blocks] of the weights' type, written.
        zero_points: uint8 [N, ceil(blocks * 8 / 8)], written unless `symmetric`.
        block_size: rows in a block.
        columns: N.
        rows: K.
        symmetric: whether the zero point is the middle.
    """
    quantize_matmul_nbits(
        packed, weights, scales, zero_points, block_size, columns, rows, symmetric, 8
    )


def quantize_qdq_matmul_2bits(
    packed: Array,
    weights: Array,
    scales: Array,
    zero_points: Array,
    block_size: int,
    columns: int,
    rows: int,
    symmetric: bool,
) -> bool:
    """Quantize weights to 2 bits for DequantizeLinear along axis 0, into the arrays passed.

    Args:
        packed: uint8 [K * N * 2 / 8], written: signed integers if `symmetric`, else unsigned.
        weights: float32 or float16 [K, N].
        scales: [blocks, N] of the weights' type, written.
        zero_points: uint8 [blocks * N * 2 / 8], written unless `symmetric`.
        block_size: rows in a block.
        columns: N.
        rows: K.
        symmetric: whether the zero point is the middle.

    Returns:
        Whether the integers are signed.
    """
    return quantize_qdq_matmul_nbits(
        packed, weights, scales, zero_points, block_size, columns, rows, symmetric, 2
    )


def quantize_qdq_matmul_4bits(
    packed: Array,
    weights: Array,
    scales: Array,
    zero_points: Array,
    block_size: int,
    columns: int,
    rows: int,
    symmetric: bool,
) -> bool:
    """Quantize weights to 4 bits for DequantizeLinear along axis 0, into the arrays passed.

    Args:
        packed: uint8 [K * N * 4 / 8], written: signed integers if `symmetric`, else unsigned.
        weights: float32 or float16 [K, N].
        scales: [blocks, N] of the weights' type, written.
        zero_points: uint8 [blocks * N * 4 / 8], written unless `symmetric`.
        block_size: rows in a block.
        columns: N.
        rows: K.
        symmetric: whether the zero point is the middle.

    Returns:
        Whether the integers are signed.
    """
    return quantize_qdq_matmul_nbits(
        packed, weights, scales, zero_points, block_size, columns, rows, symmetric, 4
    )
