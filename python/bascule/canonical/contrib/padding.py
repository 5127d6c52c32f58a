# SPDX-License-Identifier: Apache-2.0
"""Sequences without their padding, one behind the other, and attention among their tokens.

`token_offset`, ``[batch, rows]``, tells where each token was before, and then where padding was.
"""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.attend import Heads, attend
from bascule.canonical.contrib.attention import project
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@operator("RemovePadding")
def remove_padding(build: ContribBuilder, input: Value, sequence_token_count: Value) -> Outputs:
    counts = build.op("Unsqueeze", build.int64(sequence_token_count), build.ints(1))
    zero = build.int_scalar(0)
    steps = build.numbers(build.dim(input, 1))
    is_token = build.op("Less", steps, counts)
    tokens, padding = (
        build.op("Squeeze", build.op("NonZero", build.as_vector(each)), build.ints(0))
        for each in (is_token, build.op("Not", is_token))
    )
    rows = build.op("Reshape", input, _joined(build, build.ints(-1), build.dim(input, 2)))
    offsets = build.op("Reshape", _joined(build, tokens, padding), build.op("Shape", is_token))
    sums = build.op("CumSum", sequence_token_count, zero)
    first = build.constant(np.zeros(1, dtype=np.int32))
    return (
        build.op("Gather", rows, tokens, axis=0),
        build.op("Cast", offsets, to=int(DataType.INT32)),
        _joined(build, first, sums),
        build.op("ReduceMax", sequence_token_count, keepdims=1),
    )


@operator("RestorePadding")
def restore_padding(build: ContribBuilder, input: Value, token_offset: Value) -> Outputs:
    return _unpacked(build, input, token_offset)


@operator("PackedAttention")
def packed_attention(
    build: ContribBuilder,
    input: Value,
    weights: Value,
    bias: Value,
    token_offset: Value,
    cumulative_sequence_length: Value,
    attention_bias: Value | None,
    *,
    num_heads: int,
    qkv_hidden_sizes: list[int] | None = None,
    scale: float = 0.0,
) -> Outputs:
    rows = project(build, input, weights, bias, num_heads, qkv_hidden_sizes)
    return _attend(
        build,
        rows,
        token_offset,
        cumulative_sequence_length,
        attention_bias,
        num_heads,
        scale,
    )


@operator("PackedMultiHeadAttention")
def packed_multi_head_attention(
    build: ContribBuilder,
    query: Value,
    key: Value | None,
    value: Value | None,
    bias: Value | None,
    token_offset: Value,
    cumulative_sequence_length: Value,
    attention_bias: Value | None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    scale: float = 0.0,
) -> Outputs:
    if (key is None) != (value is None):
        raise build.invalid("key and value must both be given")
    if key is None or value is None:  # beside each other in each head
        parts = build.ops("Split", query, outputs=3, axis=2, num_outputs=3)
        rows = [build.op("Reshape", part, build.ints(0, -1)) for part in parts]
    else:
        rows = [query, key, value]
    if bias is not None:
        sizes = build.op("Concat", *(build.dim(each, 1) for each in rows), axis=0)
        biases = build.ops("Split", bias, sizes, outputs=3)
        rows = [build.op("Add", row, each) for row, each in zip(rows, biases)]
    return _attend(
        build,
        rows,
        token_offset,
        cumulative_sequence_length,
        attention_bias,
        num_heads,
        scale,
    )


def _attend(
    build: ContribBuilder,
    rows: list[Value],
    token_offset: Value,
    cumulative: Value,
    bias: Value | None,
    num_heads: int,
    scale: float,
) -> Value:
    """Among the tokens of each sequence; the result is packed again."""
    if num_heads < 1:
        raise build.invalid(f"attribute 'num_heads' is {num_heads}, expected a positive number")
    sums = build.int64(cumulative)
    zero, one = build.ints(0), build.ints(1)
    begins = build.op("Slice", sums, zero, build.ints(-1))
    ends = build.op("Slice", sums, one, build.op("Shape", sums))
    query, key, value = (_unpacked(build, each, token_offset) for each in rows)
    attended = attend(
        build,
        query,
        key,
        value,
        Heads(num_heads, num_heads),
        mask=bias,
        lengths=build.op("Sub", ends, begins),
        scale=scale or None,
    )
    size = build.op("Shape", attended.y, start=2)
    flat = build.op("Reshape", attended.y, _joined(build, build.ints(-1), size))
    count = build.op("Slice", sums, build.ints(-1), build.op("Shape", sums))
    tokens = build.op("Slice", build.op("Reshape", token_offset, build.ints(-1)), zero, count)
    return build.op("Gather", flat, tokens, axis=0)


def _unpacked(build: ContribBuilder, rows: Value, token_offset: Value) -> Value:
    """``[tokens, size]`` as ``[batch, rows, size]``, with zeros for padding."""
    batch = build.op("Shape", token_offset)
    size, count = build.dim(rows, 1), build.dim(rows, 0)
    offsets = build.op("Reshape", build.int64(token_offset), build.ints(-1))
    tokens = build.op("Slice", offsets, build.ints(0), count)
    empty = Constant.from_numpy(np.zeros(1, dtype=np.float32))
    places = _joined(build, build.op("ReduceProd", batch), size)
    zeros = build.op("CastLike", build.op("ConstantOfShape", places, value=empty), rows)
    index = build.op("Unsqueeze", tokens, build.ints(1))
    filled = build.op("ScatterND", zeros, index, rows)
    return build.op("Reshape", filled, _joined(build, batch, size))


def _joined(build: ContribBuilder, *vectors: Value) -> Value:
    return build.op("Concat", *vectors, axis=0)
