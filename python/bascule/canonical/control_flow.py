# SPDX-License-Identifier: Apache-2.0
"""Scan, which used to run over a batch."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType, Type


@rewrite("Scan", until=8, types=True)
def scan_over_batch(node: Node, build: Builder) -> None:
    """Axis 0 of everything was the batch, axis 1 the sequence.

    An outer Scan takes the samples apart; an inner one runs the body over a sample's sequence. With
    lengths given, each sample is cut to its length first and its outputs are padded afterwards.
    """
    lengths, *values = node.inputs
    body: Graph = node.attributes["body"]
    scans: int = node.attributes["num_scan_inputs"]
    directions = node.attributes.get("directions")
    states = len(values) - scans
    if scans < 1 or states < 0:
        raise build.invalid(f"{len(values)} inputs cannot hold {scans} scan inputs")

    outer = Graph(f"{body.name}_batch")
    outer.parent = node  # so that names are fresh in the whole model
    inside = Builder(node, build.version, outer)
    samples = [outer.add_input(_sample_of(build, value)) for value in values]
    longest = length = None
    if lengths is not None:
        longest = inside.op("Shape", samples[states], start=0, end=1)
        length = inside.as_vector(outer.add_input(_sample_of(build, lengths)))
        for index in range(states, len(samples)):
            samples[index] = inside.op(
                "Slice", samples[index], inside.ints(0), length, inside.ints(0)
            )
    inner = Node("Scan", samples, len(node.outputs), {"body": body, "num_scan_inputs": scans})
    if directions:
        inner.attributes["scan_input_directions"] = directions
    outer.append(inner)
    for index, value in enumerate(inner.outputs):
        if length is not None and index >= states:
            missing = inside.op("Sub", longest, length)
            pads = inside.op("Concat", inside.ints(0), missing, axis=0)
            value = inside.op("Pad", value, pads, None, inside.ints(0))
        outer.add_output(value)

    batched = values if lengths is None else [*values, lengths]
    build.become("Scan", *batched, body=outer, num_scan_inputs=len(batched))


def _sample_of(build: Builder, value: Value | None) -> Value:
    if value is None:
        raise build.invalid("an input is missing")
    kind: Type | None = None
    if value.dtype is not None:
        kind = TensorType(value.dtype, None if value.shape is None else value.shape[1:])
    return Value(build.graph.fresh_name(f"{value.name}_sample"), kind)
