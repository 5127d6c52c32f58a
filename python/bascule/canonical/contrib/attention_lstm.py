# SPDX-License-Identifier: Apache-2.0
"""LSTM that attends on a memory in each step, and reads with its next input what it found there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType

Function = Callable[[Builder, Value], Value]

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
"""The activations, with the parameters that each takes from the lists of them."""


@dataclass(frozen=True)
class _Memory:
    """What is attended on: rows, their keys, and what to add to scores of those that are none."""

    rows: Value
    keys: Value
    hidden: Value | None


@dataclass(frozen=True)
class _Cell:
    """One direction."""

    x: Value
    """What the inputs add to the gates, ``[steps, batch, 4 * hidden]``, in the order iofc."""
    recurrent: Value
    """The weights of what was attended on and of the state, one below the other."""
    initial: tuple[Value, ...]
    """The state, the cells, and what was attended on."""
    peepholes: list[Value]
    query: Value
    vector: Value
    attention: Value | None
    active: Value | None
    """Which steps of each sequence there are, ``[steps, batch, 1]``."""
    functions: list[Function]
    limit: Callable[[Builder, Value], Value]
    coupled: bool


@operator("AttnLSTM")
def attn_lstm(
    build: ContribBuilder,
    X: Value,
    W: Value,
    R: Value,
    B: Value | None,
    sequence_lens: Value | None,
    initial_h: Value | None,
    initial_c: Value | None,
    P: Value | None,
    QW: Value,
    MW: Value,
    V: Value,
    M: Value,
    memory_seq_lens: Value | None,
    AW: Value | None,
    *,
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
) -> Outputs:
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    if direction not in directions:
        raise build.invalid(f"attribute 'direction' is '{direction}', expected {list(directions)}")
    backwards = directions[direction]
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * len(backwards)
    if len(names) != 3 * len(backwards):
        raise build.invalid(
            f"attribute 'activations' has {len(names)} names, expected {3 * len(backwards)}"
        )
    functions = _functions(build, names, activation_alpha or [], activation_beta or [])
    steps = build.dim(X, 0)
    active = None if sequence_lens is None else _inside(build, sequence_lens, steps)
    rows, hidden = M, None
    if memory_seq_lens is not None:
        there = build.op(
            "Transpose", _inside(build, memory_seq_lens, build.dim(M, 1)), perm=[1, 0, 2]
        )
        zero = build.like(0.0, build.typed(M))
        rows = build.op("Where", there, M, zero)
        never = build.op("Where", there, zero, build.like(float("-inf"), M))
        hidden = build.op("Squeeze", never, build.ints(2))
    found = []
    for index, reverse in enumerate(backwards):
        own = [_of_direction(build, each, index) for each in (W, R, B, P, QW, MW, V, AW)]
        w, r, b, p, query, keys, vector, attention = own
        assert w and r and query and keys and vector
        x = _turned(build, X, sequence_lens) if reverse else X
        inputs, attended = build.ops(
            "Split",
            w,
            build.op(
                "Concat", build.dim(X, 2), build.op("Sub", build.dim(w, 1), build.dim(X, 2)), axis=0
            ),
            outputs=2,
            axis=1,
        )
        gates = build.op("MatMul", x, build.op("Transpose", inputs, perm=[1, 0]))
        if b is not None:
            halves = build.ops("Split", b, outputs=2, axis=0, num_outputs=2)
            gates = build.op("Add", gates, build.op("Add", *halves))
        below = build.op("Concat", attended, r, axis=1)
        batch, size = build.dim(X, 1), build.dim(R, 2)
        initial = [
            _of_direction(build, each, index) or _zeros(build, X, batch, size)
            for each in (initial_h, initial_c)
        ]
        cell = _Cell(
            gates,
            build.op("Transpose", below, perm=[1, 0]),
            (*initial, _zeros(build, X, batch, build.dim(attended, 1))),
            [] if p is None else build.ops("Split", p, outputs=3, axis=0, num_outputs=3),
            query,
            build.op("Unsqueeze", vector, build.ints(1)),
            attention,
            active,
            functions[3 * index : 3 * index + 3],
            partial(_clipped, limit=clip),
            bool(input_forget),
        )
        memory = _Memory(rows, build.op("MatMul", rows, keys), hidden)
        h, c, y = _run(build, cell, memory)
        y = _turned(build, y, sequence_lens) if reverse else y
        found.append((build.op("Unsqueeze", y, build.ints(1)), h, c))
    if len(found) == 1:
        y, h, c = found[0]
        return y, *(build.op("Unsqueeze", each, build.ints(0)) for each in (h, c))
    ys, hs, cs = zip(*found)
    states = [
        build.op("Concat", *(build.op("Unsqueeze", x, build.ints(0)) for x in each), axis=0)
        for each in (hs, cs)
    ]
    return build.op("Concat", *ys, axis=1), *states


def _functions(
    build: ContribBuilder, names: list[str], alphas: list[float], betas: list[float]
) -> list[Function]:
    given = {"alpha": iter(alphas), "beta": iter(betas)}
    found: list[Function] = []
    for name in names:
        if name not in _PARAMETERS:
            raise build.not_supported(f"activation '{name}'")
        values = {each: next(given[each], None) for each in _PARAMETERS[name]}
        attributes = {each: value for each, value in values.items() if value is not None}
        found.append(partial(_apply, op_type=name, attributes=attributes))
    return found


def _apply(build: Builder, x: Value, op_type: str, attributes: dict[str, Any]) -> Value:
    return build.op(op_type, x, **attributes)


def _clipped(build: Builder, x: Value, limit: float | None) -> Value:
    if limit is None:
        return x
    return build.op(
        "Clip",
        x,
        *(build.op("CastLike", build.constant(np.float32(each)), x) for each in (-limit, limit)),
    )


def _inside(build: ContribBuilder, lengths: Value, count: Value) -> Value:
    """Which of so many steps belong to a sequence: ``[steps, batch, 1]``."""
    numbers = build.numbers(count)
    column = build.op("Unsqueeze", numbers, build.ints(1, 2))
    return build.op("Less", column, build.op("Unsqueeze", build.int64(lengths), build.ints(1)))


def _of_direction(build: ContribBuilder, x: Value | None, index: int) -> Value | None:
    return None if x is None else build.op("Gather", x, build.int_scalar(index), axis=0)


def _turned(build: ContribBuilder, x: Value, lengths: Value | None) -> Value:
    """With the steps of each sequence in the other order."""
    if lengths is None:
        lengths = build.op("Expand", build.dim(x, 0), build.op("Shape", x, start=1, end=2))
    return build.op("ReverseSequence", x, build.int64(lengths), time_axis=0, batch_axis=1)


def _zeros(build: ContribBuilder, x: Value, *sizes: Value) -> Value:
    return build.op("Expand", build.like(0.0, build.typed(x)), build.op("Concat", *sizes, axis=0))


def _run(build: ContribBuilder, cell: _Cell, memory: _Memory) -> tuple[Value, Value, Value]:
    """The last state of each sequence, its cells, and the states of all steps."""
    scanned = [cell.x] if cell.active is None else [cell.x, cell.active]
    h, c, _, y = build.ops(
        "Scan",
        *cell.initial,
        *scanned,
        outputs=4,
        body=_step(build, cell, memory),
        num_scan_inputs=len(scanned),
    )
    return h, c, y


def _step(build: ContribBuilder, cell: _Cell, memory: _Memory) -> Graph:
    inside = build.body("attention_lstm")
    dtype = build.typed(cell.x).dtype or DataType.FLOAT

    def parameter(name: str, kind: DataType = dtype) -> Value:
        return inside.parameter(name, TensorType(kind, (None, None)))

    h, c, attended, x = (parameter(name) for name in ("h", "c", "attended", "x"))
    active = None if cell.active is None else parameter("active", DataType.BOOL)
    op, limit, (f, g, last) = inside.op, partial(cell.limit, inside), cell.functions
    product = op("MatMul", op("Concat", attended, h, axis=1), cell.recurrent)
    gates = op("Add", x, product)
    i, o, forget, new = inside.ops("Split", gates, outputs=4, axis=1, num_outputs=4)
    holes = cell.peepholes

    def seen(gate: Value, state: Value, hole: int) -> Value:
        return op("Add", gate, op("Mul", holes[hole], state)) if holes else gate

    i = f(inside, limit(seen(i, c, 0)))
    if cell.coupled:
        forget = op("Sub", op("CastLike", inside.constant(np.float32(1)), i), i)
    else:
        forget = f(inside, limit(seen(forget, c, 2)))
    cells = op("Add", op("Mul", forget, c), op("Mul", i, g(inside, limit(new))))
    o = f(inside, limit(seen(o, cells, 1)))
    state = op("Mul", o, last(inside, cells))
    query = op("Unsqueeze", op("MatMul", state, cell.query), inside.ints(1))
    match = op("MatMul", op("Tanh", op("Add", memory.keys, query)), cell.vector)
    scores = op("Squeeze", match, inside.ints(2))
    if memory.hidden is not None:
        scores = op("Add", scores, memory.hidden)
    weights = op("Unsqueeze", op("Softmax", scores, axis=-1), inside.ints(1))
    found = op("Squeeze", op("MatMul", weights, memory.rows), inside.ints(1))
    if cell.attention is not None:
        found = op("MatMul", op("Concat", state, found, axis=1), cell.attention)
    shown = state
    if active is not None:
        zero = op("CastLike", inside.constant(np.float32(0)), state)
        shown = op("Where", active, state, zero)
        state, cells = op("Where", active, state, h), op("Where", active, cells, c)
        found = op("Where", active, found, attended)
    for each in (state, cells, found):
        inside.graph.add_output(each)
    inside.graph.add_output(op("Identity", shown))
    return inside.graph
