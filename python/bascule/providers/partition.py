# SPDX-License-Identifier: Apache-2.0
"""Split a graph over providers by what each can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bascule.ir.graph import Graph, Node
from bascule.providers.base import Answer, Provider


@dataclass(slots=True)
class Assignment:
    """Where a node runs, and what every provider that was asked before had against it."""

    provider: Provider | None
    kernel: str
    reasons: list[tuple[str, str]] = field(default_factory=list)
    """(provider, reason) of each refusal, in the order of asking."""


@dataclass(slots=True)
class Partition:
    """Nodes that one provider compiles together, in execution order."""

    provider: Provider
    nodes: list[Node]


def assign(graph: Graph, providers: Sequence[Provider]) -> dict[Node, Assignment]:
    """Ask the providers in order; the first that accepts a node gets it."""
    answers: list[dict[Node, Answer]] = [provider.capabilities(graph) for provider in providers]
    assignments = {}
    for node in graph:
        assignment = Assignment(None, "")
        for provider, answer in zip(providers, answers):
            if answer[node].accepted:
                assignment.provider = provider
                assignment.kernel = answer[node].kernel or ""
                break
            assignment.reasons.append((provider.name, answer[node].reason))
        assignments[node] = assignment
    return assignments


def partition(graph: Graph, assignments: dict[Node, Assignment]) -> list[Partition]:
    """Groups of nodes of one provider each, ordered so that a group needs only earlier ones.

    A node's stage is the largest number of changes of provider on any path that leads to it. Edges
    inside a stage stay with one provider and all others lead to later stages, so joining the nodes
    of one stage and provider makes no cycle.
    """
    stages: dict[Node, int] = {}
    groups: dict[tuple[int, int], Partition] = {}
    for node in graph:
        provider = assignments[node].provider
        assert provider is not None
        values = [v for v in node.inputs if v is not None]
        for nested in node.subgraphs:
            values.extend(nested.captures())
        stage = 0
        for value in values:
            producer = value.producer
            if producer is None or producer.graph is not graph:
                continue
            change = assignments[producer].provider is not provider
            stage = max(stage, stages[producer] + change)
        stages[node] = stage
        groups.setdefault((stage, id(provider)), Partition(provider, [])).nodes.append(node)
    return [groups[key] for key in sorted(groups, key=lambda k: k[0])]
