# SPDX-License-Identifier: Apache-2.0
"""How a node is to be computed, where something else than its kernel decides."""

from __future__ import annotations

from dataclasses import dataclass

from bascule.ir.graph import Graph, Node

_MOST_THREADS = 1 << 16

# Keys of a node's metadata, and attributes of csrc/runtime/alternatives.h.
ALTERNATIVE, THREADS = "bascule.alternative", "bascule.threads"
# Of csrc/kernels/gemm/product.h: float16 may make short sums in float16; numbers are multiplied
# whole, not in parts.
FLOAT16_SUMS, WHOLE_PRODUCTS = "bascule.float16_sums", "bascule.whole_products"
# Of csrc/runtime/node.h: weights stay as they are in the model.
UNPACKED = "bascule.unpacked"


@dataclass(frozen=True, slots=True)
class Choice:
    """How a node is computed: a kernel's alternative, or its own way; and by how many threads."""

    alternative: str = ""
    threads: int = 0
    """At most; 0 means all that the session has."""

    def __str__(self) -> str:
        counted = {0: "", 1: "1 thread"}.get(self.threads, f"{self.threads} threads")
        return ", ".join(part for part in (self.alternative, counted) if part)

    @staticmethod
    def of(node: Node) -> Choice:
        """That of a node."""
        threads = node.metadata.get(THREADS, "")
        known = threads.isdecimal() and len(threads) < 9  # the metadata may be the model's
        return Choice(
            node.metadata.get(ALTERNATIVE, ""), min(int(threads), _MOST_THREADS) if known else 0
        )

    def give(self, node: Node) -> None:
        """Make it that of a node."""
        for key, value in ((ALTERNATIVE, self.alternative), (THREADS, self.threads)):
            if value:
                node.metadata[key] = str(value)
            else:
                node.metadata.pop(key, None)


def forbid_winograd(graph: Graph) -> None:
    """Make every convolution, in nested graphs too, compute its sums as they are defined."""
    for inner in graph.walk_graphs():
        for node in inner:
            if node.op_type == "Conv":
                Choice("direct", Choice.of(node).threads).give(node)


def mark_products(graph: Graph, flag: str) -> None:
    """Set FLOAT16_SUMS, WHOLE_PRODUCTS or UNPACKED for every product, in nested graphs too."""
    for inner in graph.walk_graphs():
        for node in inner:
            if node.op_type in ("MatMul", "Gemm", "Conv", "MatMulNBits"):
                node.metadata[flag] = "1"
