# SPDX-License-Identifier: Apache-2.0
"""The recurrence of linear attention by chunks of tokens, whose products are of matrices.

A token's change of the state depends on those of the tokens before it in its chunk by a lower
triangular system. With its inverse, which does not depend on the state, a chunk takes the state
from its first token to its last at once (Yang et al., "Parallelizing Linear Transformers with the
Delta Rule over Sequence Length", 2024). The decays between two tokens are sums of their own, so
that strong decays before them cost no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bascule.canonical.builder import Builder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType

CHUNK = 32
"""Tokens at once: a power of two."""

_ORDER = np.arange(CHUNK)
_BEFORE = (_ORDER[:, None] > _ORDER).astype(np.float32)
_UP_TO = (_ORDER[:, None] >= _ORDER).astype(np.float32)
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


def scan_chunks(build: Builder, chunks: Chunks, state: Value) -> tuple[Value, Value]:
    """The results of the chunks, and the state after them, ``[batch, heads, 1, size, size]``."""
    op = build.op
    columns = op("Transpose", chunks.key, perm=[0, 1, 2, 3, 5, 4])
    query, last_columns, known = chunks.query, columns, chunks.key
    between, ends = build.constant(_UP_TO), []
    if chunks.decay is not None:
        between = _decays(build, chunks.decay)
        since_start = op("Exp", op("CumSum", chunks.decay, build.int_scalar(4)))
        last = build.ints(CHUNK - 1), build.ints(CHUNK), build.ints(4)
        query, known = op("Mul", query, since_start), op("Mul", known, since_start)
        last_columns = op("Mul", columns, op("Slice", between, *last))
        ends = [op("Slice", since_start, *last)]
    scores = op("Mul", op("MatMul", chunks.query, columns), between)
    if chunks.beta is None:
        return _scan(build, state, [query, last_columns, scores, chunks.value], None, ends)
    rates = op("Mul", op("Mul", between, build.constant(_BEFORE)), chunks.beta)
    inverse = _inverse(build, op("Mul", op("MatMul", chunks.key, columns), rates))
    changes = op("MatMul", inverse, op("Mul", chunks.value, chunks.beta))
    known = op("MatMul", inverse, op("Mul", known, chunks.beta))
    return _scan(build, state, [query, last_columns, scores, changes], known, ends)


def _decays(build: Builder, decay: Value) -> Value:
    """What is left at each token, a row, of what an earlier one, a column, or itself brought."""
    op = build.op
    later = op("Where", build.constant(_BEFORE > 0), decay, build.constant(np.float32(0)))
    sums = op("CumSum", later, build.int_scalar(4))
    return op("Mul", op("Exp", sums), build.constant(_UP_TO))


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


def _scan(
    build: Builder, state: Value, scanned: list[Value], known: Value | None, ends: list[Value]
) -> tuple[Value, Value]:
    """With what of the state each token knows, if it adds only the rest, and its last decays."""
    body = Graph("chunk")
    body.parent = build.node  # so that names are fresh in the whole model
    op = Builder(build.node, build.version, body).op

    def parameter(name: str) -> Value:
        type = TensorType(DataType.FLOAT, (None,) * _AXES)
        return body.add_input(Value(body.fresh_name(name), type))

    before, query, columns, scores, changes = (
        parameter(name) for name in ("state", "query", "columns", "scores", "changes")
    )
    if known is not None:
        changes = op("Sub", changes, op("MatMul", parameter("known"), before))
    decayed = op("Mul", before, parameter("decay")) if ends else before
    body.add_output(op("Add", decayed, op("MatMul", columns, changes)))
    body.add_output(op("Add", op("MatMul", query, before), op("MatMul", scores, changes)))
    inputs = [*scanned, *([] if known is None else [known]), *ends]
    after = build.op("Scan", state, *inputs, outputs=2, body=body, num_scan_inputs=len(inputs))
    assert after.producer is not None
    y = after.producer.outputs[1]
    after.type = TensorType(DataType.FLOAT, (None,) * _AXES)
    y.type = TensorType(DataType.FLOAT, (None,) * (_AXES + 1))
    return y, after
