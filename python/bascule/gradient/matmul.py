# SPDX-License-Identifier: Apache-2.0
"""Matrix products."""

from __future__ import annotations

from bascule.gradient.broadcast import sum_to
from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Gradients, gradient
from bascule.ir.graph import Node
from bascule.ir.types import TensorType


@gradient("MatMul")
def matmul(node: Node, dy: Term, build: Builder) -> Gradients:
    a, b = build.inputs(node)
    if a.rank == 1 or b.rank == 1:
        return _vector_product(build, dy, a, b)
    if b.rank == 2 and a.rank > 2:
        return _stacked_product(build, dy, a, b)
    return [
        _sum_batches(build, dy @ _transposed(build, b), dy, a),
        _sum_batches(build, _transposed(build, a) @ dy, dy, b),
    ]


def _transposed(build: Builder, matrices: Term) -> Term:
    rank = matrices.rank
    return build.transpose(matrices, [*range(rank - 2), rank - 1, rank - 2])


def _sum_batches(build: Builder, slope: Term, dy: Term, target: Term) -> Term:
    """Over the batches that the matrices of `target` were repeated for."""
    batches, own = dy.value.shape, target.value.shape
    if batches is not None and own is not None:
        slope.value.type = TensorType(slope.dtype, (*batches[:-2], *own[-2:]))
    return sum_to(build, slope, slope, target)


def _stacked_product(build: Builder, dy: Term, a: Term, b: Term) -> Gradients:
    """Of many matrices with one: all their rows are one matrix."""
    rows = build.reshape(build.size(a, range(a.rank - 1)), build.ints(1))
    stacked = build.reshape(a, build.concat(rows, build.dim(a, a.rank - 1)))
    dy_rows = build.reshape(dy, build.concat(rows, build.dim(b, 1)))
    return [
        build.MatMul(dy, build.transpose(b, [1, 0])),
        build.op("Gemm", stacked, dy_rows, transA=1),
    ]


def _vector_product(build: Builder, dy: Term, a: Term, b: Term) -> Gradients:
    """A vector is a row on the left and a column on the right; its axis is missing in dy."""
    if a.rank == 1 and b.rank == 1:
        return [dy * b, dy * a]
    if a.rank == 1:
        dy = build.unsqueeze(dy, -2)
        da = build.MatMul(dy, _transposed(build, b))
        db = build.unsqueeze(a, 1) @ dy
        return [build.sum(build.squeeze(da, -2), range(b.rank - 2)), db]
    dy = build.unsqueeze(dy, -1)
    db = build.MatMul(_transposed(build, a), dy)
    return [dy * b, build.sum(build.squeeze(db, -1), range(a.rank - 2))]


@gradient("Gemm")
def gemm(node: Node, dy: Term, build: Builder) -> Gradients:
    """With A' and B' as the attributes have them: ``dA' = dY B'^T`` and ``dB' = A'^T dY``."""
    a, b = build.inputs(node)[:2]
    trans_a, trans_b = (int(bool(node.attribute(name, 0))) for name in ("transA", "transB"))
    alpha = node.attribute("alpha", 1.0)

    def product(left: Term, right: Term, trans_left: int, trans_right: int) -> Term:
        return build.op("Gemm", left, right, transA=trans_left, transB=trans_right, alpha=alpha)

    da = product(b, dy, trans_b, 1) if trans_a else product(dy, b, 0, 1 - trans_b)
    db = product(dy, a, 1, trans_a) if trans_b else product(a, dy, 1 - trans_a, 0)
    c = build.optional(node.input(2))
    if c is None:
        return [da, db]
    scaled = dy * node.attribute("beta", 1.0)
    return [da, db, sum_to(build, scaled, build(node.output), c)]
