# SPDX-License-Identifier: Apache-2.0
"""What is left of a model once it is compiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bascule.ir.graph import Value
from bascule.providers.base import Program

if TYPE_CHECKING:
    from bascule.optimizer import Report


@dataclass(slots=True)
class NodeRow:
    """One line of explain(): a node as it runs."""

    name: str
    op_type: str
    domain: str
    outputs: list[tuple[str, str, list[Any] | None]]
    """(name, type, shape) of each."""
    provider: str
    kernel: str
    reasons: list[tuple[str, str]]
    """(provider, why not) of every provider that was asked before."""
    source: str = ""
    """The exporter's source line, where the model carries it."""
    note: str = ""
    """Why the node computes in another element type than the model asks for, if it does."""
    inside: str = ""
    """Of a node in a nested graph: the nodes and attributes that hold it, as ``loop.body/``."""


@dataclass(slots=True)
class CompiledModel:
    """What a session keeps: Programs and what is to be told about them, but no weights."""

    program: Program
    inputs: list[Value]
    outputs: list[Value]
    rows: list[NodeRow]
    report: Report
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each phase."""
