# SPDX-License-Identifier: Apache-2.0
"""Products with, and rows of, weights of 2 to 8 bits, several of which may share a byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bascule.canonical.builder import Builder, known_constant
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType


@operator("MatMulNBits")
def matmul_nbits(
    build: ContribBuilder,
    A: Value,
    B: Value,
    scales: Value,
    zero_points: Value | None,
    g_idx: Value | None,
    bias: Value | None,
    *,
    K: int,
    N: int,
    block_size: int,
    bits: int = 4,
    accuracy_level: int = 0,
    weight_prepacked: int = 0,
) -> Outputs:
    """`accuracy_level` allows a product of less precision than A has, which is not made use of."""
    if weight_prepacked:
        raise build.not_supported("weights in the layout of another provider")
    if bits not in (2, 4, 8):
        raise build.invalid(f"attribute 'bits' is {bits}, expected 2, 4 or 8")
    _check_blocks(build, K, N, block_size)
    stored = build.typed(B).static_shape
    count = N * -(-K // block_size) * (block_size * bits // 8)
    if stored is not None and math.prod(stored) != count:
        raise build.invalid(f"B has {math.prod(stored)} bytes, expected {count} for {N} x {K}")
    inputs = (A, B, scales, zero_points, g_idx, bias)
    return product(build, *inputs, K=K, N=N, block_size=block_size, bits=bits)


def _check_blocks(build: ContribBuilder, K: int, N: int, block_size: int) -> None:
    if K < 1 or N < 1 or block_size < 16 or block_size & (block_size - 1):
        raise build.invalid(
            f"K is {K}, N is {N} and block_size is {block_size}, expected positive sizes and a "
            "power of 2 from 16 up"
        )


def product(
    build: ContribBuilder, A: Value, *inputs: Value | None, N: int, **attributes: Any
) -> Value:
    """`A` times weights that stay packed: the fused operator MatMulNBits."""
    (y,) = build.fused("MatMulNBits", A, *inputs, N=N, **attributes)
    known = build.typed(A).type
    if isinstance(known, TensorType):
        shape = None if known.shape is None else (*known.shape[:-1], N)
        build.give_type(y, TensorType(known.dtype, shape))
    return y


_FP4_SIZES = (0.0, 1 / 192, 2 / 3, 1.0, 1 / 3, 1 / 2, 1 / 6, 1 / 4)
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
MEANINGS = ((*_FP4_SIZES, *(-each for each in _FP4_SIZES)), _NF4)
"""What the patterns of 4 bits stand for, by `quant_type`: FP4 or NF4."""


@operator("MatMulBnb4")
def matmul_bnb4(
    build: ContribBuilder,
    A: Value,
    B: Value,
    absmax: Value,
    *,
    K: int,
    N: int,
    block_size: int,
    quant_type: int,
    training_mode: int = 0,
    transB: int = 1,
) -> Outputs:
    """Of two weights in a byte the first is in the upper bits; rows are not padded to blocks."""
    if quant_type not in (0, 1):
        raise build.invalid(f"attribute 'quant_type' is {quant_type}, expected 0 or 1")
    _check_blocks(build, K, N, block_size)
    four = build.constant(np.array(4, np.uint8))
    upper, lower = (build.op("BitShift", B, four, direction=to) for to in ("RIGHT", "LEFT"))
    in_order = build.op("BitwiseOr", upper, lower)
    if transB and K % block_size == 0:
        blocks = K // block_size
        return product(
            build,
            A,
            build.op("Reshape", in_order, build.ints(N, blocks, block_size // 2)),
            build.op("Reshape", absmax, build.ints(N, blocks)),
            K=K,
            N=N,
            block_size=block_size,
            bits=4,
            values=list(MEANINGS[quant_type]),
        )
    table = build.like(np.array(MEANINGS[quant_type]), build.typed(absmax))
    index = build.op("Cast", unpacked(build, in_order, 4), to=int(DataType.INT32))
    weights = build.op("Gather", table, index, axis=0)
    count = N * K
    whole = -(-count // block_size) * block_size
    missing = build.ints(0, whole - (count + 1) // 2 * 2)
    rows = build.op("Reshape", build.op("Pad", weights, missing), build.ints(-1, block_size))
    rows = build.op("Mul", rows, build.op("Unsqueeze", absmax, build.ints(1)))
    flat = build.op("Reshape", rows, build.ints(-1))
    flat = build.op("Slice", flat, build.ints(0), build.ints(count), build.ints(0))
    matrix = build.op("Reshape", flat, build.ints(N, K))
    if transB:
        matrix = build.op("Transpose", matrix, perm=[1, 0])
    return build.op("MatMul", A, matrix)


_Q4_BLOCK = 32


@operator("MatMulFpQ4")
def matmul_fp_q4(
    build: ContribBuilder, A: Value, B: Value, B_shape: Value, *, blk_quant_type: int = 1
) -> Outputs:
    """Blocks of a scale, maybe a byte for the zero point, and 32 weights.

    Of two weights in a byte the one in the upper bits stands in the second half of the block.
    """
    if blk_quant_type not in (0, 1):
        raise build.not_supported(f"a 'blk_quant_type' of {blk_quant_type}")
    blob, shape = known_constant(B), known_constant(B_shape)
    if blob is None or shape is None:
        raise build.not_supported("a weight that is computed")
    if shape.shape != (2,) or min(shape) < 1:
        raise build.invalid(f"input 'B_shape' is {shape.tolist()}, expected two positive sizes")
    K, N = (int(size) for size in shape)
    count = -(-K // _Q4_BLOCK)
    start = 4 + blk_quant_type
    size = start + _Q4_BLOCK // 2
    if blob.size != N * count * size:
        raise build.invalid(
            f"input 'B' has {blob.size} bytes, expected {N * count * size} for the shape {[K, N]}"
        )
    blocks = blob.reshape(N, count, size)
    scales = np.ascontiguousarray(blocks[..., :4]).view("<f4")[..., 0].astype(np.float32)
    halves = blocks[..., start:]
    numbers = np.concatenate([halves & 15, halves >> 4], axis=-1)
    pairs = numbers[..., ::2] | numbers[..., 1::2] << 4
    zeros = None
    if blk_quant_type:
        zeros = build.constant(blocks[..., 4].astype(np.float32))
    return product(
        build,
        A,
        build.constant(pairs),
        build.constant(scales),
        zeros,
        K=K,
        N=N,
        block_size=_Q4_BLOCK,
        bits=4,
    )


_GATHERED_AS = {DataType.INT4: DataType.INT8, DataType.UINT4: DataType.UINT8}
"""Gather takes nothing narrower than a byte."""


@operator("GatherBlockQuantized")
def gather_block_quantized(
    build: ContribBuilder,
    data: Value,
    indices: Value,
    scales: Value,
    zero_points: Value | None,
    *,
    bits: int = 4,
    block_size: int = 128,
    gather_axis: int = 0,
    quantize_axis: int = 1,
) -> Outputs:
    """What is gathered is dequantized, never the whole; an index out of range gives zeros."""
    rank = build.typed(data).rank
    if rank is None:
        raise build.not_supported("data of an unknown rank")
    if rank == 0:
        raise build.invalid("data has no axes")
    gathered, quantized = gather_axis % rank, quantize_axis % rank
    packed = data.dtype is DataType.UINT8
    if not packed and data.dtype not in _GATHERED_AS:
        raise build.not_supported(f"data of type {data.type}")
    if gathered == quantized:
        raise build.not_supported("gathering along the axis that is quantized")
    size = build.as_scalar(build.dim(data, gathered))
    index = build.int64(indices)
    below = build.op("Less", index, size)
    inside = build.op("And", below, build.op("GreaterOrEqual", index, build.op("Neg", size)))
    safe = build.op("Where", inside, index, build.int_scalar(0))

    def rows(x: Value) -> Value:
        if x.dtype in _GATHERED_AS:
            x = build.op("Cast", x, to=int(_GATHERED_AS[x.dtype]))
        return build.op("Gather", x, safe, axis=gathered)

    parts, factors = rows(data), rows(scales)
    zeros = None if zero_points is None else rows(zero_points)
    if packed and bits < 8:
        parts = unpacked(build, parts, bits)
        if zeros is not None:
            ends = build.dim(factors, -1)
            zeros = unpacked(build, zeros, bits)
            zeros = build.op("Slice", zeros, build.ints(0), ends, build.ints(-1))
    if packed and zeros is None:
        middle = build.constant(np.array(1 << (bits - 1), np.uint8))
        zeros = build.op("Expand", middle, build.op("Shape", factors))
    # Behind the gathered axis, axes keep their distance from the end.
    axis = quantized - rank if quantized > gathered else quantized
    numbers = build.op("DequantizeLinear", parts, factors, zeros, axis=axis, block_size=block_size)
    trailing = rank - 1 - gathered
    known = build.op("Unsqueeze", inside, build.ints(*range(-trailing, 0))) if trailing else inside
    return build.op("Where", known, numbers, build.like(0, scales))


def unpacked(build: Builder, x: Value, bits: int) -> Value:
    """The numbers of `bits` bits in the bytes of the last axis, the lowest first."""
    mask = build.constant(np.array((1 << bits) - 1, np.uint8))
    pieces = []
    for shift in range(0, 8, bits):
        moved = x
        if shift:
            by = build.constant(np.array(shift, np.uint8))
            moved = build.op("BitShift", x, by, direction="RIGHT")
        pieces.append(build.op("Unsqueeze", build.op("BitwiseAnd", moved, mask), build.ints(-1)))
    apart = build.op("Concat", *pieces, axis=-1)
    front = build.op("Shape", x, end=-1)
    return build.op("Reshape", apart, build.op("Concat", front, build.ints(-1), axis=0))
