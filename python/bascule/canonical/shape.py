# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements: Reshape, Squeeze, Slice, Pad, Split, Tile, Concat, TopK."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node


@rewrite("Reshape", until=4)
def reshape(node: Node, build: Builder) -> None:
    shape = node.attributes.pop("shape", None)
    if shape is None:
        raise build.invalid("attribute 'shape' is missing")
    node.set_input(1, build.ints(*shape))


@rewrite("Concat", until=3)
def concat(node: Node, build: Builder) -> None:
    node.attributes.setdefault("axis", 1)


@rewrite("Squeeze", "Unsqueeze", until=12)
def squeeze(node: Node, build: Builder) -> None:
    axes = node.attributes.pop("axes", None)
    if axes is not None:
        node.set_input(1, build.ints(*axes))


@rewrite("Slice", until=9)
def slice_(node: Node, build: Builder) -> None:
    starts, ends = node.attributes.pop("starts"), node.attributes.pop("ends")
    axes = node.attributes.pop("axes", None)
    if axes is None:
        axes = range(len(starts))
    if not len(starts) == len(ends) == len(axes):
        raise build.invalid("'starts', 'ends' and 'axes' have not the same length")
    node.set_inputs([node.inputs[0], build.ints(*starts), build.ints(*ends), build.ints(*axes)])


@rewrite("Pad", until=1)
def paddings(node: Node, build: Builder) -> None:
    node.attributes["pads"] = node.attributes.pop("paddings")


@rewrite("Pad", until=10, types=True)
def pad(node: Node, build: Builder) -> None:
    x = node.inputs[0]
    assert x is not None
    pads = build.ints(*node.attributes.pop("pads"))
    value = node.attributes.pop("value", 0.0)
    constant = node.attribute("mode", "constant") == "constant"
    node.set_inputs([x, pads, build.like(value, x)] if constant and value else [x, pads])


@rewrite("Split", until=1, types=True)
def split_lengths(node: Node, build: Builder) -> None:
    """The lengths, if an input, had the element type of the data."""
    lengths = node.input(1)
    if lengths is not None:
        node.attributes.pop("split", None)
        node.set_input(1, build.cast(lengths, DataType.INT64))


@rewrite("Split", until=17)
def split(node: Node, build: Builder) -> None:
    """Equal parts have to be asked for."""
    lengths = node.attributes.pop("split", None)
    if lengths is not None:
        node.set_input(1, build.ints(*lengths))
    elif node.input(1) is None:
        node.attributes["num_outputs"] = len(node.outputs)


@rewrite("Tile", until=5, types=True)
def tile(node: Node, build: Builder) -> None:
    """One axis was repeated, both numbers being inputs with the element type of the data."""
    x, tiles, axis = node.inputs
    assert x is not None and tiles is not None and axis is not None
    where = build.as_vector(build.cast(axis, DataType.INT64))
    count = build.as_vector(build.cast(tiles, DataType.INT64))
    repeats = build.op("ScatterElements", build.ones(build.rank(x)), where, count)
    node.set_inputs([x, repeats])


@rewrite("TopK", until=9)
def top_k(node: Node, build: Builder) -> None:
    node.set_input(1, build.ints(node.attributes.pop("k")))
