# SPDX-License-Identifier: Apache-2.0
"""GRU, LSTM and RNN."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node


@rewrite("GRU", "LSTM", "RNN", until=6)
def output_sequence(node: Node, build: Builder) -> None:
    """`output_sequence` only allowed to leave out the first output."""
    node.attributes.pop("output_sequence", None)


@rewrite("GRU", until=1)
def gru_direction(node: Node, build: Builder) -> None:
    """The first schema misspelt its default direction, and models have copied that."""
    if node.attributes.get("direction") == "foward":
        node.attributes["direction"] = "forward"
