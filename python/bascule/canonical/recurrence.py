# SPDX-License-Identifier: Apache-2.0
"""The recurrence of linear attention, token by token and in float32, and the shapes around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bascule.canonical.builder import Builder, known_constant
from bascule.canonical.chunks import CHUNK, Chunks, scan_chunks
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType

_RULES = {
    "linear": (False, False),
    "gated": (True, False),
    "delta": (False, True),
    "gated_delta": (True, True),
}
"""Whether the state is decayed, and whether a token brings only what the state does not have."""

_MANY = 8
"""As many tokens are computed by chunks."""

_OF_A_TOKEN = 4
"""The axes of what one token brings: batch, heads, and a matrix."""


@dataclass
class Tokens:
    """What each token brings, ``[batch, tokens, heads, size]``.

    The size of `decay`, a logarithm, is that of a key or 1, and that of `beta` is 1.
    """

    query: Value
    key: Value
    value: Value
    decay: Value | None
    beta: Value | None
    lengths: Value | None = None
    """Where sequences lie beside longer ones: the number of tokens of each."""

    def between(self, build: Builder, begin: Value, end: Value) -> Tokens:
        """The tokens of each sample from `begin` to `end`."""

        def some(x: Value) -> Value:
            return build.op("Slice", x, begin, end, build.ints(1))

        return Tokens(
            some(self.query),
            some(self.key),
            some(self.value),
            self.decay and some(self.decay),
            self.beta and some(self.beta),
            self.lengths and build.op("Sub", self.lengths, begin),
        )

    def within(self, build: Builder) -> Value | None:
        """Whether a place has a token, ``[batch, tokens]``, if not all have."""
        if self.lengths is None:
            return None
        count = build.as_scalar(build.dim(self.key, 1))
        steps = build.op("Range", build.int_scalar(0), count, build.int_scalar(1))
        found = build.op("Less", steps, build.op("Unsqueeze", self.lengths, build.ints(1)))
        found.type = TensorType(DataType.BOOL, (None, None))
        return found


@dataclass
class Trace:
    """The results for all tokens, the state after the last, and what was asked for of each."""

    y: Value
    """``[batch, tokens, heads of the queries, size of a value]``."""
    state: Value
    """``[batch, heads, size of a key, size of a value]``."""
    states: Value | None
    """The state after each token, ``[tokens, batch, heads, ...]``."""
    deltas: Value | None
    """What each token adds to its key's place, ``[tokens, batch, heads, 1, size of a value]``."""


def check_gates(
    build: Builder, rule: str, decay: Value | None, beta: Value | None
) -> tuple[bool, bool]:
    """Whether the rule has a decay and an update rate, which must be given then."""
    if rule not in _RULES:
        raise build.invalid(f"attribute 'update_rule' is '{rule}', expected one of {list(_RULES)}")
    for name, needed, given in zip(("decay", "beta"), _RULES[rule], (decay, beta)):
        if needed and given is None:
            raise build.invalid(f"update rule '{rule}' needs input '{name}'")
    return _RULES[rule]


def recur(
    build: Builder,
    tokens: Tokens,
    state: Value,
    scale: Value,
    *,
    by_head: bool = False,
    states: bool = False,
    deltas: bool = False,
) -> Trace:
    """There may be a whole number of heads of queries for each head of keys.

    What is not asked for of each token is computed by chunks of tokens, unless there are few; but
    that needs decays `by_head`, not by the columns of keys.
    """
    count = build.known_dim(tokens.key, 1)
    in_chunks = (by_head or tokens.decay is None) and not states and not deltas
    more: list[Value] = []
    if in_chunks and count is None:
        few = build.op("Less", build.as_scalar(build.dim(tokens.key, 1)), build.int_scalar(_MANY))
        y, last = _either(
            build,
            few,
            lambda inside: _by_tokens(inside, tokens, state),
            lambda inside: _by_own_length(inside, tokens, state),
        )
    elif in_chunks and count is not None and count >= _MANY:
        y, last = _by_own_length(build, tokens, state)
    else:
        y, last, *more = _by_tokens(build, tokens, state, states, deltas)
    y = build.op("Mul", y, scale)
    return Trace(
        of_rank(y, _OF_A_TOKEN), last, more[0] if states else None, more[-1] if deltas else None
    )


def _either(
    build: Builder,
    condition: Value,
    then: Callable[[Builder], list[Value]],
    otherwise: Callable[[Builder], list[Value]],
) -> list[Value]:
    """Results and the last state, made in the one way or in the other."""
    branches = {}
    for name, make in (("then_branch", then), ("else_branch", otherwise)):
        inside = build.body(name)
        branches[name] = inside.graph
        for made in make(inside):
            inside.graph.add_output(made)
    found = build.ops("If", condition, outputs=2, **branches)
    return [of_rank(each, _OF_A_TOKEN) for each in found]


def _by_own_length(build: Builder, tokens: Tokens, state: Value) -> list[Value]:
    """By chunks, but sequences of few tokens token by token, whatever lies beside them."""
    y, last = _by_chunks(build, tokens, state)
    lengths = tokens.lengths
    if lengths is None:
        return [y, last]

    def with_short(inside: Builder) -> list[Value]:
        op = inside.op
        is_short = op("Less", lengths, inside.int_scalar(_MANY))
        of_short = op("Where", is_short, lengths, inside.int_scalar(1))
        end = op("ReduceMax", of_short, inside.ints(0), keepdims=1)
        first, after = _by_tokens(inside, tokens.between(inside, inside.ints(0), end), state)
        missing = op("Sub", op("Shape", y, start=1, end=2), end)
        pads = op("Concat", inside.ints(0, 0, 0, 0, 0), missing, inside.ints(0, 0), axis=0)
        is_short = op("Unsqueeze", is_short, inside.ints(1, 2, 3))
        return [
            op("Where", is_short, op("Pad", first, pads), y),
            op("Where", is_short, after, last),
        ]

    def as_they_are(inside: Builder) -> list[Value]:
        return [inside.op("Identity", y), inside.op("Identity", last)]

    least = build.op("ReduceMin", lengths, build.ints(0), keepdims=0)
    any_short = build.op("Less", least, build.int_scalar(_MANY))
    return _either(build, any_short, with_short, as_they_are)


def _by_tokens(
    build: Builder, tokens: Tokens, state: Value, states: bool = False, deltas: bool = False
) -> list[Value]:
    """Results and the last state, and more of each token that is asked for."""
    op, last = build.op, build.ints(-1)
    heads, size = op("Shape", tokens.key, end=3), op("Shape", tokens.key, start=3)
    grouped = op("Concat", heads, last, size, axis=0)
    row = build.ints(3)
    scanned = [
        op("Reshape", tokens.query, grouped, allowzero=1),
        op("Unsqueeze", tokens.key, row),
        op("Unsqueeze", tokens.value, row),
    ]
    if tokens.decay is not None:
        scanned.append(op("Unsqueeze", op("Exp", tokens.decay), last))
    if tokens.beta is not None:
        scanned.append(op("Unsqueeze", tokens.beta, last))
    within = None if tokens.beta is None else tokens.within(build)
    if within is not None:
        scanned.append(op("Unsqueeze", within, build.ints(2, 3, 4)))
    scanned = [op("Transpose", x, perm=[1, 0, 2, 3, 4]) for x in scanned]
    gates = tokens.decay is not None, tokens.beta is not None, within is not None
    body = _step(build, *gates, states, deltas)
    after = op(
        "Scan",
        state,
        *scanned,
        outputs=2 + states + deltas,
        body=body,
        num_scan_inputs=len(scanned),
    )
    assert after.producer is not None
    after, y, *more = after.producer.outputs
    of_rank(after, _OF_A_TOKEN)
    for each in (y, *more):
        of_rank(each, _OF_A_TOKEN + 1)
    y = op("Transpose", y, perm=[1, 0, 2, 3, 4])
    shape = op("Shape", tokens.query, end=3), op("Shape", tokens.value, start=3)
    y = op("Reshape", y, op("Concat", *shape, axis=0), allowzero=1)
    return [of_rank(y, _OF_A_TOKEN), after, *more]


def _by_chunks(build: Builder, tokens: Tokens, state: Value) -> list[Value]:
    """The same, with tokens behind the last that bring nothing."""
    op = build.op
    count, heads = op("Shape", tokens.key, start=1, end=2), op("Shape", tokens.key, start=2, end=3)
    size = build.ints(CHUNK)
    missing = op("Mod", op("Neg", count), size)
    pads = op("Concat", build.ints(0, 0, 0, 0, 0), missing, build.ints(0, 0), axis=0)

    def apart(x: Value, heads: Value) -> Value:
        padded = op("Pad", x, pads)
        shape = op("Concat", build.ints(0, -1), size, heads, op("Shape", x, start=3), axis=0)
        return op("Transpose", op("Reshape", padded, shape), perm=[1, 0, 3, 4, 2, 5])

    one = build.ints(1)
    each = op("Concat", heads, one, axis=0)
    groups = op("Div", op("Shape", tokens.query, start=2, end=3), heads)
    rates = tokens.beta and op("Concat", op("Shape", tokens.beta, start=2, end=3), one, axis=0)
    chunks = Chunks(
        apart(tokens.query, op("Concat", heads, groups, axis=0)),
        apart(tokens.key, each),
        apart(tokens.value, each),
        tokens.decay and apart(tokens.decay, each),
        tokens.beta and rates and apart(tokens.beta, rates),
    )
    within = None if tokens.beta is None else tokens.within(build)
    if within is not None:
        padded = op("Pad", within, op("Concat", build.ints(0, 0, 0), missing, axis=0))
        by_chunk = op("Reshape", padded, op("Concat", build.ints(0, -1), size, axis=0))
        is_token = op("Unsqueeze", op("Transpose", by_chunk, perm=[1, 0, 2]), build.ints(2, 3, 5))
        chunks.is_token = of_rank(is_token, _OF_A_TOKEN + 2, DataType.BOOL)
    y, after = scan_chunks(build, chunks, op("Unsqueeze", state, build.ints(2)))
    y = op("Transpose", y, perm=[1, 0, 4, 2, 3, 5])
    shape = op(
        "Concat",
        build.ints(0, -1),
        op("Shape", tokens.query, start=2, end=3),
        op("Shape", tokens.value, start=3),
        axis=0,
    )
    y = op("Reshape", y, shape)
    y = op("Slice", y, build.ints(0), count, one)
    return [of_rank(y, _OF_A_TOKEN), of_rank(op("Squeeze", after, build.ints(2)), _OF_A_TOKEN)]


def _step(
    build: Builder, decays: bool, retrieves: bool, ragged: bool, states: bool, deltas: bool
) -> Graph:
    """All that one token does. Its parts are matrices of one row, or one column."""
    inside = build.body("token")
    op, body = inside.op, inside.graph

    def parameter(name: str, dtype: DataType = DataType.FLOAT) -> Value:
        return inside.parameter(name, TensorType(dtype, (None,) * _OF_A_TOKEN))

    state, query, key, addend = (parameter(name) for name in ("state", "query", "key", "value"))
    if decays:
        state = op("Mul", state, parameter("decay"))
    if retrieves:
        addend = op("Mul", parameter("beta"), op("Sub", addend, op("MatMul", key, state)))
    if ragged:
        # Where there is no token, also a state that is not finite stays as it is.
        is_token = parameter("is_token", DataType.BOOL)
        addend = op("Where", is_token, addend, inside.constant(np.float32(0)))
    state = op("Add", state, op("Mul", op("Transpose", key, perm=[0, 1, 3, 2]), addend))
    body.add_output(state)
    body.add_output(op("MatMul", query, state))
    if states:
        body.add_output(op("Identity", state))
    if deltas:
        body.add_output(op("Identity", addend))
    return body


def more_heads(build: Builder, x: Value, count: Value) -> Value:
    """``[batch, tokens, heads, size]`` with each head as often as makes `count` of them."""
    wanted, have = known_constant(count), build.known_dim(x, 2)
    if wanted is not None and have == wanted[0]:
        return x
    times = build.op("Div", count, build.dim(x, 2))
    shape, size = build.op("Shape", x, end=3), build.dim(x, 3)
    again = build.op("Concat", shape, times, size, axis=0)
    copies = build.op("Expand", build.op("Unsqueeze", x, build.ints(3)), again)
    joined = build.op("Concat", build.op("Shape", x, end=2), count, size, axis=0)
    return build.op("Reshape", copies, joined, allowzero=1)


def zeros(build: Builder, *sizes: Value) -> Value:
    """In float32."""
    zero = Constant.from_numpy(np.zeros(1, dtype=np.float32))
    made = build.op("ConstantOfShape", build.op("Concat", *sizes, axis=0), value=zero)
    return of_rank(made, len(sizes))


def root_scale(build: Builder, scale: float, size: Value) -> Value:
    """`scale`, or for 0 what belongs to keys of this size, in float32."""
    if scale:
        return build.floats(scale)
    return build.op("Reciprocal", build.op("Sqrt", build.op("Cast", size, to=int(DataType.FLOAT))))


def of_rank(value: Value, rank: int, dtype: DataType = DataType.FLOAT) -> Value:
    """A tensor of so many axes."""
    value.type = TensorType(dtype, (None,) * rank)
    return value
