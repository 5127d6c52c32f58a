# SPDX-License-Identifier: Apache-2.0
"""Distances between the rows of two matrices."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value


@operator("CDist")
def cdist(build: ContribBuilder, A: Value, B: Value, *, metric: str = "sqeuclidean") -> Outputs:
    """By the product of the matrices: ``a.a - 2 a.b + b.b``, which rounding may make negative."""
    if metric not in ("euclidean", "sqeuclidean"):
        raise build.not_supported(f"metric '{metric}'")
    rows, columns = (
        build.op("ReduceSum", build.op("Mul", x, x), build.ints(1), keepdims=keep)
        for x, keep in ((A, 1), (B, 0))
    )
    (products,) = build.fused("MatMul", A, B, transA=0, transB=1, alpha=-2.0)
    total = build.op("Add", build.op("Add", products, rows), columns)
    squares = build.op("Max", total, build.like(0.0, build.typed(A)))
    return build.op("Sqrt", squares) if metric == "euclidean" else squares
