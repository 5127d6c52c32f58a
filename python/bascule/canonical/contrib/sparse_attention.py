# SPDX-License-Identifier: Apache-2.0
"""Attention over a cache, of queries that see some blocks of keys alone."""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.attend import Heads, attend, update_cache
from bascule.canonical.contrib.group_query_attention import (
    Lengths,
    lengths_of,
    rotate_at,
    unpacked,
)
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@operator("SparseAttention")
def sparse_attention(
    build: ContribBuilder,
    query: Value,
    key: Value | None,
    value: Value | None,
    past_key: Value,
    past_value: Value,
    block_row_indices: Value,
    block_col_indices: Value,
    total_sequence_length: Value,
    key_total_sequence_lengths: Value,
    cos_cache: Value | None,
    sin_cache: Value | None,
    *,
    num_heads: int,
    kv_num_heads: int,
    sparse_block_size: int,
    do_rotary: int = 0,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
) -> Outputs:
    if num_heads < 1 or kv_num_heads < 1 or num_heads % kv_num_heads:
        raise build.invalid(
            f"num_heads ({num_heads}) must be a positive multiple of kv_num_heads ({kv_num_heads})"
        )
    if sparse_block_size < 1:
        raise build.invalid(
            f"attribute 'sparse_block_size' is {sparse_block_size}, expected a positive number"
        )
    build.expect_shape("query", query, (None, None, None))
    build.expect_shape("block_row_indices", block_row_indices, (None, None))
    build.expect_shape("block_col_indices", block_col_indices, (None, None))
    layouts = build.known_dim(block_row_indices, 0)
    if layouts is not None and (layouts < 1 or num_heads % layouts):
        raise build.invalid(f"num_heads ({num_heads}) must be a multiple of the {layouts} layouts")
    if (key is None) != (value is None):
        raise build.invalid("key and value must both be given, or none of them")
    if key is None or value is None:
        query, key, value = unpacked(build, query, num_heads, kv_num_heads)
    totals = build.as_vector(build.int64(key_total_sequence_lengths))
    lengths = lengths_of(build, query, totals)
    if do_rotary:
        query, key = rotate_at(
            build,
            (query, num_heads),
            (key, kv_num_heads),
            (cos_cache, sin_cache),
            lengths.positions(build),
            rotary_interleaved,
        )
    total = build.as_vector(build.int64(total_sequence_length))
    key = update_cache(build, past_key, key, lengths.starts, total)
    value = update_cache(build, past_value, value, lengths.starts, total)
    blocks = _blocks(build, block_row_indices, block_col_indices)
    mask = _mask(build, blocks, lengths, key, sparse_block_size, num_heads)
    attended = attend(
        build,
        query,
        key,
        value,
        Heads(num_heads, kv_num_heads),
        mask=mask,
        lengths=lengths.ends,
        cached=True,
        causal=True,
        scale=scale or None,
    )
    return attended.y, key, value


def _blocks(build: ContribBuilder, rows: Value, columns: Value) -> Value:
    """Which blocks are seen, ``[layouts, blocks, blocks]``: `rows` tells where each row of blocks
    begins in `columns`; behind the last one there may be padding."""
    rows, columns = build.int64(rows), build.int64(columns)
    one = build.ints(1)
    count = build.op("Sub", build.op("Shape", rows, start=1, end=2), one)
    places = build.numbers(build.op("Shape", columns, start=1, end=2))
    ends = build.op("Slice", rows, one, build.ints(1 << 31), one)
    passed = build.op(
        "LessOrEqual",
        build.op("Unsqueeze", ends, build.ints(2)),
        places,
    )
    row = build.op("ReduceSum", build.op("Cast", passed, to=int(DataType.INT64)), one, keepdims=0)
    square = build.op("Mul", count, count)
    flat = build.op("Add", build.op("Mul", row, count), columns)
    # Padding goes to a block of its own, which is cut off.
    flat = build.op("Where", build.op("Less", row, count), flat, square)
    layouts = build.op("Shape", rows, start=0, end=1)
    room = build.op("Concat", layouts, build.op("Add", square, one), axis=0)
    zero = Constant.from_numpy(np.zeros(1, dtype=np.int32))
    none = build.op("ConstantOfShape", room, value=zero)
    ones = build.op("Expand", build.constant(np.array(1, dtype=np.int32)), build.op("Shape", flat))
    seen = build.op("ScatterElements", none, flat, ones, axis=1)
    seen = build.op("Slice", seen, build.ints(0), square, one)
    shape = build.op("Concat", layouts, count, count, axis=0)
    return build.op("Cast", build.op("Reshape", seen, shape), to=int(DataType.BOOL))


def _mask(
    build: ContribBuilder,
    blocks: Value,
    lengths: Lengths,
    keys: Value,
    block_size: int,
    num_heads: int,
) -> Value:
    """Which keys are seen, ``[batch, heads, rows, keys]``; the heads take the layouts in turn."""
    size = build.int_scalar(block_size)
    last = build.op("Sub", build.op("Shape", blocks, start=1, end=2), build.ints(1))
    columns = build.op("Div", build.numbers(build.op("Shape", keys, start=2, end=3)), size)
    rows = build.op("Div", lengths.positions(build), size)
    seen = build.op("Gather", blocks, build.op("Min", columns, last), axis=2)
    seen = build.op("Gather", seen, build.op("Min", rows, last), axis=1)
    seen = build.op("Transpose", seen, perm=[1, 0, 2, 3])
    layouts = build.op("Shape", blocks, start=0, end=1)
    times = build.op("Div", build.ints(num_heads), layouts)
    return build.op(
        "Tile", seen, build.op("Concat", build.ints(1), times, build.ints(1, 1), axis=0)
    )
