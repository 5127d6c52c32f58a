# SPDX-License-Identifier: Apache-2.0
"""What a session tells about its model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bascule.ir.symbols import invented_names
from bascule.ir.types import SparseTensorType, TensorType

if TYPE_CHECKING:
    from bascule.compiled import Argument
    from bascule.ir.graph import Model, Value


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output.

    Attributes:
        name: as the model has it.
        type: the type as text, such as ``tensor(float)``.
        shape: an int for a fixed size, a str for a named one, None for one that is unknown.
    """

    name: str
    type: str
    shape: list[int | str | None]

    @classmethod
    def of(cls, value: Argument | Value, known: Collection[str] = ()) -> NodeArg:
        """Of a graph's input or output; sizes in names that inference invented, but for `known`,
        are None.
        """
        shape: list[int | str | None] = []
        if isinstance(value.type, (TensorType, SparseTensorType)) and value.type.shape is not None:
            shape = [
                None if dim == "" or not invented_names(dim).issubset(known) else dim
                for dim in value.type.shape
            ]
        return cls(value.name, str(value.type), shape)

    def copy(self) -> NodeArg:
        """An equal one whose shape can be changed without changing this."""
        return NodeArg(self.name, self.type, list(self.shape))

    def __str__(self) -> str:
        return f"NodeArg(name='{self.name}', type='{self.type}', shape={self.shape})"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The model's own description of itself; what it leaves out is empty.

    Attributes:
        producer_name: the program that wrote the model.
        graph_name: the graph's name.
        graph_description: the graph's doc string.
        description: the model's doc string.
        domain: the model's domain, as ``com.example``.
        version: the model's version, 0 where none is given.
        custom_metadata_map: its metadata entries.
    """

    producer_name: str = ""
    graph_name: str = ""
    graph_description: str = ""
    description: str = ""
    domain: str = ""
    version: int = 0
    custom_metadata_map: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model) -> ModelMetadata:
        """Of a model that was just loaded."""
        return cls(
            producer_name=model.producer_name,
            graph_name=model.graph.name,
            graph_description=model.graph.doc,
            description=model.doc,
            domain=model.domain,
            version=model.model_version,
            custom_metadata_map=dict(model.metadata),
        )
