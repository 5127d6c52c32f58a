# SPDX-License-Identifier: Apache-2.0
"""Which nodes lie between what is differentiated and what it is differentiated with respect to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType


@dataclass(frozen=True)
class Paths:
    """What `ys` and `xs` have between them."""

    nodes: list[Node]
    """In an order in which they could run."""
    active: set[Value]
    """Values that depend on one of `xs`, by floating-point numbers all the way."""
    reached: set[Value]
    """Those of them on which one of `ys` depends."""
    reads: dict[Node, list[Value]]
    """What each node reads, nested graphs included."""


def find_paths(
    ys: Sequence[Value], xs: Sequence[Value], independent: Collection[Value] = ()
) -> Paths:
    """`independent` are values on whose producers nothing is taken to depend."""
    ends = set(independent)
    reads = ancestors(ys, ends)
    seen = {*ys, *(value for values in reads.values() for value in values)}
    active = set(xs)
    nodes = []
    for node in reads:
        if not any(value in active for value in reads[node]):
            continue
        active.update(v for v in node.outputs if v not in ends and _is_differentiable(v))
        if any(v in active and v in seen and v not in ends for v in node.outputs):
            nodes.append(node)
    return Paths(nodes, active, active & seen, reads)


def values_read(node: Node) -> list[Value]:
    """The inputs, and what nested graphs read of the graphs around them."""
    values = [value for value in node.inputs if value is not None]
    for graph in node.subgraphs:
        values.extend(graph.captures())
    return list(dict.fromkeys(values))


def ancestors(ys: Sequence[Value], ends: Collection[Value]) -> dict[Node, list[Value]]:
    """Every node that `ys` wait for, each after those that it waits for, and what it reads.

    `ends` are values whose producers are not asked for.
    """

    def waits_for(values: Sequence[Value]) -> Iterator[Node]:
        for value in values:
            if value.producer is not None and value not in ends:
                yield value.producer

    reads: dict[Node, list[Value]] = {}
    found: dict[Node, list[Value]] = {}
    for root in waits_for(ys):
        stack: list[tuple[Node, Iterator[Node]]] = []
        if root not in reads:
            reads[root] = values_read(root)
            stack.append((root, waits_for(reads[root])))
        while stack:
            node, rest = stack[-1]
            for producer in rest:
                if producer not in reads:
                    reads[producer] = values_read(producer)
                    stack.append((producer, waits_for(reads[producer])))
                    break
            else:
                stack.pop()
                found[node] = reads[node]
    return found


def _is_differentiable(value: Value) -> bool:
    """Whether a value may change by little: not integers and truth values."""
    if isinstance(value.type, TensorType):
        return value.type.dtype.is_float
    return True
