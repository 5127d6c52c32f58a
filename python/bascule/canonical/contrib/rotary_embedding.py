# SPDX-License-Identifier: Apache-2.0
"""Rotary position embeddings."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value


@operator("RotaryEmbedding")
def rotary_embedding(
    build: ContribBuilder,
    input: Value,
    position_ids: Value,
    cos_cache: Value,
    sin_cache: Value,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Outputs:
    """Packed batches only lift a limit on the length; no implementation applies the scale."""
    four_axes = build.rank_of(input, 3) == 4
    if build.rank_of(position_ids, 2) < 2:
        position_ids = counted_from(build, position_ids, input, 2 if four_axes else 1)
    if four_axes or num_heads:
        return rotate(
            build,
            input,
            cos_cache,
            sin_cache,
            position_ids,
            heads=0 if four_axes else num_heads,
            interleaved=interleaved,
            size=rotary_embedding_dim,
        )
    return _rotate_with_heads_of_the_cache(
        build, input, cos_cache, sin_cache, position_ids, interleaved
    )


def rotate(
    build: ContribBuilder,
    x: Value,
    cos_cache: Value,
    sin_cache: Value,
    position_ids: Value,
    *,
    heads: int,
    interleaved: int,
    size: int,
) -> Value:
    """The standard's operator; `heads` for an x of three axes, `size` if not all is rotated."""
    y = build.op(
        "RotaryEmbedding",
        x,
        cos_cache,
        sin_cache,
        position_ids,
        interleaved=interleaved,
        num_heads=heads,
        rotary_embedding_dim=size,
    )
    return build.give_type(y, x.type)


def counted_from(build: ContribBuilder, first: Value, x: Value, axis: int) -> Value:
    """Positions for every row of x along `axis`, from the one number in `first` on."""
    count = build.dim(x, axis)
    zero, one = build.int_scalar(0), build.int_scalar(1)
    steps = build.op("Range", zero, build.op("Squeeze", count), one)
    shape = build.op("Concat", build.dim(x, 0), count, axis=0)
    return build.op("Expand", build.op("Add", build.as_vector(first), steps), shape)


def _rotate_with_heads_of_the_cache(
    build: ContribBuilder,
    x: Value,
    cos_cache: Value,
    sin_cache: Value,
    position_ids: Value,
    interleaved: int,
) -> Value:
    """x has three axes, and a head is twice as long as a row of the caches."""
    hidden, half = build.known_dim(x, 2), build.known_dim(cos_cache, 1)
    if hidden is not None and half:
        heads = hidden // (2 * half)
        return rotate(
            build,
            x,
            cos_cache,
            sin_cache,
            position_ids,
            heads=heads,
            interleaved=interleaved,
            size=0,
        )
    size = build.op("Mul", build.dim(cos_cache, 1), build.ints(2))
    split = build.op("Concat", build.ints(0, 0, -1), size, axis=0)
    four = build.op("Transpose", build.op("Reshape", x, split), perm=[0, 2, 1, 3])
    four = rotate(
        build, four, cos_cache, sin_cache, position_ids, heads=0, interleaved=interleaved, size=0
    )
    return build.op(
        "Reshape", build.op("Transpose", four, perm=[0, 2, 1, 3]), build.shape(build.typed(x))
    )
