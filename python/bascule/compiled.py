# SPDX-License-Identifier: Apache-2.0
"""What is left of a model once it is compiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bascule.ir.constant import Constant
from bascule.ir.types import Shape, SparseTensorType, TensorType, Type
from bascule.metadata import ModelMetadata

if TYPE_CHECKING:
    from bascule.providers.base import Program


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
    verification: str = ""
    """What verifying the optimizer's rewrites came to, where that was asked for."""
