# SPDX-License-Identifier: Apache-2.0
"""Some nodes of a graph as a graph of their own, compiled and run by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bascule.errors import Fail
from bascule.ir.copy import GraphCopier
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.pages import give_back
from bascule.providers.base import Program, Provider
from bascule.providers.cpu.provider import CpuProvider
from bascule.providers.partition import assign, partition
from bascule.providers.split import PartitionedProgram


@dataclass(frozen=True, slots=True)
class Part:
    """A copy of nodes of a graph, and the values of that graph that it reads and makes."""

    graph: Graph
    inputs: list[Value]
    outputs: list[Value]


def reads_of(node: Node) -> list[Value]:
    """What a node reads, its nested graphs included."""
    values = [value for value in node.inputs if value is not None]
    for graph in node.subgraphs:
        values.extend(graph.captures())
    return values


def let_go(values: Sequence[Value]) -> None:
    """Take weights that were read from a mapped file out of memory."""
    for value in values:
        constant = value.constant
        if constant is not None and constant.mapped and constant.raw is not None:
            give_back(constant.raw)


def extract(nodes: Sequence[Node], outputs: Sequence[Value]) -> Part:
    """The part that makes `outputs` by `nodes`, which are in execution order; constants shared."""
    copier = GraphCopier()
    graph = Graph("part")
    inside = {id(node) for node in nodes}
    inputs: list[Value] = []
    seen: set[int] = set()
    outer = [value for node in nodes for value in reads_of(node)]
    for value in [*outer, *(v for v in outputs if v.producer is None)]:
        if id(value) in seen or (value.producer is not None and id(value.producer) in inside):
            continue
        seen.add(id(value))
        copy = copier.copy_value(value, value.name)
        if value.constant is not None:
            graph.add_initializer(copy)
        else:
            graph.add_input(copy)
            inputs.append(value)
    for node in nodes:
        graph.append(copier.copy_node(node, node.name, lambda name: name))
    for value in outputs:
        made = copier.value(value)
        assert made is not None
        graph.add_output(made)
    return Part(graph, inputs, list(outputs))


def compile_part(graph: Graph, providers: Sequence[Provider]) -> Program:
    """A Program for a small graph by the providers that a session would choose.

    Raises:
        Fail: no provider takes a node.
    """
    assignments = assign(graph, providers)
    for node, assignment in assignments.items():
        if assignment.provider is None:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in assignment.reasons)
            raise Fail(f"No provider takes {node.op_type} node '{node.name}': {reasons}")
    for provider in providers:
        if isinstance(provider, CpuProvider):
            provider.tune(graph)
    if providers[0].hosts_others:
        return providers[0].compile(graph)
    partitions = partition(graph, assignments)
    if len(partitions) > 1:
        return PartitionedProgram(graph, partitions)
    provider = partitions[0].provider if partitions else providers[-1]
    return provider.compile(graph)


def run_part(part: Part, arrays: Sequence[Any], providers: Sequence[Provider]) -> list[Any]:
    """The outputs of a part for an array for each of its inputs."""
    return compile_part(part.graph, providers).run_values(list(arrays), [])
