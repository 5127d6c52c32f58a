# SPDX-License-Identifier: Apache-2.0
"""What passes may ask of the world outside the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Union

import numpy as np

from bascule.ir.graph import Graph, Node, Value
from bascule.ir.serialize import Definitions

Array = np.ndarray[Any, Any]
Fold = Callable[[Node, list[Union[Array, None]]], list[Array] | None]


class Spoiled(Exception):
    """A rewrite was found wrong that cannot be taken back: the optimizer has to start again."""


class Check(Protocol):
    """Judges rewrites by numbers, and remembers which ones were found wrong."""

    def is_dropped(self, pass_name: str, node: Node | None = None) -> bool:
        """Whether a pass was found wrong, at this node or as a whole."""
        ...

    def replacement(self, pass_name: str, node: Node, values: Sequence[Value]) -> bool:
        """Whether `values` may stand for the outputs of `node`."""
        ...

    def graph(self, pass_name: str, graph: Graph) -> bool:
        """Whether the graph, which a pass has just changed, still computes the same."""
        ...


class Note(Protocol):
    """Is told what the optimizer did, with times of time.monotonic_ns()."""

    def __call__(
        self, category: str, name: str, start_ns: int, end_ns: int, node: str = ""
    ) -> None: ...


@dataclass(frozen=True)
class Context:
    """The caller's answers to passes."""

    fold: Fold | None = None
    """Computes a node on constants; None, as the function or as its result, when it cannot."""
    definitions: Definitions | None = None
    """The functions behind fused nodes, from which their types follow."""
    check: Check | None = None
    """Judges each rewrite, if they are to be verified."""
    note: Note | None = None
    """Is told when what was done, if somebody wants to know."""
