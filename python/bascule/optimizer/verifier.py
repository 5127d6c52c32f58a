# SPDX-License-Identifier: Apache-2.0
"""The rules that every graph keeps; tests check them after every pass."""

from __future__ import annotations

from bascule.ir.graph import Graph, Node, Use, Value


class InvalidGraph(Exception):
    """A graph that breaks a structural rule."""


def verify(graph: Graph) -> None:
    """Check uses and producers, the order of nodes, and names, nested graphs included."""
    _Verifier().graph(graph, visible=set())


class _Verifier:
    def __init__(self) -> None:
        self._names: dict[str, Value] = {}
        self._counts: dict[int, int] = {}
        self._values: dict[int, Value] = {}

    def graph(self, graph: Graph, visible: set[int]) -> None:
        self._scope(graph, visible)
        for each in graph.walk_graphs():
            for output in each.outputs:
                self._counts[id(output)] = self._counts.get(id(output), 0) + 1
        for value in self._values.values():
            expected = self._counts.get(id(value), 0)
            _check(
                value.output_count == expected,
                f"{value} counts {value.output_count} outputs, there are {expected}",
            )

    def _scope(self, graph: Graph, outer: set[int]) -> None:
        visible = set(outer)
        for value in (*graph.inputs, *graph.initializers.values()):
            _check(value.owner is graph, f"{value} does not belong to graph '{graph.name}'")
            _check(value.producer is None, f"{value} is an input or constant with a producer")
            self._define(value, visible)
        for name, value in graph.initializers.items():
            _check(value.name == name, f"initializer '{name}' is called '{value.name}'")
            _check(value.constant is not None, f"initializer '{name}' has no data")
        count = 0
        for node in graph:
            count += 1
            self._node(node, graph, visible)
        _check(count == len(graph), f"graph '{graph.name}' counts {len(graph)} nodes, not {count}")
        for value in graph.outputs:
            _check(id(value) in visible, f"output {value} is not defined")

    def _node(self, node: Node, graph: Graph, visible: set[int]) -> None:
        _check(node.graph is graph, f"{node} does not know its graph")
        for index, value in enumerate(node.inputs):
            if value is not None:
                _check(id(value) in visible, f"{node} reads {value} before it is there")
                _check(
                    Use(node, index) in value.uses, f"{value} does not know that {node} reads it"
                )
        for inner in node.subgraphs:
            _check(inner.parent is node, f"graph '{inner.name}' does not know that {node} holds it")
            self._scope(inner, visible)
        for value in node.outputs:
            _check(value.producer is node, f"{value} does not know that {node} makes it")
            self._define(value, visible)

    def _define(self, value: Value, visible: set[int]) -> None:
        visible.add(id(value))
        self._values[id(value)] = value
        for use in value.uses:
            _check(use.node.graph is not None, f"{value} is read by {use.node}, which is removed")
            _check(use.node.input(use.index) is value, f"{use.node} does not read {value}")
        if value.name:
            other = self._names.setdefault(value.name, value)
            _check(other is value, f"two values are called '{value.name}'")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidGraph(message)
