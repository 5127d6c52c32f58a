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


@operator("MRotaryEmbedding")
def m_rotary_embedding(
    build: ContribBuilder,
    input: Value,
    position_ids: Value,
    cos_cache: Value,
    sin_cache: Value,
    *,
    mrope_section: list[int],
    interleaved: int = 0,
    is_packed_batching: int = 0,
    mrope_layout: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Outputs:
    """Each column of the caches belongs to one of the three positions that a token has."""
    four_axes = build.rank_of(input, 3) == 4
    if not four_axes and num_heads < 1:
        raise build.invalid("input 'input' of rank 3 needs attribute 'num_heads'")
    places = _places_of_columns(build, mrope_section, mrope_layout)
    for name, cache in (("cos_cache", cos_cache), ("sin_cache", sin_cache)):
        columns = build.known_dim(cache, 1)
        if columns not in (None, len(places)):
            raise build.invalid(
                f"input '{name}' has {columns} columns, but the sections {mrope_section} are of "
                f"{len(places)}"
            )
    ids = build.ops("Split", position_ids, outputs=3, axis=0, num_outputs=3)
    ids = [build.op("Squeeze", each, build.ints(0)) for each in ids]
    cos, sin = (_rows_of_positions(build, cache, ids, places) for cache in (cos_cache, sin_cache))
    if scale != 1:
        cos, sin = (
            build.op("Mul", each, build.like(scale, build.typed(each))) for each in (cos, sin)
        )
    return rotate(
        build,
        input,
        cos,
        sin,
        None,
        heads=0 if four_axes else num_heads,
        interleaved=interleaved,
        size=rotary_embedding_dim,
    )


def _places_of_columns(build: ContribBuilder, sections: list[int], layout: int) -> list[int]:
    """Which of its three positions rotates each column."""
    if len(sections) != 3 or min(sections) < 0:
        raise build.invalid(
            f"attribute 'mrope_section' is {sections}, expected three numbers of columns"
        )
    if layout == 0:
        return [place for place, count in enumerate(sections) for _ in range(count)]
    if layout != 1:
        raise build.invalid(f"attribute 'mrope_layout' is {layout}, expected 0 or 1")
    places = [0] * sum(sections)
    for place in (1, 2):
        for column in range(place, min(3 * sections[place], len(places)), 3):
            places[column] = place
    return places


def _rows_of_positions(
    build: ContribBuilder, cache: Value, ids: list[Value], places: list[int]
) -> Value:
    """``[batch, tokens, columns]``, the row of each token."""
    order = [
        column for place in range(3) for column in range(len(places)) if places[column] == place
    ]
    parts = []
    for place in sorted(set(places)):
        columns = [column for column in order if places[column] == place]
        own = (
            cache
            if len(columns) == len(places)
            else build.op("Gather", cache, build.ints(*columns), axis=1)
        )
        parts.append(build.op("Gather", own, ids[place], axis=0))
    rows = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=2)
    if order != sorted(order):
        back = [order.index(column) for column in range(len(order))]
        rows = build.op("Gather", rows, build.ints(*back), axis=2)
    return rows


def rotate(
    build: ContribBuilder,
    x: Value,
    cos_cache: Value,
    sin_cache: Value,
    position_ids: Value | None,
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
    steps = build.numbers(count)
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


@operator("GemmaRotaryEmbedding")
def gemma_rotary_embedding(
    build: ContribBuilder, emb: Value, q: Value, q_rot: Value, k: Value, k_rot: Value
) -> Outputs:
    """By angles, for all heads the same, of queries and keys of which halves are turned already."""
    angles = build.op("Unsqueeze", emb, build.ints(1))
    cos, sin = (build.op("CastLike", build.op(each, angles), q) for each in ("Cos", "Sin"))
    return tuple(
        build.op("Add", build.op("Mul", x, cos), build.op("Mul", turned, sin))
        for x, turned in ((q, q_rot), (k, k_rot))
    )
