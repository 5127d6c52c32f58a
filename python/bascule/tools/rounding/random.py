# SPDX-License-Identifier: Apache-2.0
"""Which nodes draw random numbers."""

from __future__ import annotations

from collections.abc import Iterable

from bascule.ir.graph import Node

_RANDOM = frozenset(
    (
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Bernoulli", "Multinomial"),
    )
)


def draws(nodes: Iterable[Node]) -> bool:
    """Whether one of the nodes, or one in their bodies, draws random numbers."""
    return any(_draws(node) or any(map(draws, node.subgraphs)) for node in nodes)


def _draws(node: Node) -> bool:
    if node.op_type != "Dropout":
        return node.op_type in _RANDOM
    mode = node.input(2)  # whether it is for training
    return mode is not None and (mode.constant is None or bool(mode.constant.numpy().any()))
