# SPDX-License-Identifier: Apache-2.0
"""Linear attention: each token changes a state, and its query reads from it.

The body that the standard gives the operator goes token by token. This one takes many tokens by
chunks, and is as near to what the standard says.
"""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.precision import narrow, wide
from bascule.canonical.recurrence import Tokens, check_gates, of_rank, recur, root_scale, zeros
from bascule.canonical.registry import EVERY_VERSION, rewrite
from bascule.ir.graph import Node, Value

_INPUTS = 6


@rewrite("LinearAttention", since=27, until=EVERY_VERSION, types=True)
def linear_attention(node: Node, build: Builder) -> None:
    inputs = [*node.inputs, *[None] * (_INPUTS - len(node.inputs))]
    query, key, value, past_state, decay, beta = inputs
    assert query is not None and key is not None and value is not None
    decays, retrieves = check_gates(
        build, node.attribute("update_rule", "gated_delta"), decay, beta
    )
    decay, beta = decay if decays else None, beta if retrieves else None
    heads, kv_heads = node.attributes["q_num_heads"], node.attributes["kv_num_heads"]
    if kv_heads < 1 or heads < 1 or heads % kv_heads:
        raise build.invalid(
            f"q_num_heads ({heads}) must be a positive multiple of kv_num_heads ({kv_heads})"
        )
    check_rows(build, query=(query, heads), key=(key, kv_heads), value=(value, kv_heads))
    tokens = by_heads(build, query, key, value, decay, beta, heads, kv_heads)
    sizes = build.dim(tokens.key, 3), build.dim(tokens.value, 3)
    if past_state is None:
        state = zeros(build, build.dim(query, 0), build.ints(kv_heads), *sizes)
    else:
        state = wide(build, past_state)
    found = recur(
        build,
        tokens,
        state,
        root_scale(build, node.attribute("scale", 0.0), sizes[0]),
        by_head=decays_by_head(build, decay, kv_heads),
    )
    for old in node.outputs:
        build.typed(old)  # the schema tells it best
    y = packed(build, found.y, query)
    present_state = narrow(build, found.state, past_state or query)
    for old, new in zip(build.drop_outputs(0), (y, present_state), strict=False):
        build.op("Identity", new, outputs=[old])
    build.graph.remove(node)


def check_rows(build: Builder, **inputs: tuple[Value, int]) -> None:
    """Refuse inputs that are not ``[batch, tokens, heads * size]`` of so many heads each."""
    for name, (x, heads) in inputs.items():
        rank, row = build.rank_of(x, 3), build.known_dim(x, 2)
        if rank != 3:
            raise build.invalid(f"input '{name}' has rank {rank}, expected 3")
        if row is not None and row % heads:
            raise build.invalid(f"input '{name}' has rows of {row}, which are not {heads} heads")


def by_heads(
    build: Builder,
    query: Value,
    key: Value,
    value: Value,
    decay: Value | None,
    beta: Value | None,
    heads: int,
    kv_heads: int,
) -> Tokens:
    """What stands in rows, apart by heads."""

    def apart(x: Value, heads: int) -> Value:
        return build.op("Reshape", wide(build, x), build.ints(0, 0, heads, -1))

    return Tokens(
        apart(query, heads),
        apart(key, kv_heads),
        apart(value, kv_heads),
        decay and apart(decay, kv_heads),
        # It may have one head for all.
        beta and build.op("Unsqueeze", wide(build, beta), build.ints(3)),
    )


def decays_by_head(build: Builder, decay: Value | None, kv_heads: int) -> bool:
    """Whether it is known that there is a decay for each head, not for each column of its key."""
    return decay is not None and build.known_dim(decay, 2) == kv_heads


def packed(build: Builder, y: Value, query: Value) -> Value:
    """The results as rows again, in the type of the queries."""
    rows = build.op("Reshape", y, build.ints(0, 0, -1))
    return narrow(build, of_rank(rows, 3), query)
