# SPDX-License-Identifier: Apache-2.0
"""Self-attention with the projections of query, key and value."""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.multi_head_attention import Masking, Past, attend_over_past
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.rotary_embedding import rotate
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value

_ROTARY_BASE = 10000.0


@operator("Attention")
def attention(
    build: ContribBuilder,
    input: Value,
    weights: Value,
    bias: Value | None,
    mask_index: Value | None,
    past: Value | None,
    attention_bias: Value | None,
    past_sequence_length: Value | None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> Outputs:
    if past is not None and past_present_share_buffer and past_sequence_length is None:
        raise build.invalid(
            "attribute 'past_present_share_buffer' needs input past_sequence_length"
        )
    return attend_projected(
        build,
        project(build, input, weights, bias, num_heads, qkv_hidden_sizes),
        num_heads,
        Masking(mask_index, mask_filter_value, attention_bias, bool(unidirectional)),
        stacked_past(build, past, past_sequence_length if past_present_share_buffer else None),
        scale,
        rotary_embedding_dim if do_rotary else None,
    )


def stacked_past(build: ContribBuilder, past: Value | None, length: Value | None) -> Past | None:
    """Keys and values that lie behind each other in one tensor."""
    if past is None:
        return None
    keys, values = (build.op("Gather", past, build.int_scalar(i), axis=0) for i in range(2))
    return Past(keys, values, length)


def attend_projected(
    build: ContribBuilder,
    projected: list[Value],
    num_heads: int,
    masking: Masking,
    past: Past | None,
    scale: float,
    rotary_size: int | None,
) -> Outputs:
    """The result and the keys and values so far; a `rotary_size` of 0 turns whole heads."""
    query, key, value = projected
    if rotary_size is not None:
        query, key = _rotated(build, (query, key), num_heads, rotary_size, past)
    attended = attend_over_past(build, query, key, value, num_heads, masking, past, None, scale)
    if attended.present_key is None or attended.present_value is None:
        return attended.y
    presents = (attended.present_key, attended.present_value)
    stacked = [build.op("Unsqueeze", each, build.ints(0)) for each in presents]
    return attended.y, build.op("Concat", *stacked, axis=0)


def project(
    build: ContribBuilder,
    input: Value,
    weights: Value,
    bias: Value | None,
    num_heads: int,
    sizes: list[int] | None,
) -> list[Value]:
    """Query, key and value, of the same size unless `sizes` says otherwise."""
    check_projection(build, weights, num_heads, sizes)
    packed = build.plus(build.op("MatMul", input, weights), bias)
    return split_projection(build, packed, sizes)


def check_projection(
    build: ContribBuilder, weights: Value, num_heads: int, sizes: list[int] | None = None
) -> None:
    """Refuse sizes of query, key and value that are not those of the weights or the heads."""
    columns = build.known_dim(weights, 1)
    if sizes is not None and (len(sizes) != 3 or sizes[0] != sizes[1]):
        raise build.invalid(
            f"attribute 'qkv_hidden_sizes' is {sizes}, expected three sizes, those of query and "
            "key being equal"
        )
    if columns is not None and (columns != sum(sizes) if sizes is not None else columns % 3):
        raise build.invalid(f"{columns} columns of the weights are not those of Q, K and V")
    if num_heads < 1 or any(size < 1 or size % num_heads for size in sizes or ()):
        raise build.invalid(f"num_heads ({num_heads}) does not divide {sizes}")


def split_projection(
    build: ContribBuilder, packed: Value, sizes: list[int] | None = None
) -> list[Value]:
    """What `project` gives, of the three side by side."""
    if sizes is None:
        return build.ops("Split", packed, outputs=3, axis=-1, num_outputs=3)
    return build.ops("Split", packed, build.ints(*sizes), outputs=3, axis=-1)


def _rotated(
    build: ContribBuilder, rows: tuple[Value, Value], num_heads: int, size: int, past: Past | None
) -> list[Value]:
    """Query and key, turned by their positions, in halves of a head or of its first elements."""
    query = rows[0]
    if past is None:
        before = build.ints(0)
    elif past.length is None:
        before = build.dim(past.key, 2)
    else:
        before = build.as_vector(build.int64(past.length))
    total = build.op("Add", before, build.dim(query, 1))
    one = build.int_scalar(1)
    positions = build.op("Range", build.as_scalar(before), build.as_scalar(total), one)
    if size:
        pair = build.constant(np.array(size, dtype=np.float32))
    else:
        head = build.op("Div", build.dim(query, 2), build.ints(num_heads))
        pair = build.cast(build.as_scalar(head), DataType.FLOAT)
    zero, two = (build.constant(np.array(each, dtype=np.float32)) for each in (0, 2))
    exponents = build.op("Div", build.op("Range", zero, pair, two), pair)
    base = build.constant(np.array(_ROTARY_BASE, dtype=np.float32))
    column = build.op("Unsqueeze", build.cast(positions, DataType.FLOAT), build.ints(1))
    angles = build.op("Div", column, build.op("Pow", base, exponents))
    cos, sin = (build.op("CastLike", build.op(each, angles), query) for each in ("Cos", "Sin"))
    count = build.op("Shape", positions)
    ids = build.numbers(count)
    ids = build.op("Expand", ids, build.op("Concat", build.dim(query, 0), count, axis=0))
    return [
        rotate(build, each, cos, sin, ids, heads=num_heads, interleaved=0, size=size)
        for each in rows
    ]
