# SPDX-License-Identifier: Apache-2.0
"""What a session tells of its model, as JSON: the part of a plan file that Python reads."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from bascule.compiled import Argument, CompiledModel, NodeRow
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from bascule.metadata import ModelMetadata


def describe(compiled: CompiledModel) -> str:
    """All of `compiled` but its program, the elements of its defaults and the times it took."""
    return json.dumps(
        {
            "inputs": [[each.name, _from_type(each.type)] for each in compiled.inputs],
            "outputs": [[each.name, _from_type(each.type)] for each in compiled.outputs],
            "rows": [
                [getattr(row, field.name) for field in dataclasses.fields(NodeRow)]
                for row in compiled.rows
            ],
            "passes": compiled.passes,
            "verification": compiled.verification,
            "metadata": dataclasses.asdict(compiled.metadata),
            "defaults": list(compiled.defaults),
        }
    )


def restore(text: bytes, program: Any, defaults: list[Any]) -> CompiledModel:
    """The inverse of `describe`; `program` makes the program for the inputs and outputs.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: it is no such description.
    """
    data = json.loads(text)
    inputs = [Argument(str(name), _to_type(type_)) for name, type_ in data["inputs"]]
    outputs = [Argument(str(name), _to_type(type_)) for name, type_ in data["outputs"]]
    rows = [NodeRow(*row) for row in data["rows"]]
    for row in rows:
        row.outputs = [(name, type_, shape) for name, type_, shape in row.outputs]
        row.reasons = [(provider, why) for provider, why in row.reasons]
        row.inputs = [(name, type_, shape) for name, type_, shape in row.inputs]
    compiled = CompiledModel(program(inputs, outputs), inputs, outputs, rows, data["passes"])
    compiled.metadata = ModelMetadata(**data["metadata"])
    compiled.verification = str(data["verification"])
    compiled.defaults = {
        name: Constant.from_numpy(np.asarray(array))
        for name, array in zip(data["defaults"], defaults, strict=True)
    }
    return compiled


def _from_type(type_: Type | None) -> Any:
    if type_ is None:
        return None
    if isinstance(type_, (TensorType, SparseTensorType)):
        kind = "tensor" if isinstance(type_, TensorType) else "sparse"
        return [kind, int(type_.dtype), type_.shape]
    if isinstance(type_, MapType):
        return ["map", int(type_.key), _from_type(type_.value)]
    kind = "sequence" if isinstance(type_, SequenceType) else "optional"
    return [kind, _from_type(type_.element)]


def _to_type(data: Any) -> Type | None:
    if data is None:
        return None
    kind, *rest = data
    if kind in ("tensor", "sparse"):
        dtype = DataType(rest[0])
        shape = None if rest[1] is None else tuple(_to_dim(dim) for dim in rest[1])
        return TensorType(dtype, shape) if kind == "tensor" else SparseTensorType(dtype, shape)
    element = _to_type(rest[-1])
    if element is None:
        raise ValueError("a container without a type of its items")
    if kind == "map":
        return MapType(DataType(rest[0]), element)
    if kind not in ("sequence", "optional"):
        raise ValueError(f"there is no type '{kind}'")
    return SequenceType(element) if kind == "sequence" else OptionalType(element)


def _to_dim(dim: Any) -> int | str | None:
    if dim is None or isinstance(dim, (int, str)):
        return dim
    raise TypeError(f"a size cannot be {dim!r}")
