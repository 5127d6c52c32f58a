# SPDX-License-Identifier: Apache-2.0
"""Which nodes of the model a node stands for, through rewrites and fusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bascule.ir.graph import Node

PRODUCTS = frozenset(
    [
        "MatMul",
        "Gemm",
        "MatMulInteger",
        "QLinearMatMul",
        "MatMulNBits",
        "Conv",
        "ConvInteger",
        "QLinearConv",
        "ConvTranspose",
        "Attention",
        "LSTM",
        "GRU",
        "RNN",
        "Project",
        "ProjectNBits",
        "SplitMatMul",
        "PointwiseDepthwiseConv",
    ]
)
"""Operators whose time goes into multiply-adds."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What is kept of a node that another one stands for."""

    name: str
    op_type: str
    domain: str
    doc: str = field(default="", compare=False)
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)


def replaced_by(node: Node) -> tuple[Replaced, ...]:
    """The nodes of the model that `node` stands for, in execution order; itself at least."""
    if node.replaced:
        return node.replaced
    return (Replaced(node.name, node.op_type, node.domain, node.doc, node.metadata),)


def main_of(nodes: tuple[Replaced, ...]) -> Replaced:
    """The one of them that most of the time goes into: the first product, else the last node."""
    return next((each for each in nodes if each.op_type in PRODUCTS), nodes[-1])


def inherit(made: Iterable[Node], removed: Iterable[Node]) -> None:
    """Let the nodes `made` also stand for those `removed`, given in execution order."""
    gone = [each for node in removed for each in replaced_by(node)]
    for node in made:
        kept = [each for each in node.replaced if each not in gone]
        node.replaced = tuple(dict.fromkeys([*kept, *gone]))
