# SPDX-License-Identifier: Apache-2.0
"""Picking elements by indices, and putting them back."""

from __future__ import annotations

from collections.abc import Callable

from bascule.gradient.build import Builder, Term, axis_of
from bascule.gradient.registry import Gradients, Refusal, gradient
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node


def add_at(build: Builder, places: Term, updates: Term, target: Term) -> Term:
    """Zeros of the shape of `target`, with `updates` added at these places of its flat form."""
    flat = build.ints(-1)
    zeros = build.fill(build.reshape(build.Size(target), build.ints(1)), 0, updates.dtype)
    sums = build.ScatterElements(
        zeros, build.Reshape(places, flat), build.Reshape(updates, flat), axis=0, reduction="add"
    )
    return build.reshape_like(sums, target)


def undo_move(build: Builder, x: Term, dy: Term, move: Callable[[Term], Term]) -> Term:
    """The gradient of an operator that only moves or repeats elements of x.

    `move` applies it to a tensor of integers: here, to where each element stands in x.
    """
    places = build.reshape_like(build.indices(build.Size(x)), x)
    return add_at(build, move(places), dy, x)


@gradient("Gather", inputs=1)
def gather(node: Node, dy: Term, build: Builder) -> Gradients:
    """The indexed axis comes first, the axes of the indices in its place."""
    x, indices = build.inputs(node)
    axis = axis_of(node.attribute("axis", 0), x.rank)
    places = build.unsqueeze(build.cast(indices, DataType.INT64), -1)
    count, before, after = indices.rank, range(axis), range(axis + 1, x.rank)
    order = [
        *range(axis, axis + count),
        *before,
        *range(axis + count, x.rank + count - 1),
    ]
    shape = build.concat(build.dim(x, axis), build.shape(x, 0, axis), build.shape(x, axis + 1))
    zeros = build.fill(shape, 0, dy.dtype)
    sums = build.ScatterND(zeros, places, build.transpose(dy, order), reduction="add")
    return [build.transpose(sums, [*(each + 1 for each in before), 0, *after])]


@gradient("GatherElements", inputs=1)
def gather_elements(node: Node, dy: Term, build: Builder) -> Gradients:
    x, indices = build.inputs(node)
    axis = node.attribute("axis", 0)
    return [build.ScatterElements(build.zeros_like(x), indices, dy, axis=axis, reduction="add")]


@gradient("GatherND", inputs=1)
def gather_nd(node: Node, dy: Term, build: Builder) -> Gradients:
    x, indices = build.inputs(node)
    columns = [_own_index(build, indices, axis) for axis in range(node.attribute("batch_dims", 0))]
    places = build.op("Concat", *columns, indices, axis=-1) if columns else indices
    return [build.ScatterND(build.zeros_like(x), places, dy, reduction="add")]


def _own_index(build: Builder, indices: Term, axis: int) -> Term:
    """A last column for these indices: where each stands along an axis."""
    rank = indices.rank
    steps = build.unsqueeze(build.indices(build.dim(indices, axis)), *range(1, rank - axis))
    return build.Expand(steps, build.concat(build.shape(indices, 0, rank - 1), build.ints(1)))


@gradient("ScatterElements")
def scatter_elements(node: Node, dy: Term, build: Builder) -> Gradients:
    axis = node.attribute("axis", 0)

    def put(data: Term, updates: Term, reduction: str) -> Term:
        return build.ScatterElements(data, indices, updates, axis=axis, reduction=reduction)

    def pick(data: Term) -> Term:
        return build.GatherElements(data, indices, axis=axis)

    indices = build.inputs(node)[1]
    return _scatter(node, dy, build, put, pick)


@gradient("ScatterND")
def scatter_nd(node: Node, dy: Term, build: Builder) -> Gradients:
    def put(data: Term, updates: Term, reduction: str) -> Term:
        return build.ScatterND(data, indices, updates, reduction=reduction)

    def pick(data: Term) -> Term:
        return build.GatherND(data, indices)

    indices = build.inputs(node)[1]
    return _scatter(node, dy, build, put, pick)


def _scatter(
    node: Node,
    dy: Term,
    build: Builder,
    put: Callable[[Term, Term, str], Term],
    pick: Callable[[Term], Term],
) -> Gradients:
    """Of the largest and the smallest of equal numbers, each has its share of the gradient."""
    data, _, updates = build.inputs(node)
    reduction = node.attribute("reduction", "none")
    if reduction == "none":
        return [put(dy, build.zeros_like(updates), "none"), None, pick(dy)]
    if reduction == "add":
        return [dy, None, pick(dy)]
    if reduction not in ("max", "min"):
        raise Refusal(f"it has no rule for reduction '{reduction}'")
    y = build(node.output)
    kept, taken = build.Equal(data, y), build.Equal(updates, pick(y))
    count = put(build.cast(kept, dy.dtype), build.cast(taken, dy.dtype), "add")
    share = dy / count
    return [build.Where(kept, share, 0), None, build.Where(taken, pick(share), 0)]


@gradient("TopK", inputs=1)
def top_k(node: Node, dy: Term, build: Builder) -> Gradients:
    x = build.inputs(node)[0]
    zeros, places = build.zeros_like(x), build(node.outputs[1])
    return [build.ScatterElements(zeros, places, dy, axis=node.attribute("axis", -1))]


@gradient("Compress", inputs=1)
def compress(node: Node, dy: Term, build: Builder) -> Gradients:
    x, condition = build.inputs(node)
    return [
        undo_move(build, x, dy, lambda places: build.Compress(places, condition, **node.attributes))
    ]
