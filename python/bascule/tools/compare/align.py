# SPDX-License-Identifier: Apache-2.0
"""Two models whose values have other names."""

from __future__ import annotations

from collections.abc import Iterator

from bascule.ir.graph import Graph, Node, Value
from bascule.tools.compare.sides import Side


def align(a: Side, b: Side) -> None:
    """Where the models share no names but do the same in the same order, go by the order.

    The values of `b` then stand for those of `a`, whatever the optimizer has made of either.
    """
    nodes_a, nodes_b = list(a.source.graph.walk_nodes()), list(b.source.graph.walk_nodes())
    names = {name for node in nodes_a for value in node.outputs for name in value.origins}
    known = sum(any(n in names for n in v.origins) for node in nodes_b for v in node.outputs)
    if 2 * known > sum(len(node.outputs) for node in nodes_b):
        return
    if list(map(_kind, nodes_a)) != list(map(_kind, nodes_b)):
        return
    twins: dict[str, str] = {}
    for one, other in zip(_named(a.source.graph), _named(b.source.graph)):
        twins.update((name, one.origins[0]) for name in other.origins if one.origins)
    b.rename(twins)


def _kind(node: Node) -> tuple[str, int, int]:
    return node.op_type, len(node.outputs), len(node.subgraphs)


def _named(graph: Graph) -> Iterator[Value]:
    """Inputs and results in an order that two graphs of the same nodes share."""
    yield from graph.inputs
    for node in graph:
        for each in node.subgraphs:
            yield from _named(each)
        yield from node.outputs
