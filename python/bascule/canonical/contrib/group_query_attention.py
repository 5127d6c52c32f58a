# SPDX-License-Identifier: Apache-2.0
"""Attention of grouped heads over a cache of keys and values that may be longer than its content.

Each sample of a batch has a length of its own: its new rows go behind the keys it has, and its
queries see what stands before them.
"""

from __future__ import annotations

from dataclasses import dataclass

from bascule.canonical.contrib.attend import Heads, attend, heads_apart, update_cache
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.rotary_embedding import rotate
from bascule.ir.graph import Value

_QK_MODES = {1: 2, 2: 3}
"""What of the scores is shown: after all masks (standard: 2), or the weights (3)."""


@operator("GroupQueryAttention")
def group_query_attention(
    build: ContribBuilder,
    query: Value,
    key: Value | None,
    value: Value | None,
    past_key: Value | None,
    past_value: Value | None,
    seqlens_k: Value,
    total_sequence_length: Value,
    cos_cache: Value | None,
    sin_cache: Value | None,
    position_ids: Value | None,
    attention_bias: Value | None,
    head_sink: Value | None,
    k_scale: Value | None,
    v_scale: Value | None,
    q_norm_weight: Value | None,
    k_norm_weight: Value | None,
    query_seqlens: Value | None,
    *,
    num_heads: int,
    kv_num_heads: int,
    causal: int = 1,
    do_rotary: int = 0,
    k_norm_epsilon: float | None = None,
    k_quant_type: str = "NONE",
    kv_cache_bit_width: int = 0,
    local_window_size: int = -1,
    q_norm_epsilon: float | None = None,
    qk_norm_epsilon: float = 1e-6,
    qk_output: int = 0,
    rotary_interleaved: int = 0,
    scale: float | None = None,
    sliding_window_cache: int = 0,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
    v_quant_type: str = "NONE",
) -> Outputs:
    if k_quant_type != "NONE" or v_quant_type != "NONE":
        raise build.not_supported("a quantized cache")
    if sliding_window_cache:
        raise build.not_supported("attribute 'sliding_window_cache'")
    if num_heads < 1 or kv_num_heads < 1 or num_heads % kv_num_heads:
        raise build.invalid(
            f"num_heads ({num_heads}) must be a positive multiple of kv_num_heads ({kv_num_heads})"
        )
    if qk_output not in (0, 1, 2):
        raise build.invalid(f"attribute 'qk_output' is {qk_output}, expected 0, 1 or 2")
    if key is None:
        query, key, value = unpacked(build, query, num_heads, kv_num_heads)
    if value is None or (past_key is None) != (past_value is None):
        raise build.invalid("key and value, or past_key and past_value, must both be given")
    totals = build.op("Add", build.as_vector(build.int64(seqlens_k)), build.ints(1))
    lengths = lengths_of(build, query, totals, query_seqlens)
    if q_norm_weight is not None or k_norm_weight is not None:
        if q_norm_weight is None or k_norm_weight is None:
            raise build.invalid("q_norm_weight and k_norm_weight must both be given")
        epsilons = (q_norm_epsilon or qk_norm_epsilon, k_norm_epsilon or qk_norm_epsilon)
        query = _normalized(build, query, q_norm_weight, num_heads, epsilons[0])
        key = _normalized(build, key, k_norm_weight, kv_num_heads, epsilons[1])
    if do_rotary:
        query, key = rotate_at(
            build,
            (query, num_heads),
            (key, kv_num_heads),
            (cos_cache, sin_cache),
            lengths.positions(build) if position_ids is None else position_ids,
            rotary_interleaved,
        )
    sink = head_sink
    if sink is None and smooth_softmax == 1:
        sink = build.op("Expand", build.like(0.0, build.typed(query)), build.ints(num_heads))
    cached, joins = past_key is not None, build.wants(1) or build.wants(2)
    if past_key is not None and past_value is not None:
        total = build.as_vector(build.int64(total_sequence_length))
        key = update_cache(build, past_key, key, lengths.starts, total)
        value = update_cache(build, past_value, value, lengths.starts, total)
    elif joins and not causal:  # the standard does not join and count keys at once
        key, value = (heads_apart(build, each, kv_num_heads) for each in (key, value))
        cached = True
    lengths_of_keys = lengths.totals if not causal else lengths.ends if cached else None
    attended = attend(
        build,
        query,
        key,
        value,
        Heads(num_heads, kv_num_heads),
        mask=attention_bias,
        lengths=lengths_of_keys,
        sink=sink,
        cached=cached,
        presents=joins and not cached,
        causal=bool(causal),
        left_window=local_window_size - 1 if local_window_size > 0 else -1,
        scale=scale,
        softcap=softcap,
        scores_mode=_QK_MODES[qk_output] if qk_output and build.wants(3) else None,
    )
    presents = (key, value) if cached else (attended.present_key, attended.present_value)
    return attended.y, *presents, _shown_scores(build, attended.scores, total_sequence_length)


def rotate_at(
    build: ContribBuilder,
    query: tuple[Value, int],
    key: tuple[Value, int],
    caches: tuple[Value | None, Value | None],
    positions: Value,
    interleaved: int,
) -> list[Value]:
    """Query and key, given with their numbers of heads, as `do_rotary` asks for."""
    cos_cache, sin_cache = caches
    if cos_cache is None or sin_cache is None:
        raise build.invalid("attribute 'do_rotary' needs inputs cos_cache and sin_cache")
    half = build.known_dim(cos_cache, 1)
    rotated = 0 if half is None else 2 * half
    return [
        rotate(
            build,
            each,
            cos_cache,
            sin_cache,
            positions,
            heads=heads,
            interleaved=interleaved,
            size=rotated,
        )
        for each, heads in (query, key)
    ]


@dataclass
class Lengths:
    """Where the rows of each sample are in its sequence, as int64 vectors of one each."""

    starts: Value
    """How many keys stand before the new rows."""
    ends: Value
    """Where the new rows end, padding included."""
    totals: Value
    """How many keys are valid."""
    count: Value
    """The number of new rows, a vector of one element."""

    def positions(self, build: ContribBuilder) -> Value:
        """The position of each new row, [batch, rows]."""
        steps = build.numbers(self.count)
        return build.op("Add", build.op("Unsqueeze", self.starts, build.ints(1)), steps)


def lengths_of(
    build: ContribBuilder, query: Value, totals: Value, query_seqlens: Value | None = None
) -> Lengths:
    """With `totals`, how many keys of each sample are valid, as int64."""
    count = build.dim(query, 1)
    if query_seqlens is None:
        starts = build.op("Max", build.op("Sub", totals, count), build.ints(0))
    else:
        starts = build.op("Sub", totals, build.as_vector(build.int64(query_seqlens)))
    return Lengths(starts, build.op("Add", starts, count), totals, count)


def unpacked(
    build: ContribBuilder, packed: Value, num_heads: int, kv_num_heads: int
) -> tuple[Value, Value, Value]:
    """Query, key and value that stand in one row."""
    counts = (num_heads, kv_num_heads, kv_num_heads)
    row = build.known_dim(packed, 2)
    if row is not None:
        if row % sum(counts):
            raise build.invalid(f"a packed row of {row} is not {sum(counts)} heads")
        sizes = build.ints(*(row // sum(counts) * count for count in counts))
    else:
        size = build.op("Div", build.dim(packed, 2), build.ints(sum(counts)))
        sizes = build.op("Mul", size, build.ints(*counts))
    query, key, value = build.ops("Split", packed, sizes, outputs=3, axis=2)
    return query, key, value


def _normalized(
    build: ContribBuilder, rows: Value, weight: Value, heads: int, epsilon: float
) -> Value:
    """Each head of each row by its root mean square."""
    split = build.op("Reshape", rows, build.ints(0, 0, heads, -1))
    normal = build.op("RMSNormalization", split, weight, axis=-1, epsilon=epsilon)
    return build.give_type(build.op("Reshape", normal, build.ints(0, 0, -1)), rows.type)


def _shown_scores(build: ContribBuilder, scores: Value | None, total: Value) -> Value | None:
    """The scores of as many keys as there are, zero for those that a query does not see."""
    if scores is None:
        return None
    columns = build.as_vector(build.int64(total))
    kept = build.op("Slice", scores, build.ints(0), columns, build.ints(3))
    unseen = build.op("IsInf", kept, detect_positive=0)
    return build.op("Where", unseen, build.like(0.0, build.typed(kept)), kept)
