# SPDX-License-Identifier: Apache-2.0
"""What is left of a model once it is compiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bascule.ir.constant import Constant
from bascule.ir.types import Shape, SparseTensorType, TensorType, Type
from bascule.load_clock import LoadSpan
from bascule.metadata import ModelMetadata

if TYPE_CHECKING:
    from bascule.providers.base import Program


@dataclass(slots=True)
class NodeRow:
    """One line of explain(): a node as it runs."""

    name: str
    """As in the graph as it runs."""
    op_type: str
    """The operator."""
    domain: str
    """Of the operator; empty for the standard's."""
    outputs: list[tuple[str, str, list[Any] | None]]
    """(name, type, shape) of each."""
    provider: str
    """Which runs it."""
    kernel: str
    """The kernel's name, and the way of computing where several were timed."""
    reasons: list[tuple[str, str]]
    """(provider, why not) of every provider that was asked before."""
    source: str = ""
    """The exporter's source lines in short, where the model carries them: the innermost of the
    user, as ``file.py:123 in forward: x = self.proj(y) (+2 more lines)``."""
    note: str = ""
    """Why the node computes in another element type than the model asks for, if it does."""
    inside: str = ""
    """Of a node in a nested graph: the nodes and attributes that hold it, as ``loop.body/``."""
    sources: list[str] = field(default_factory=list)
    """All source lines: those of every node of the model that the node replaced."""
    scope: list[str] = field(default_factory=list)
    """The modules that the node stands in, from the outermost, where the model says it."""
    replaced: list[str] = field(default_factory=list)
    """The names of the nodes of the model that the node stands for."""
    inputs: list[tuple[str, str, list[Any] | None]] = field(default_factory=list)
    """(name, type, shape) of each, names of sizes included; ("", "", None) of one left out."""

    @property
    def module(self) -> str:
        """The path of the module that the node stands in, as ``layers.0.proj``, or ''."""
        return ".".join(self.scope)


@dataclass(frozen=True, slots=True)
class Argument:
    """An input or output of a compiled model."""

    name: str
    type: Type | None

    @property
    def shape(self) -> Shape | None:
        """The sizes of a tensor, as far as they are known."""
        return self.type.shape if isinstance(self.type, (TensorType, SparseTensorType)) else None


@dataclass(slots=True)
class CompiledModel:
    """What a session keeps: Programs and what is to be told about them, but no weights."""

    program: Program
    inputs: list[Argument]
    outputs: list[Argument]
    rows: list[NodeRow]
    passes: dict[str, int]
    """How often each optimizer pass changed something."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each phase."""
    metadata: ModelMetadata = field(default_factory=ModelMetadata)
    defaults: dict[str, Constant] = field(default_factory=dict)
    """Of inputs that need not be fed."""
    spans: list[LoadSpan] = field(default_factory=list)
    """What was done when, where that was asked for."""
    verification: str = ""
    """What verifying the optimizer's rewrites came to, where that was asked for."""
