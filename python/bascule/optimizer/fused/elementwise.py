# SPDX-License-Identifier: Apache-2.0
"""A region of elementwise operators."""

from __future__ import annotations

from bascule.ir.graph import Graph, Node, Value
from bascule.optimizer.fused.body import Body


def define_elementwise(node: Node) -> Body | None:
    """The nodes of the attribute ``body``."""
    source = node.attribute("body")
    if not isinstance(source, Graph):
        return None
    body = Body(node, *(value.name for value in source.inputs))
    mapped: dict[Value, Value] = {value: body.input(value.name) for value in source.inputs}
    for value in source.initializers.values():
        mapped[value] = body.call("Constant", value=value.constant)
    for each in source:
        inputs = [None if value is None else mapped[value] for value in each.inputs]
        copy = Node(each.op_type, inputs, len(each.outputs), each.attributes)
        body.graph.append(copy)
        for old, new in zip(each.outputs, copy.outputs):
            new.type = old.type
            mapped[old] = new
    return body.output(*(mapped[value] for value in source.outputs))
