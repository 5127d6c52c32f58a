# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements, repeat them or leave some out."""

from __future__ import annotations

from bascule.gradient.build import Builder, Term, known_constant
from bascule.gradient.indexing import undo_move
from bascule.gradient.registry import ALL, Gradients, gradient
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node


@gradient("Reshape", "Flatten", "Squeeze", "Unsqueeze", inputs=1)
def reshape(node: Node, dy: Term, build: Builder) -> Gradients:
    return [build.reshape_like(dy, build.inputs(node)[0])]


@gradient("Transpose")
def transpose(node: Node, dy: Term, build: Builder) -> Gradients:
    perm = node.attribute("perm")
    if perm is None:
        return [build.op("Transpose", dy)]
    inverse = [0] * len(perm)
    for place, axis in enumerate(perm):
        inverse[axis] = place
    return [build.transpose(dy, inverse)]


@gradient("Concat")
def concat(node: Node, dy: Term, build: Builder) -> Gradients:
    parts = build.inputs(node)
    if len(parts) == 1:
        return [dy]
    axis = node.attributes["axis"]
    sizes = build.concat(*(build.dim(part, axis) for part in parts))
    return build.node_of("Split", [dy, sizes], {"axis": axis}, outputs=len(parts))


@gradient("Split", inputs=1, outputs=ALL)
def split(node: Node, dys: list[Term | None], build: Builder) -> Gradients:
    parts = [
        build.zeros_like(build(value)) if dy is None else dy for dy, value in zip(dys, node.outputs)
    ]
    return [build.op("Concat", *parts, axis=node.attribute("axis", 0))]


@gradient("Slice", inputs=1)
def slice_(node: Node, dy: Term, build: Builder) -> Gradients:
    x, *bounds = [build.optional(value) for value in node.inputs]
    assert x is not None and bounds[0] is not None
    steps = known_constant(node.input(4))
    if node.input(4) is not None and (steps is None or any(steps != 1)):
        return [undo_move(build, x, dy, lambda places: build.op("Slice", places, *bounds))]
    axes = build.optional(node.input(3)) or build.indices(build.Size(bounds[0]))
    axes = _int64(build, axes)
    size = build.gather(build.shape(x), axes)
    begin = _int64(build, bounds[0])
    begin = build.Where(begin < 0, begin + size, begin)
    begin = build.Min(build.Max(begin, 0), size)
    end = size - begin - build.gather(build.shape(build(node.output)), axes)
    return [build.Pad(dy, build.concat(begin, end), None, axes)]


def _int64(build: Builder, term: Term) -> Term:
    array = known_constant(term.value)
    if array is not None:
        return build.constant(array.astype("int64"))
    return build.cast(term, DataType.INT64)


@gradient("Pad")
def pad(node: Node, dy: Term, build: Builder) -> Gradients:
    x, pads, number, axes = (build.optional(node.input(index)) for index in range(4))
    assert x is not None and pads is not None
    mode = node.attribute("mode", "constant")
    if mode != "constant":
        return [
            undo_move(build, x, dy, lambda places: build.Pad(places, pads, None, axes, mode=mode))
        ]
    dx = build.Pad(dy, -pads, None, axes)
    if number is None:
        return [dx]
    inside = build.Pad(
        build.fill(build.shape(x), 0, dy.dtype), pads, build.number(1, dy.dtype), axes
    )
    padded = build.ReduceSum(dy * inside, keepdims=0)
    return [dx, None, build.reshape_like(padded, number)]


@gradient("Expand", inputs=1, broadcasts=True)
def expand(node: Node, dy: Term, build: Builder) -> Gradients:
    return [dy]


@gradient("Tile", inputs=1)
def tile(node: Node, dy: Term, build: Builder) -> Gradients:
    """Each axis becomes two, of which the repeats are summed."""
    x, repeats = build.inputs(node)
    pairs = build.op(
        "Concat", build.unsqueeze(repeats, 1), build.unsqueeze(build.shape(x), 1), axis=1
    )
    apart = build.reshape(dy, build.Reshape(pairs, build.ints(-1)))
    return [build.sum(apart, range(0, 2 * x.rank, 2))]


@gradient("Trilu", inputs=1)
def trilu(node: Node, dy: Term, build: Builder) -> Gradients:
    return [build.op("Trilu", dy, node.input(1), **node.attributes)]


@gradient("DepthToSpace")
def depth_to_space(node: Node, dy: Term, build: Builder) -> Gradients:
    return [build.op("SpaceToDepth", dy, **node.attributes)]


@gradient("SpaceToDepth")
def space_to_depth(node: Node, dy: Term, build: Builder) -> Gradients:
    return [build.op("DepthToSpace", dy, **node.attributes)]


@gradient("ReverseSequence", inputs=1)
def reverse_sequence(node: Node, dy: Term, build: Builder) -> Gradients:
    return [build.op("ReverseSequence", dy, node.input(1), **node.attributes)]
