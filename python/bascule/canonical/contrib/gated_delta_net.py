# SPDX-License-Identifier: Apache-2.0
"""The gated delta network: linear attention of packed tokens, with its gates, in float32."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.packed_tokens import Packing, SideBySide, check_captures
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
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value

_LEAST_SQUARE = 1e-12
"""Is added to the squares of a vector that is made a unit."""


@operator("LinearAttentionGate")
def linear_attention_gate(
    build: ContribBuilder, a: Value, dt_bias: Value, decay_scale: Value, b: Value | None
) -> Outputs:
    """In float32, and rounded once."""
    if b is None and build.wants(1):
        raise build.invalid("output 'beta' needs input 'b'")
    gate = build.op("Softplus", build.op("Add", wide(build, a), dt_bias))
    decay = narrow(build, build.op("Mul", gate, decay_scale), a)
    return decay, b and build.op("Sigmoid", b)


@operator("GatedDeltaNet")
def gated_delta_net(
    build: ContribBuilder,
    query: Value,
    key: Value | None,
    value: Value | None,
    cu_seqlens: Value | None,
    decay: Value | None,
    beta: Value | None,
    initial_state: Value | None,
    a_log: Value | None,
    dt_bias: Value | None,
    capture_count: Value | None,
    state_update_active: Value | None,
    *,
    beta_activation: str = "none",
    chunk_size: int = 64,
    gate_activation: str = "none",
    gate_lower_bound: float = -5.0,
    qk_l2_norm: int = 0,
    scale: float = 0.0,
    state_update_capacity: int = 0,
    update_rule: str = "gated_delta",
) -> Outputs:
    """In the states the size of a value comes before that of a key."""
    decays, retrieves = check_gates(build, update_rule, decay, beta)
    check_captures(build, state_update_capacity, capture_count)
    rows = _rows(build, query, key, value, initial_state)
    if qk_l2_norm:
        rows.query, rows.key = _unit(build, rows.query), _unit(build, rows.key)
    if decay is not None and decays:
        gate = _Gate(gate_activation, gate_lower_bound, a_log, dt_bias)
        rows.decay = gate.apply(build, rows.by_heads(build, decay), rows.heads)
    if beta is not None and retrieves:
        rows.beta = rows.by_heads(build, beta)
        if beta_activation == "sigmoid":
            rows.beta = build.op("Sigmoid", rows.beta)
        elif beta_activation != "none":
            raise build.invalid(
                f"attribute 'beta_activation' is '{beta_activation}', expected none or sigmoid"
            )
    beside = _beside(build, rows, query, cu_seqlens, initial_state, key is None)
    tokens = Tokens(
        beside.spread(rows.query, padded=False),
        beside.spread(rows.key),
        beside.spread(rows.value),
        rows.decay and beside.spread(rows.decay),
        rows.beta and beside.spread(rows.beta),
        beside.lengths,
    )
    size = build.dim(rows.key, 2)
    if initial_state is None:
        state = zeros(build, beside.batch, rows.heads, size, build.dim(rows.value, 2))
    else:
        state = build.op("Transpose", initial_state, perm=[0, 1, 3, 2])
    factor = root_scale(build, scale, size)
    more = replace(
        tokens,
        query=more_heads(build, tokens.query, rows.heads),
        key=more_heads(build, tokens.key, rows.heads),
    )
    by_head = decay is not None and decay.rank in _ranks_of_rates(build, query, key is None)
    found = recur(build, more, state, factor, by_head=by_head)
    y = build.op("CastLike", beside.packed(found.y), query)
    updates = None
    if state_update_capacity and build.wants(2):
        updates = _updates(build, tokens, more, state, factor, state_update_capacity)
        if state_update_active is not None:
            active = build.op("Cast", state_update_active, to=int(DataType.BOOL))
            updates = build.op("Where", active, updates, build.floats(0))
    return y, build.op("Transpose", found.state, perm=[0, 1, 3, 2]), updates


@dataclass
class _Rows:
    """What packed tokens bring, ``[tokens, heads, size]`` in float32."""

    query: Value
    key: Value
    value: Value
    count: Value
    """The number of tokens, as all numbers here a vector of one element."""
    heads: Value
    """The number of heads of the values."""
    decay: Value | None = None
    beta: Value | None = None

    def by_heads(self, build: ContribBuilder, x: Value) -> Value:
        """One number for each head of a token, or one for each column of its key."""
        shape = build.op("Concat", self.count, self.heads, build.ints(-1), axis=0)
        return build.op("Reshape", wide(build, x), shape)


def _rows(
    build: ContribBuilder, query: Value, key: Value | None, value: Value | None, state: Value | None
) -> _Rows:
    if key is not None and value is not None:
        query, key, value = (_by_tokens(build, wide(build, x)) for x in (query, key, value))
        _check_heads(build, query, key, value)
        return _Rows(query, key, value, build.dim(query, 0), build.dim(value, 1))
    if key is not None or value is not None:
        raise build.invalid("inputs 'key' and 'value' must both be given, or neither")
    if state is None:
        raise build.invalid("packed queries, keys and values need input 'initial_state'")
    heads, values, keys = (build.dim(state, axis) for axis in (1, 2, 3))
    packed = wide(build, query)
    rest = build.op("Sub", build.dim(packed, -1), build.op("Mul", heads, values))
    columns = build.op("Div", rest, build.ints(2))
    sizes = build.op("Concat", columns, columns, build.op("Mul", heads, values), axis=0)
    parts = build.ops("Split", packed, sizes, outputs=3, axis=-1)
    query, key, value = (
        build.op("Reshape", part, build.op("Concat", build.ints(-1), *shape, axis=0))
        for part, shape in zip(
            parts,
            (
                (build.op("Div", columns, keys), keys),
                (build.op("Div", columns, keys), keys),
                (heads, values),
            ),
        )
    )
    return _Rows(query, key, value, build.dim(query, 0), heads)


def _check_heads(build: ContribBuilder, query: Value, key: Value, value: Value) -> None:
    queries, keys, values = (build.known_dim(x, 1) for x in (query, key, value))
    if queries is None or keys is None or values is None:
        return
    if queries < 1 or queries != keys or values % keys:
        raise build.invalid(
            f"{queries}, {keys} and {values} heads of query, key and value are not as many of the "
            "first two and a multiple of them"
        )


def _by_tokens(build: ContribBuilder, x: Value) -> Value:
    """``[tokens, heads, size]``, whether the tokens have one axis or, by sequences, two."""
    if build.rank_of(x, 0) == 3:
        return x
    shape = build.op("Concat", build.ints(-1), build.op("Shape", x, start=-2), axis=0)
    return of_rank(build.op("Reshape", x, shape), 3)


def _unit(build: ContribBuilder, x: Value) -> Value:
    square = build.op("ReduceSumSquare", x, build.ints(-1))
    root = build.op("Sqrt", build.op("Add", square, build.floats(_LEAST_SQUARE)))
    return build.op("Div", x, root)


@dataclass
class _Gate:
    """How a decay comes of the numbers of a projection."""

    activation: str
    lower_bound: float
    a_log: Value | None
    bias: Value | None

    def apply(self, build: ContribBuilder, x: Value, heads: Value) -> Value:
        """To ``[tokens, heads, 1 or size of a key]``."""
        if self.activation == "none":
            return x
        if self.activation not in ("softplus", "qwen", "sigmoid", "kda"):
            raise build.invalid(
                f"attribute 'gate_activation' is '{self.activation}', expected none, softplus, "
                "sigmoid or kda"
            )
        if self.a_log is None or self.bias is None:
            raise build.invalid(
                f"gate activation '{self.activation}' needs inputs 'a_log' and 'dt_bias'"
            )
        # The bias has a number for each head, or for each column of its key.
        columns = build.op("Concat", heads, build.ints(-1), axis=0)
        moved = build.op("Add", x, build.op("Reshape", self.bias, columns))
        rate = build.op("Unsqueeze", build.op("Exp", self.a_log), build.ints(1))
        if self.activation in ("softplus", "qwen"):
            return build.op("Mul", build.op("Neg", rate), build.op("Softplus", moved))
        bounded = build.op("Sigmoid", build.op("Mul", rate, moved))
        return build.op("Mul", bounded, build.floats(self.lower_bound))


class _Uniform:
    """Sequences of one length: they lie side by side as they are."""

    lengths = None

    def __init__(self, build: ContribBuilder, batch: Value, lead: Value) -> None:
        """`lead` is the shape of the tokens that the results have."""
        self._build, self.batch, self._lead = build, batch, lead

    def spread(self, x: Value, padded: bool = True) -> Value:
        build = self._build
        shape = build.op(
            "Concat", self.batch, build.ints(-1), build.op("Shape", x, start=1), axis=0
        )
        return build.op("Reshape", x, shape)

    def packed(self, x: Value) -> Value:
        build = self._build
        shape = build.op("Concat", self._lead, build.op("Shape", x, start=2), axis=0)
        return build.op("Reshape", x, shape)


def _beside(
    build: ContribBuilder,
    rows: _Rows,
    query: Value,
    cu_seqlens: Value | None,
    state: Value | None,
    packed: bool,
) -> SideBySide | _Uniform:
    if cu_seqlens is not None:
        return SideBySide(build, Packing(build, cu_seqlens), rows.count)
    lead = build.op("Shape", query, end=-1 if packed else -2)
    if state is not None:
        return _Uniform(build, build.dim(state, 0), lead)
    if build.rank_of(query, 3) == 4:
        return _Uniform(build, build.dim(query, 0), lead)
    raise build.invalid("without 'cu_seqlens' input 'initial_state' must tell the batch size")


def _updates(
    build: ContribBuilder,
    tokens: Tokens,
    more: Tokens,
    state: Value,
    factor: Value,
    capacity: int,
) -> Value:
    """The decays, keys and changes of the first tokens of each sequence, ``[batch, numbers]``.

    What stands beyond the tokens to capture is not specified.
    """
    begin, end = build.ints(0), build.ints(capacity)
    deltas = recur(build, more.between(build, begin, end), state, factor, deltas=True).deltas
    assert deltas is not None
    changes = build.op(
        "Squeeze", build.op("Transpose", deltas, perm=[1, 0, 2, 3, 4]), build.ints(3)
    )
    if tokens.decay is not None:
        decays = build.op("Exp", tokens.decay)
    else:
        shape = build.op("Concat", build.op("Shape", tokens.value, end=3), build.ints(1), axis=0)
        decays = build.op("Expand", build.floats(1), shape)
    first = (build.op("Slice", each, begin, end, build.ints(1)) for each in (decays, tokens.key))
    flat = []
    for each in (*first, changes):
        missing = build.op("Sub", end, build.dim(each, 1))
        pads = build.op("Concat", build.ints(0, 0, 0, 0, 0), missing, build.ints(0, 0), axis=0)
        padded = build.op("Pad", each, pads)
        flat.append(
            build.op(
                "Reshape", padded, build.op("Concat", build.dim(state, 0), build.ints(-1), axis=0)
            )
        )
    return build.op("Concat", *flat, axis=1)


def _ranks_of_rates(build: ContribBuilder, query: Value, packed: bool) -> tuple[int, ...]:
    """That of one number for each head of a token, if it can be told."""
    rank = build.typed(query).rank
    return () if rank is None else (rank if packed else rank - 1,)
