# SPDX-License-Identifier: Apache-2.0
"""Reductions over axes."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node


@rewrite("ReduceSum", until=12)
@rewrite(
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
    until=17,
)
def axes_to_input(node: Node, build: Builder) -> None:
    """The axes are an input."""
    axes = node.attributes.pop("axes", None)
    if axes is not None:
        node.set_input(1, build.ints(*axes))


@rewrite("ReduceLogSum", "ReduceLogSumExp", until=27, types=True)
def logarithm_of_integers(node: Node, build: Builder) -> None:
    """Both took integers, and gave integers back."""
    build.through_double()
