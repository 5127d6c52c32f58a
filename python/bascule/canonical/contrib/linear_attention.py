# SPDX-License-Identifier: Apache-2.0
"""Linear attention: each token changes a state, and its query reads from it."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.linear_attention import by_heads, check_rows, decays_by_head, packed
from bascule.canonical.precision import narrow, wide
from bascule.canonical.recurrence import (
    Tokens,
    check_gates,
    more_heads,
    of_rank,
    recur,
    root_scale,
    zeros,
)
from bascule.ir.graph import Value

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
    """There may be fewer heads of queries, or of keys, than of values."""
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
    check_rows(build, query=(query, q_num_heads), key=(key, 1), value=(value, kv_num_heads))
    size = build.op("Div", build.dim(query, 2), build.ints(q_num_heads))
    if q_num_heads < kv_num_heads:
        query, q_num_heads = _with_heads(build, query, size, kv_num_heads), kv_num_heads
    columns, keys = build.known_dim(query, 2), build.known_dim(key, 2)
    if columns is None or keys is None or columns * kv_num_heads != keys * q_num_heads:
        key = _with_heads(build, key, size, kv_num_heads)
    length = build.dim(query, 1)
    tokens = by_heads(build, query, key, value, decay, beta, q_num_heads, kv_num_heads)
    sizes = build.dim(tokens.key, 3), build.dim(tokens.value, 3)
    factor = root_scale(build, scale, sizes[0])
    if past_state is None:
        state = zeros(build, build.dim(query, 0), build.ints(kv_num_heads), *sizes)
    else:
        state = past_state
        if state_window:
            state = build.op("Gather", state, build.int_scalar(-1), axis=0)
        state = wide(build, state)
    by_head = decays_by_head(build, decay, kv_num_heads)
    if state_window:
        y, states = _with_states(build, tokens, state, factor, length, state_window, by_head)
    else:
        found = recur(build, tokens, state, factor, by_head=by_head)
        y, states = found.y, found.state
    return packed(build, y, query), narrow(build, states, past_state or query)


def _with_heads(build: ContribBuilder, x: Value, size: Value, heads: int) -> Value:
    """``[batch, tokens, columns]`` with each head of a size as often as makes so many heads."""
    shape = build.op("Concat", build.ints(0, 0, -1), size, axis=0)
    apart = build.op("Reshape", x, shape)
    return build.op("Reshape", more_heads(build, apart, build.ints(heads)), build.ints(0, 0, -1))


def _with_states(
    build: ContribBuilder,
    tokens: Tokens,
    state: Value,
    factor: Value,
    length: Value,
    window: int,
    by_head: bool,
) -> tuple[Value, Value]:
    """The last tokens one by one, with the states after each, those before them as always."""
    begin = build.op("Max", build.op("Sub", length, build.ints(window)), build.ints(0))
    first, rest = (
        tokens.between(build, *bounds) for bounds in ((build.ints(0), begin), (begin, length))
    )
    before = recur(build, first, state, factor, by_head=by_head)
    last = recur(build, rest, before.state, factor, states=True)
    assert last.states is not None
    missing = build.op("Max", build.op("Sub", build.ints(window), length), build.ints(0))
    pads = build.op("Concat", missing, build.ints(*[0] * 9), axis=0)
    y = build.op("Concat", before.y, last.y, axis=1)
    return y, of_rank(build.op("Pad", last.states, pads), 5)
