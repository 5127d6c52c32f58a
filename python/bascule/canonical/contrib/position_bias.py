# SPDX-License-Identifier: Apache-2.0
"""What attention adds to its scores for the distance of query and key."""

from __future__ import annotations

import math

import numpy as np

from bascule.canonical.contrib.attend import heads_apart
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@operator("RelativePositionBias")
def relative_position_bias(
    build: ContribBuilder,
    bias_table: Value,
    query_length: Value,
    key_length: Value,
    *,
    max_distance: int,
    is_bidirectional: int = 0,
) -> Outputs:
    """A bias for each bucket of distances, exact for near keys and logarithmic for far ones.

    The table is stored by columns: its elements are those of ``[heads, buckets]``.
    """
    queries, keys = (build.numbers(each) for each in (query_length, key_length))
    distance = build.op("Sub", build.op("Unsqueeze", queries, build.ints(1)), keys)
    buckets = build.dim(bias_table, 0)
    if is_bidirectional:
        buckets = build.op("Div", buckets, build.ints(2))
        later = build.op("Less", distance, build.ints(0))
        offset = build.op("Where", later, buckets, build.ints(0))
        distance = build.op("Abs", distance)
    else:
        offset = None
        distance = build.op("Max", distance, build.ints(0))
    bucket = build.plus(_bucket(build, distance, buckets, max_distance), offset)
    shape = build.op("Concat", build.dim(bias_table, 1), build.dim(bias_table, 0), axis=0)
    table = build.op("Reshape", bias_table, shape)
    return build.op("Unsqueeze", build.op("Gather", table, bucket, axis=1), build.ints(0))


def _bucket(build: ContribBuilder, distance: Value, buckets: Value, max_distance: int) -> Value:
    """The first half of the buckets is of one distance each."""
    if max_distance < 1:
        raise build.invalid(f"attribute 'max_distance' is {max_distance}, expected at least 1")
    near = build.op("Div", buckets, build.ints(2))
    exact, far = (
        build.cast(each, DataType.FLOAT) for each in (near, build.op("Sub", buckets, near))
    )
    ratio = build.op("Div", build.cast(build.op("Max", distance, near), DataType.FLOAT), exact)
    limit = build.constant(np.array(math.log(max_distance), dtype=np.float32))
    scale = build.op("Div", far, build.op("Sub", limit, build.op("Log", exact)))
    steps = build.cast(build.op("Mul", build.op("Log", ratio), scale), DataType.INT64)
    last = build.op("Sub", buckets, build.ints(1))
    large = build.op("Min", build.op("Add", near, steps), last)
    return build.op("Where", build.op("Less", distance, near), distance, large)


@operator("GatedRelativePositionBias")
def gated_relative_position_bias(
    build: ContribBuilder,
    query_layer: Value,
    query_bias: Value,
    rel_pos: Value,
    weight: Value,
    bias: Value,
    eco_a: Value,
    token_offset: Value | None,
    *,
    num_heads: int,
) -> Outputs:
    """A bias with two gates, which each query opens for each head."""
    if token_offset is not None:
        raise build.not_supported("input 'token_offset'")
    if num_heads < 1:
        raise build.invalid(f"attribute 'num_heads' is {num_heads}, expected a positive number")
    query = heads_apart(build, build.op("Add", query_layer, query_bias), num_heads)
    gates = build.op("Add", build.op("MatMul", query, weight), bias)
    halves = build.op("Reshape", gates, build.ints(0, 0, 0, 2, -1))
    sums = build.op("Sigmoid", build.op("ReduceSum", halves, build.ints(-1), keepdims=0))
    update, reset = build.ops("Split", sums, outputs=2, axis=-1, num_outputs=2)
    one, two = (build.like(number, build.typed(query_layer)) for number in (1.0, 2.0))
    opened = build.op("Sub", build.op("Mul", reset, eco_a), one)
    gate = build.op("Add", build.op("Mul", update, opened), two)
    return build.op("Mul", gate, rel_pos)
