# SPDX-License-Identifier: Apache-2.0
"""What a model's protobuf messages hold: tensors, nested graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_HOLDERS = frozenset(
    (
        "AttributeProto",
        "FunctionProto",
        "GraphProto",
        "NodeProto",
        "SparseTensorProto",
        "TensorProto",
        "TrainingInfoProto",
    )
)
"""The messages that tensors may be in."""


def tensors_in(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor in a message, in the order in which it has them."""
    pending = [message]
    while pending:
        each = pending.pop()
        if each.DESCRIPTOR.name == "TensorProto":
            yield each
            continue
        for descriptor, value in reversed(each.ListFields()):
            if descriptor.message_type is not None and descriptor.message_type.name in _HOLDERS:
                pending.extend([value] if hasattr(value, "DESCRIPTOR") else reversed(value))


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and all that are nested in it."""
    yield graph
    for node in graph.node:
        for inner in graphs_of(node):
            yield from graphs_in(inner)


def graphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that are attributes of a node."""
    return [graph for attribute in node.attribute for graph in graphs_in_attribute(attribute)]


def graphs_in_attribute(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    """The graphs that an attribute holds."""
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
