# SPDX-License-Identifier: Apache-2.0
"""The recurrence of linear attention by chunks of tokens, whose products are of matrices.

A token's change of the state depends on those of the tokens before it in its chunk by a lower
triangular system. With its inverse, which does not depend on the state, a chunk takes the state
from its first token to its last at once (Yang et al., "Parallelizing Linear Transformers with the
Delta Rule over Sequence Length", 2024). The decays between two tokens are sums of their own, so
that strong decays before them cost no digits.

In a product a number that is not finite reaches the rows of all tokens, whatever the others are
multiplied by. So what is not finite is left out of the products, and added, as NaN, to what comes
of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bascule.canonical.builder import Builder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

CHUNK = 32
"""Tokens at once: a power of two."""

_ORDER = np.arange(CHUNK)
_BEFORE = _ORDER[:, None] > _ORDER
_UP_TO = _ORDER[:, None] >= _ORDER
"""Whether a row's token stands behind that of the column, and whether it may be the same."""
_AXES = 5
"""Of what a chunk brings: batch, heads, queries of a head, and a matrix of its tokens."""


@dataclass
class Chunks:
    """What chunks bring, ``[chunks, batch, heads, queries of a head or 1, tokens, size]``."""

    query: Value
    key: Value
    value: Value
    decay: Value | None
    """Logarithms, one number for each head of a token."""
    beta: Value | None
    is_token: Value | None = None
    """Where sequences are shorter than the chunks are long: whether there is a token."""


def scan_chunks(build: Builder, chunks: Chunks, state: Value) -> tuple[Value, Value]:
    """The results of the chunks, and the state after them, ``[batch, heads, 1, size, size]``."""
    op, zero = build.op, build.constant(np.float32(0))
    chunks, lost = _finite(build, chunks)
    columns = op("Transpose", chunks.key, perm=[0, 1, 2, 3, 5, 4])
    last = build.ints(CHUNK - 1), build.ints(CHUNK), build.ints(4)
    each = _Scanned(chunks.query, columns, op("MatMul", chunks.query, columns), chunks.value)
    each.lost = op("Slice", lost, *last)
    known, between = chunks.key, None
    if chunks.decay is not None:
        between = _decays(build, chunks.decay)
        since_start = op("Exp", op("CumSum", chunks.decay, build.int_scalar(4)))
        each.query, known = op("Mul", chunks.query, since_start), op("Mul", known, since_start)
        each.columns = op("Mul", columns, op("Slice", between, *last))
        each.scores = op("Mul", each.scores, between)
        # NaN as a factor spares what has a decay another sum over the state.
        each.decay, each.lost = op("Add", op("Slice", since_start, *last), each.lost), None
    each.scores = op("Where", build.constant(_UP_TO), each.scores, zero)
    if chunks.beta is not None:
        below = op("Mul", op("MatMul", chunks.key, columns), chunks.beta)
        below = below if between is None else op("Mul", below, between)
        inverse = _inverse(build, op("Where", build.constant(_BEFORE), below, zero))
        each.changes = op("MatMul", inverse, op("Mul", chunks.value, chunks.beta))
        each.known = op("MatMul", inverse, op("Mul", known, chunks.beta))
        each.is_token = chunks.is_token
    y, after = _scan(build, state, each)
    return _with_axes(op("Add", y, lost), _AXES + 1), after


def _finite(build: Builder, chunks: Chunks) -> tuple[Chunks, Value]:
    """The chunks with zeros for what is not finite, and what is lost for each token.

    That is NaN for the rest of a chunk, in all columns of a value or in one, and else zero.
    """
    op, zero = build.op, build.constant(np.float32(0))
    infinity = build.constant(np.float32(np.inf))
    is_finite = op("Less", op("ReduceL1", chunks.key, build.ints(-1)), infinity)
    key = op("Where", is_finite, chunks.key, zero)
    decay, beta = chunks.decay, chunks.beta
    if decay is not None:
        is_below = op("Less", decay, infinity)  # -inf leaves nothing, which is right
        decay, is_finite = op("Where", is_below, decay, zero), op("And", is_finite, is_below)
    if beta is not None:
        is_rate = op("Less", op("Abs", beta), infinity)
        beta, is_finite = op("Where", is_rate, beta, zero), op("And", is_finite, is_rate)
    is_number = op("Less", op("Abs", chunks.value), infinity)
    value = op("Where", is_number, chunks.value, zero)
    nan = build.constant(np.float32(np.nan))
    lost = op("Where", op("And", is_number, is_finite), zero, nan)
    lost = op("CumSum", lost, build.int_scalar(4))
    return replace(chunks, key=key, value=value, decay=decay, beta=beta), lost


def _decays(build: Builder, decay: Value) -> Value:
    """What is left at each token, a row, of what an earlier one, a column, or itself brought."""
    op = build.op
    later = op("Where", build.constant(_BEFORE), decay, build.constant(np.float32(0)))
    return op("Exp", op("CumSum", later, build.int_scalar(4)))


def _inverse(build: Builder, below: Value) -> Value:
    """The inverse of the identity and what stands below its diagonal.

    That of blocks on the diagonal of twice the size comes of those of the two halves of each.
    """
    op, inverse = build.op, build.constant(np.eye(CHUNK, dtype=np.float32))
    size = 1
    while size < CHUNK:
        half, block = _ORDER // size % 2, _ORDER // (2 * size)
        corner = (block[:, None] == block) & (half[:, None] > half)
        own = op("Mul", below, build.constant(corner.astype(np.float32)))
        if size > 1:
            own = op("MatMul", op("MatMul", inverse, own), inverse)
        inverse = op("Sub", inverse, own)
        size *= 2
    return inverse


@dataclass
class _Scanned:
    """What a chunk does to the state and its results, each with the axes of `Chunks`."""

    query: Value
    columns: Value
    """Keys, a column for each, decayed to the end of the chunk."""
    scores: Value
    changes: Value
    known: Value | None = None
    """By which a token knows of the state, if it adds only the rest."""
    decay: Value | None = None
    lost: Value | None = None
    """What to multiply the state before by, and what to add to it."""
    is_token: Value | None = None


def _scan(build: Builder, state: Value, each: _Scanned) -> tuple[Value, Value]:
    inside = build.body("chunk")
    op, body, scanned = inside.op, inside.graph, []

    def parameter(name: str, outer: Value | None = None) -> Value:
        dtype = DataType.FLOAT
        if outer is not None:
            scanned.append(outer)
            dtype = outer.dtype or dtype
        type = TensorType(dtype, (None,) * _AXES)
        return inside.parameter(name, type)

    before = parameter("state")
    query, columns = parameter("query", each.query), parameter("columns", each.columns)
    scores, changes = parameter("scores", each.scores), parameter("changes", each.changes)
    if each.known is not None:
        changes = op("Sub", changes, op("MatMul", parameter("known", each.known), before))
        if each.is_token is not None:
            # A state that is not finite leaves a token that brings nothing no zeros.
            is_token = parameter("is_token", each.is_token)
            changes = op("Where", is_token, changes, inside.constant(np.float32(0)))
    left = before
    if each.decay is not None:
        left = op("Mul", left, parameter("decay", each.decay))
    if each.lost is not None:
        left = op("Add", left, parameter("lost", each.lost))
    after = op("Add", left, op("MatMul", columns, changes))
    body.add_output(after)
    body.add_output(op("Add", op("MatMul", query, before), op("MatMul", scores, changes)))
    after, y = build.ops(
        "Scan", state, *scanned, outputs=2, body=body, num_scan_inputs=len(scanned)
    )
    return _with_axes(y, _AXES + 1), _with_axes(after, _AXES)


def _with_axes(value: Value, count: int) -> Value:
    value.type = TensorType(DataType.FLOAT, (None,) * count)
    return value
