# SPDX-License-Identifier: Apache-2.0
"""Inverse matrices, by elimination with pivots in float64."""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType


@operator("Inverse")
def inverse(build: ContribBuilder, X: Value) -> Outputs:
    """Each step makes a column of the matrix, of which the identity stands to the right, a unit.

    After all of them the matrix is the identity, and the identity is the inverse.
    """
    shape, n = build.op("Shape", X), build.dim(X, -1)
    count = build.op("ReduceProd", build.op("Shape", X, end=-2), keepdims=1)
    stack = build.op("Concat", count, n, n, axis=0)
    matrix = build.op("Reshape", build.op("Cast", X, to=int(DataType.DOUBLE)), stack, allowzero=1)
    zero = Constant.from_numpy(np.zeros(1, dtype=np.float64))
    square = build.op("ConstantOfShape", build.op("Concat", n, n, axis=0), value=zero)
    identity = build.op("Expand", build.op("EyeLike", square), stack)
    both = build.op("Concat", matrix, identity, axis=2)
    steps = build.as_scalar(n)
    rows = build.numbers(steps)
    both = build.op("Loop", steps, None, both, body=_step(build, rows))
    found = build.op("Slice", both, n, build.op("Add", n, n), build.ints(2))
    return build.op("CastLike", build.op("Reshape", found, shape, allowzero=1), X)


def _step(build: ContribBuilder, rows: Value) -> Graph:
    inside = build.body("elimination")
    body = inside.graph

    def parameter(name: str, dtype: DataType, rank: int) -> Value:
        return inside.parameter(name, TensorType(dtype, (None,) * rank))

    step = parameter("step", DataType.INT64, 0)
    goes_on = parameter("goes_on", DataType.BOOL, 0)
    both = parameter("both", DataType.DOUBLE, 3)
    op, last = inside.op, inside.ints(-1)
    place = op("Unsqueeze", step, inside.ints(0))
    is_step = op("Equal", rows, step)
    size = op("Abs", op("Gather", both, step, axis=2))
    done = inside.constant(np.array(-1.0))
    pivot = op("ArgMax", op("Where", op("Less", rows, step), done, size), axis=1, keepdims=1)
    others = op("Where", op("Equal", rows, pivot), step, rows)
    order = op("Unsqueeze", op("Where", is_step, pivot, others), last)
    both = op("GatherElements", both, op("Expand", order, op("Shape", both)), axis=1)
    row = op("Gather", both, place, axis=1)
    unit = op("Div", row, op("Gather", row, place, axis=2))
    rest = op("Sub", both, op("Mul", op("Gather", both, place, axis=2), unit))
    body.add_output(op("Identity", goes_on))
    body.add_output(op("Where", op("Unsqueeze", is_step, last), unit, rest))
    return body
