# SPDX-License-Identifier: Apache-2.0
"""Copying graphs, and the attribute values in them. Constants are shared: they never change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bascule.ir.graph import Attribute, AttributeReference, Function, Graph, Model, Node, Value

Resolve = Callable[[AttributeReference], "Attribute | None"]
"""The value that stands for a reference; None drops the attribute."""


class GraphCopier:
    """Copies nodes and nested graphs; values that it has not seen are captured, and stay."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._resolve = resolve
        self._values: dict[int, Value | None] = {}

    def replace_value(self, old: Value, new: Value | None) -> None:
        """Let `new` (or nothing) stand for `old` in all copies."""
        self._values[id(old)] = new

    def value(self, old: Value | None) -> Value | None:
        """What stands for `old`."""
        return None if old is None else self._values.get(id(old), old)

    def copy_value(self, old: Value, name: str) -> Value:
        """A new value that stands for `old`."""
        new = Value(name, old.type, old.constant)
        new.metadata = dict(old.metadata)
        new.origins = old.origins
        self._values[id(old)] = new
        return new

    def copy_node(self, old: Node, name: str, output_name: Callable[[str], str]) -> Node:
        """A copy that is in no graph yet; outputs that nothing stands for get new names."""
        outputs: list[Value] = []
        for value in old.outputs:
            known = self._values.get(id(value))
            outputs.append(known or self.copy_value(value, output_name(value.name)))
        node = Node(
            old.op_type,
            [self.value(value) for value in old.inputs],
            outputs,
            domain=old.domain,
            name=name,
            overload=old.overload,
        )
        node.doc, node.metadata, node.opset = old.doc, dict(old.metadata), old.opset
        node.replaced, node.binding = old.replaced, old.binding
        for key, attribute in old.attributes.items():
            copied = self._attribute(attribute, node, output_name)
            if copied is not None:
                node.attributes[key] = copied
        return node

    def _attribute(
        self, old: Attribute, node: Node, output_name: Callable[[str], str]
    ) -> Attribute | None:
        if isinstance(old, AttributeReference):
            return old if self._resolve is None else self._resolve(old)
        if isinstance(old, Graph):
            return self.copy_graph(old, node, output_name)
        if isinstance(old, list):
            return [self._attribute(item, node, output_name) for item in old]
        return old

    def copy_graph(
        self, old: Graph, parent: Node | None, output_name: Callable[[str], str]
    ) -> Graph:
        new = Graph(old.name)
        new.doc, new.metadata, new.parent = old.doc, dict(old.metadata), parent
        for value in old.inputs:
            new.add_input(self.copy_value(value, output_name(value.name)))
        for key, value in old.initializers.items():
            known = self._values.get(id(value))
            if known is not None:  # the default of an input
                new.initializers[known.name] = known
            else:
                new.add_initializer(self.copy_value(value, output_name(key)))
        for node in old:
            new.append(self.copy_node(node, node.name, output_name))
        for value in old.outputs:
            output = self.value(value)
            assert output is not None, f"{value} is absent, and an output of {old.name}"
            new.add_output(output)
        interface = interface_of(old)
        if interface != interface_of(new):
            new.interface = interface
        return new


def interface_of(graph: Graph) -> tuple[list[str], list[str]]:
    """The names of the inputs and of the outputs, as they were written."""
    inputs, outputs = ([each.name for each in ends] for ends in (graph.inputs, graph.outputs))
    return graph.interface or (inputs, outputs)


def copy_graph(graph: Graph) -> Graph:
    """An independent copy with the same names; what it captures stays captured."""
    return GraphCopier().copy_graph(graph, None, lambda name: name)


def copy_model(model: Model) -> Model:
    """An independent copy that shares the constants."""
    return replace(
        model,
        graph=copy_graph(model.graph),
        opset_imports=dict(model.opset_imports),
        functions={key: copy_function(function) for key, function in model.functions.items()},
        metadata=dict(model.metadata),
    )


def copy_function(function: Function) -> Function:
    return replace(function, body=copy_graph(function.body))


def resolver(given: Mapping[str, Attribute], defaults: Mapping[str, Attribute]) -> Resolve:
    """Resolves the references of a function body by what the caller gives, or the default."""

    def resolve(reference: AttributeReference) -> Attribute | None:
        return given.get(reference.name, defaults.get(reference.name))

    return resolve
