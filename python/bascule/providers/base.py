# SPDX-License-Identifier: Apache-2.0
"""What an execution provider is: it says what it can run, and compiles what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bascule.ir.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer for one node: the kernel it will run, or why it cannot."""

    kernel: str | None
    reason: str = ""

    @property
    def accepted(self) -> bool:
        return self.kernel is not None


class Program(Protocol):
    """A compiled partition."""

    def run_values(
        self, feeds: list[Any], wanted: Sequence[int], terminate: Any = None, profiler: Any = None
    ) -> list[Any]:
        """Outputs (those numbered in `wanted`, or all) for one object per input, in order."""
        ...


class Provider(Protocol):
    """An execution provider of one session."""

    @property
    def name(self) -> str:
        """The public name, such as ``CPUExecutionProvider``."""
        ...

    @property
    def hosts_others(self) -> bool:
        """Whether its Programs contain the nodes that providers after it take."""
        ...

    def capabilities(self, graph: Graph) -> dict[Node, Answer]:
        """An answer for every node of `graph` itself; nested graphs count to their holder."""
        ...

    def compile(self, graph: Graph) -> Program:
        """A Program for a graph all of whose nodes were accepted."""
        ...
