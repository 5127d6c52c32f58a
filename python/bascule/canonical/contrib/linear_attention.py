# SPDX-License-Identifier: Apache-2.0
"""Linear attention: each token changes a state, and its query reads from it."""

from __future__ import annotations

from collections.abc import Sequence

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.recurrence import (
    Tokens,
    check_gates,
    more_heads,
    recur,
    root_scale,
    zeros,
)
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_MOST_STATES = 8
"""The longest window of states."""


@operator("LinearAttention")
def linear_attention(
    build: ContribBuilder,
    query: Value,
    key: Value,
    value: Value,
    past_state: Value | None,
    decay: Value | None,
    beta: Value | None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    chunk_size: int = 64,
    scale: float = 0.0,
    state_window: int = 0,
    update_rule: str = "gated_delta",
) -> Outputs:
    """The standard does not have fewer heads of queries, or of keys, than of values."""
    decays, retrieves = check_gates(build, update_rule, decay, beta)
    decay, beta = decay if decays else None, beta if retrieves else None
    most, least = max(q_num_heads, kv_num_heads), min(q_num_heads, kv_num_heads)
    if least < 1 or most % least:
        raise build.invalid(
            f"one of q_num_heads ({q_num_heads}) and kv_num_heads ({kv_num_heads}) must be a "
            "positive multiple of the other"
        )
    if not 0 <= state_window <= _MOST_STATES:
        raise build.invalid(f"attribute 'state_window' is {state_window}, not 0 to {_MOST_STATES}")
    for name, each in (("query", query), ("key", key), ("value", value)):
        rank = build.rank_of(each, 3)
        if rank != 3:
            raise build.invalid(f"input '{name}' has rank {rank}, expected 3")
    size = build.op("Div", build.dim(query, 2), build.ints(q_num_heads))
    if q_num_heads < kv_num_heads:
        query, q_num_heads = _with_heads(build, query, size, kv_num_heads), kv_num_heads
    columns, keys = build.known_dim(query, 2), build.known_dim(key, 2)
    if columns is None or keys is None or columns * kv_num_heads != keys * q_num_heads:
        key = _with_heads(build, key, size, kv_num_heads)
    if state_window:
        parts = (query, key, value, past_state, decay, beta)
        heads = (q_num_heads, kv_num_heads)
        return _with_states(build, parts, heads, scale, state_window)
    y, state = build.ops(
        "LinearAttention",
        query,
        key,
        value,
        past_state,
        decay,
        beta,
        outputs=2,
        q_num_heads=q_num_heads,
        kv_num_heads=kv_num_heads,
        chunk_size=chunk_size,
        scale=scale,
        update_rule=update_rule,
    )
    for made, like, rank in ((y, query, 3), (state, past_state or query, 4)):
        if build.typed(made).rank is None and like.dtype is not None:
            made.type = TensorType(like.dtype, (None,) * rank)
    return y, state


def _with_heads(build: ContribBuilder, x: Value, size: Value, heads: int) -> Value:
    """``[batch, tokens, columns]`` with each head of a size as often as makes so many heads."""
    shape = build.op("Concat", build.ints(0, 0, -1), size, axis=0)
    apart = build.op("Reshape", x, shape)
    return build.op("Reshape", more_heads(build, apart, build.ints(heads)), build.ints(0, 0, -1))


def _with_states(
    build: ContribBuilder,
    parts: Sequence[Value | None],
    heads: tuple[int, int],
    scale: float,
    window: int,
) -> Outputs:
    """The last tokens one by one, with the states after each, those before them as always."""

    def apart(x: Value, heads: int) -> Value:
        wide = build.cast(build.typed(x), DataType.FLOAT)
        return build.op("Reshape", wide, build.ints(0, 0, heads, -1))

    query, key, value, past, decay, beta = parts
    assert query is not None and key is not None and value is not None
    length = build.dim(query, 1)
    tokens = Tokens(
        apart(query, heads[0]),
        apart(key, heads[1]),
        apart(value, heads[1]),
        decay and apart(decay, heads[1]),
        # It may have one head for all.
        beta
        and build.op("Unsqueeze", build.cast(build.typed(beta), DataType.FLOAT), build.ints(3)),
    )
    sizes = build.dim(tokens.key, 3), build.dim(tokens.value, 3)
    factor = root_scale(build, scale, sizes[0])
    if past is None:
        state = zeros(build, build.dim(query, 0), build.ints(heads[1]), *sizes)
    else:
        state = build.op("Gather", past, build.int_scalar(-1), axis=0)
        state = build.op("Cast", state, to=int(DataType.FLOAT))
    begin = build.op("Max", build.op("Sub", length, build.ints(window)), build.ints(0))
    before = recur(build, tokens.between(build, build.ints(0), begin), state, factor)
    last = recur(build, tokens.between(build, begin, length), before.state, factor, states=True)
    assert last.states is not None
    missing = build.op("Max", build.op("Sub", build.ints(window), length), build.ints(0))
    pads = build.op("Concat", missing, build.ints(*[0] * 9), axis=0)
    y = build.op("Concat", before.y, last.y, axis=1)
    return (
        build.op("CastLike", build.op("Reshape", y, build.ints(0, 0, -1)), query),
        build.op("CastLike", build.op("Pad", last.states, pads), past or query),
    )
