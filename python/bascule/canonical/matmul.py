# SPDX-License-Identifier: Apache-2.0
"""Matrix products."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node


@rewrite("Gemm", until=6)
def gemm(node: Node, build: Builder) -> None:
    """Broadcasting the third input needs no permission."""
    node.attributes.pop("broadcast", None)
