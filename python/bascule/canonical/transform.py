# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node


@rewrite("DFT", until=17)
def dft(node: Node, build: Builder) -> None:
    """The axis is an input, and its default another."""
    node.set_input(2, build.int_scalar(node.attributes.pop("axis", 1)))
