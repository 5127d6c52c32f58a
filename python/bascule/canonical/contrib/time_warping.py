# SPDX-License-Identifier: Apache-2.0
"""The path of the lowest cost through a matrix."""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import Shape, TensorType

_DIAGONAL, _DOWN = 0, 1
"""The step that leads to a point; a third one goes to the right, and is taken of equal ones."""

_NUMBER = TensorType(DataType.INT64, ())
_COSTS = TensorType(DataType.FLOAT, (None,))


@operator("DynamicTimeWarping")
def dynamic_time_warping(build: ContribBuilder, input: Value) -> Outputs:
    """From the first point to the last, ``[2, length]``.

    All points of an antidiagonal are computed at once: they follow from the two before it.
    """
    shape = build.typed(input).shape
    if shape is not None and not _is_matrix(shape):
        raise build.invalid(
            f"input 'input' has shape {list(shape)}, expected a matrix or a batch of one"
        )
    rows = build.op("Shape", input, start=-2, end=-1)
    columns = build.op("Shape", input, start=-1)
    costs = build.op("Reshape", input, build.op("Concat", rows, columns, axis=0))
    steps = _steps(build, costs, rows, columns)
    points = _walk(build, steps, rows, columns)
    backwards = (build.ints(-1), build.ints(-(1 << 31)), build.ints(0), build.ints(-1))
    ways = [
        build.op("Cast", build.op("Slice", each, *backwards), to=int(DataType.INT32))
        for each in points
    ]
    path = build.op("Concat", *(build.op("Unsqueeze", x, build.ints(0)) for x in ways), axis=0)
    return build.give_type(path, TensorType(DataType.INT32, (2, None)))


def _is_matrix(shape: Shape) -> bool:
    if len(shape) != 3:
        return len(shape) == 2
    return shape[0] == 1 or not isinstance(shape[0], int)


def _steps(build: ContribBuilder, costs: Value, rows: Value, columns: Value) -> Value:
    """The step that leads to each point, by antidiagonal and row."""
    zero = build.int_scalar(0)
    infinity = build.constant(np.array(np.inf, dtype=np.float32))
    count = build.op("Sub", build.op("Add", rows, columns), build.ints(1))
    diagonals = build.numbers(count)
    row = build.numbers(rows)
    column = build.op("Sub", build.op("Unsqueeze", diagonals, build.ints(1)), row)
    inside = build.op(
        "And",
        build.op("GreaterOrEqual", column, zero),
        build.op("Less", column, columns),
    )
    places = build.op("Add", build.op("Mul", row, columns), column)
    places = build.op("Where", inside, places, zero)
    flat = build.op("Reshape", costs, build.ints(-1))
    slanted = build.op("Where", inside, build.op("Gather", flat, places), infinity)
    # The first point follows from none: before it there is a cost of nothing.
    is_first = build.op("Equal", diagonals, zero)
    corner = build.op("Where", is_first, build.constant(np.array(0, dtype=np.float32)), infinity)
    nothing = build.op("Expand", infinity, rows)
    return build.ops(
        "Scan",
        nothing,
        nothing,
        slanted,
        corner,
        outputs=3,
        body=_diagonal(build),
        num_scan_inputs=2,
    )[2]


def _diagonal(build: ContribBuilder) -> Graph:
    """The costs of an antidiagonal, by those of the last one and of the one before."""
    inside = build.body("diagonal")
    names = {"last": _COSTS, "before": _COSTS, "costs": _COSTS}
    last, before, costs = (inside.parameter(name, type) for name, type in names.items())
    corner = inside.parameter("corner", TensorType(DataType.FLOAT, ()))
    outside = inside.constant(np.array([np.inf], dtype=np.float32))
    upper = (inside.ints(0), inside.ints(-1), inside.ints(0))
    edge = inside.op("Unsqueeze", corner, inside.ints(0))
    diagonal = inside.op("Concat", edge, inside.op("Slice", before, *upper), axis=0)
    down = inside.op("Concat", outside, inside.op("Slice", last, *upper), axis=0)
    by_diagonal, by_step_down = (
        inside.op("And", inside.op("Less", a, b), inside.op("Less", a, last))
        for a, b in ((diagonal, down), (down, diagonal))
    )
    best = inside.op("Where", by_step_down, down, last)
    best = inside.op("Where", by_diagonal, diagonal, best)
    step = inside.op("Where", by_step_down, inside.int_scalar(_DOWN), inside.int_scalar(2))
    step = inside.op("Where", by_diagonal, inside.int_scalar(_DIAGONAL), step)
    for output in (inside.op("Add", costs, best), inside.op("Identity", last), step):
        inside.graph.add_output(output)
    return inside.graph


def _walk(build: ContribBuilder, steps: Value, rows: Value, columns: Value) -> list[Value]:
    """The rows and the columns of the points of the path, the last one first."""
    inside = build.body("walk")
    inside.parameter("iteration", _NUMBER)
    inside.parameter("condition", TensorType(DataType.BOOL, ()))
    row, column = (inside.parameter(name, _NUMBER) for name in ("row", "column"))
    one = inside.int_scalar(1)
    at = inside.op("Gather", steps, inside.op("Add", row, column), axis=0)
    step = inside.op("Gather", at, row, axis=0)
    is_down = inside.op("LessOrEqual", step, one)
    is_right = inside.op("Not", inside.op("Equal", step, one))
    next_row, next_column = (
        inside.op("Sub", place, inside.op("Cast", moves, to=int(DataType.INT64)))
        for place, moves in ((row, is_down), (column, is_right))
    )
    start = inside.op("Add", row, column)
    inside.graph.add_output(inside.op("Greater", start, inside.int_scalar(0)))
    for value in (next_row, next_column, row, column):
        inside.graph.add_output(inside.op("Identity", value))
    ends = [
        build.op("Reshape", build.op("Sub", count, build.ints(1)), build.ints())
        for count in (rows, columns)
    ]
    most = build.op("Reshape", build.op("Add", rows, columns), build.ints())
    return build.ops("Loop", most, None, *ends, outputs=4, body=inside.graph)[2:]
