# SPDX-License-Identifier: Apache-2.0
"""A graph that several providers share: one Program a partition, and values handed on between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bascule.ir.copy import GraphCopier
from bascule.ir.graph import Graph, Value
from bascule.providers.base import Program
from bascule.providers.partition import Partition


def extract(partition: Partition, graph: Graph) -> Graph:
    """The nodes of a partition as a graph of their own.

    Its inputs are the values that come from outside, its outputs those that somebody else reads,
    all under their names in `graph`; constants are shared.
    """
    inside = {id(node) for node in partition.nodes}
    copier = GraphCopier()
    part = Graph(graph.name)
    seen: set[int] = set()
    for node in partition.nodes:
        reads = [v for v in node.inputs if v is not None]
        for nested in node.subgraphs:
            reads.extend(nested.captures())
        for value in reads:
            if id(value) in seen or (value.producer and id(value.producer) in inside):
                continue
            seen.add(id(value))
            copy = copier.copy_value(value, value.name)
            if value.constant is not None:
                part.add_initializer(copy)
            else:
                part.add_input(copy)
    for node in partition.nodes:
        part.append(copier.copy_node(node, node.name, lambda name: name))
        for value in node.outputs:
            if value.is_graph_output or any(
                id(_holder(u.node, graph)) not in inside for u in value.uses
            ):
                result = copier.value(value)
                assert result is not None
                part.add_output(result)
    return part


def _holder(node: Any, graph: Graph) -> Any:
    """The node of `graph` itself that `node` is, or is nested in."""
    while node.graph is not graph:
        node = node.graph.parent
    return node


class PartitionedProgram:
    """Programs in order, each fed by the graph's inputs and by the ones before it."""

    def __init__(self, graph: Graph, partitions: Sequence[Partition]) -> None:
        self._inputs = [value.name for value in graph.inputs]
        self._outputs = [value.name for value in graph.outputs]
        self._constants = {
            value.name: value.constant.numpy()
            for value in graph.outputs
            if value.constant is not None
        }
        self._parts: list[tuple[Program, list[str], list[str]]] = []
        for partition in partitions:
            part = extract(partition, graph)
            self._parts.append(
                (partition.provider.compile(part), _names(part.inputs), _names(part.outputs))
            )

    def run_feeds(self, *_: Any) -> Any:
        """There is no short way in: the caller normalizes the feeds and calls run_values."""
        return NotImplemented

    def run_values(
        self, feeds: list[Any], wanted: Sequence[int], terminate: Any = None, profiler: Any = None
    ) -> list[Any]:
        values = dict(zip(self._inputs, feeds)) | self._constants
        for program, inputs, outputs in self._parts:
            results = program.run_values([values[n] for n in inputs], [], terminate, profiler)
            values.update(zip(outputs, results))
        names = [self._outputs[i] for i in wanted] if wanted else self._outputs
        fed = set(self._inputs) | set(self._constants)
        return [_fresh(values[name]) if name in fed else values[name] for name in names]


def _names(values: Sequence[Value]) -> list[str]:
    return [value.name for value in values]


def _fresh(value: Any) -> Any:
    """An output that is an input or a constant is a copy: the caller owns it."""
    return value.copy() if hasattr(value, "copy") else value
