# SPDX-License-Identifier: Apache-2.0
"""Attention of heads that have keys and values of their own, which may be packed."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from bascule.canonical.contrib.attend import Attended, Heads, attend, update_cache
from bascule.canonical.contrib.masks import padding_mask
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value

_MASKED = 2
"""The stage of the scores that is shown: after all masks."""


@dataclass
class Past:
    """Keys and values of rows before, ``[batch, heads, rows, size]``.

    With a `length`, a vector of one element, that many rows are valid, and new ones are put behind
    them in the same memory.
    """

    key: Value
    value: Value
    length: Value | None = None


@dataclass
class Masking:
    """What is added to the scores, and which keys are left out."""

    padding: Value | None
    filter_value: float
    bias: Value | None
    causal: bool = False


@operator("MultiHeadAttention")
def multi_head_attention(
    build: ContribBuilder,
    query: Value,
    key: Value | None,
    value: Value | None,
    bias: Value | None,
    key_padding_mask: Value | None,
    attention_bias: Value | None,
    past_key: Value | None,
    past_value: Value | None,
    past_sequence_length: Value | None,
    cache_indirection: Value | None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> Outputs:
    query, key, value = _separate(build, query, key, value, num_heads)
    masking = Masking(key_padding_mask, mask_filter_value, attention_bias, bool(unidirectional))
    attended = attend_over_past(
        build,
        *_with_bias(build, query, key, value, bias),
        num_heads,
        masking,
        _past(build, past_key, past_value, past_sequence_length),
        cache_indirection,
        scale,
    )
    return attended.y, attended.present_key, attended.present_value, attended.scores


@operator("DecoderMaskedMultiHeadAttention")
def decoder_masked_multi_head_attention(
    build: ContribBuilder,
    query: Value,
    key: Value | None,
    value: Value | None,
    mask_index: Value | None,
    attention_bias: Value | None,
    past_key: Value | None,
    past_value: Value | None,
    past_sequence_length: Value | None,
    beam_width: Value | None,
    cache_indirection: Value | None,
    bias: Value | None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    output_qk: int = 0,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
) -> Outputs:
    """One query for each sample. How many beams there are, the indirection tells as well."""
    if past_key is not None and past_present_share_buffer and past_sequence_length is None:
        raise build.invalid(
            "attribute 'past_present_share_buffer' needs input past_sequence_length"
        )
    if not past_present_share_buffer:
        past_sequence_length = None
    query, key, value = _separate(build, query, key, value, num_heads)
    attended = attend_over_past(
        build,
        *_with_bias(build, query, key, value, bias),
        num_heads,
        Masking(mask_index, mask_filter_value, attention_bias),
        _past(build, past_key, past_value, past_sequence_length),
        cache_indirection,
        scale,
    )
    return attended.y, attended.present_key, attended.present_value, attended.scores


def attend_over_past(
    build: ContribBuilder,
    query: Value,
    key: Value,
    value: Value,
    num_heads: int,
    masking: Masking,
    past: Past | None,
    cache_indirection: Value | None,
    scale: float,
) -> Attended:
    """`query` has three axes; so have key and value, unless all of them were computed before."""
    if num_heads < 1:
        raise build.invalid(f"attribute 'num_heads' is {num_heads}, expected a positive number")
    cached = build.rank_of(key, 3) == 4
    if cached and past is not None:
        raise build.invalid("key and value of four axes are used without a past")
    new = build.dim(key, 2 if cached else 1)
    total, before, present, lengths = new, None, None, None
    if past is not None and past.length is not None:
        before = build.as_vector(build.int64(past.length))
        total = build.op("Add", before, new)
        batch = build.dim(query, 0)
        starts, lengths = (build.op("Expand", each, batch) for each in (before, total))
        key = update_cache(build, past.key, key, starts, total)
        value = update_cache(build, past.value, value, starts, total)
        present, past, cached = (key, value), None, True
        if cache_indirection is not None:
            key, value = (
                _rows_of_beams(build, each, cache_indirection, before) for each in (key, value)
            )
    elif past is not None:
        before = build.dim(past.key, 2)
        total = build.op("Add", before, new)
    mask = masking.bias
    if masking.padding is not None:
        added = padding_mask(build, masking.padding, query, total, masking.filter_value, before)
        mask = build.plus(added, mask)
    attended = attend(
        build,
        query,
        key,
        value,
        Heads(num_heads, num_heads),
        mask=mask,
        past_key=None if past is None else past.key,
        past_value=None if past is None else past.value,
        lengths=lengths,
        cached=cached,
        presents=not cached and (past is not None or build.wants(1) or build.wants(2)),
        causal=masking.causal,
        scale=scale or None,
        scores_mode=_MASKED if build.wants(3) else None,
    )
    attended.scores = _shown(build, attended.scores, query)
    if present is not None:
        attended.present_key, attended.present_value = present
    return attended


def _shown(build: ContribBuilder, scores: Value | None, query: Value) -> Value | None:
    """Keys that are left out show the lowest number; the scores may be of a type of their own."""
    dtype = build.typed(query).dtype
    if scores is None or dtype is None:
        return scores
    lowest = float(ml_dtypes.finfo(dtype.numpy).min)
    scores = build.op("Max", scores, build.constant(np.array(lowest, dtype=dtype.numpy)))
    declared = build.node.outputs[3].dtype
    if declared is None or declared is dtype:
        return scores
    return build.op("Cast", scores, to=int(declared))


def _past(
    build: ContribBuilder, key: Value | None, value: Value | None, length: Value | None
) -> Past | None:
    if (key is None) != (value is None):
        raise build.invalid("past_key and past_value must both be given")
    return None if key is None or value is None else Past(key, value, length)


def _separate(
    build: ContribBuilder, query: Value, key: Value | None, value: Value | None, num_heads: int
) -> tuple[Value, Value, Value]:
    """Query, key and value that may stand in one tensor."""
    if key is None and value is not None:
        raise build.invalid("input 'key' is missing")
    if key is None:
        if build.rank_of(query, 5) == 3:  # one after the other in each row
            parts = build.ops("Split", query, outputs=3, axis=2, num_outputs=3)
        else:  # beside each other in each head
            parts = _of_heads(build, query, 3)
        return parts[0], parts[1], parts[2]
    if value is None:
        if build.rank_of(key, 5) != 5:
            raise build.invalid("input 'value' is missing")
        key, value = _of_heads(build, key, 2)
    return query, key, value


def _of_heads(build: ContribBuilder, packed: Value, count: int) -> list[Value]:
    """``[batch, rows, heads, count, size]`` as `count` of ``[batch, rows, heads * size]``."""
    parts = build.ops("Split", packed, outputs=count, axis=3, num_outputs=count)
    return [build.op("Reshape", part, build.ints(0, 0, -1)) for part in parts]


def _with_bias(
    build: ContribBuilder, query: Value, key: Value, value: Value, bias: Value | None
) -> tuple[Value, Value, Value]:
    """The bias is that of the projections, one after the other; keys of four axes have theirs."""
    if bias is None:
        return query, key, value
    size = build.dim(query, 2)
    first = build.op("Slice", bias, build.ints(0), size)
    query = build.op("Add", query, first)
    if build.rank_of(key, 3) == 4:
        return query, key, value
    twice = build.op("Add", size, size)
    key = build.op("Add", key, build.op("Slice", bias, size, twice))
    rest = build.op("Slice", bias, twice, build.op("Shape", bias))
    return query, key, build.op("Add", value, rest)


def _rows_of_beams(build: ContribBuilder, cache: Value, indirection: Value, before: Value) -> Value:
    """The cache of each beam, whose earlier rows may have been made for another beam.

    `indirection`, ``[batch, beams, length]``, tells whose row it is; a row that is new is the
    beam's own.
    """
    length, size = build.dim(cache, 2), build.dim(cache, 3)
    beams = build.op("Shape", indirection, start=1, end=2)
    own = build.op("Unsqueeze", build.numbers(beams), build.ints(0, 2))
    steps = build.numbers(length)
    used = build.op("Slice", build.int64(indirection), build.ints(0), length, build.ints(2))
    origin = build.op("Where", build.op("Less", steps, before), used, own)
    apart = build.op("Concat", build.ints(-1), beams, build.dim(cache, 1), length, size, axis=0)
    stacked = build.op("Reshape", cache, apart)
    index = build.op(
        "Expand", build.op("Unsqueeze", origin, build.ints(2, 4)), build.op("Shape", stacked)
    )
    chosen = build.op("GatherElements", stacked, index, axis=1)
    return build.op("Reshape", chosen, build.op("Shape", cache))
