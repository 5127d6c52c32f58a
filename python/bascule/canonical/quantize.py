# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node


@rewrite("QuantizeLinear", "DequantizeLinear", until=10, types=True)
def one_scale(node: Node, build: Builder) -> None:
    """There was one scale for the whole tensor; as a vector it would mean one for each channel."""
    for index in (1, 2):
        value = node.input(index)
        if value is not None:
            node.set_input(index, build.as_scalar(value))
