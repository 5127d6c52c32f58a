# SPDX-License-Identifier: Apache-2.0
"""Which provider got which nodes, as get_provider_graph_assignment_info() tells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from bascule.compiled import NodeRow
from bascule.providers.names import CPU


@dataclass(frozen=True, slots=True)
class OrtEpAssignedNode:
    """A node of the optimized graph.

    Attributes:
        name: of the node.
        op_type: its operator.
        domain: of the operator; empty for the standard's.
    """

    name: str
    op_type: str
    domain: str


@dataclass(frozen=True, slots=True)
class OrtEpAssignedSubgraph:
    """Neighbouring nodes that one provider runs; on the CPU each node stands alone.

    Attributes:
        ep_name: the provider.
        nodes: in the order in which they run.
    """

    ep_name: str
    nodes: tuple[OrtEpAssignedNode, ...]

    def get_nodes(self) -> list[OrtEpAssignedNode]:
        """The nodes, in the order in which they run."""
        return list(self.nodes)


def assigned_subgraphs(rows: Iterable[NodeRow]) -> list[OrtEpAssignedSubgraph]:
    """The rows of an explanation, those of nested graphs left out, by provider."""
    found = []
    outer = [row for row in rows if not row.inside]
    for provider, group in groupby(outer, lambda row: row.provider):
        nodes = [OrtEpAssignedNode(row.name, row.op_type, row.domain) for row in group]
        parts = [[node] for node in nodes] if provider == CPU else [nodes]
        found += [OrtEpAssignedSubgraph(provider, tuple(part)) for part in parts]
    return found
