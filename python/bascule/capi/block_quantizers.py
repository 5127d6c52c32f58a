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
    """See bascule.block_quantization.quantize_matmul_nbits."""
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
    """See bascule.block_quantization.quantize_matmul_nbits."""
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
    """See bascule.block_quantization.quantize_matmul_nbits."""
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
    """See bascule.block_quantization.quantize_qdq_matmul_nbits."""
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
    """See bascule.block_quantization.quantize_qdq_matmul_nbits."""
    return quantize_qdq_matmul_nbits(
        packed, weights, scales, zero_points, block_size, columns, rows, symmetric, 4
    )
