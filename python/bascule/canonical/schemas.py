# SPDX-License-Identifier: Apache-2.0
"""What a version of an operator looks like, read once from onnx's schemas."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import onnx.defs
from onnx.defs import OpSchema

from bascule.ir.constant import Constant
from bascule.ir.graph import AttributeReference, Graph, Node, SparseConstant

_LIST_OF = {
    "INT": "INTS",
    "FLOAT": "FLOATS",
    "STRING": "STRINGS",
    "TENSOR": "TENSORS",
    "SPARSE_TENSOR": "SPARSE_TENSORS",
    "GRAPH": "GRAPHS",
    "TYPE_PROTO": "TYPE_PROTOS",
}


@dataclass(frozen=True, slots=True)
class Form:
    """The signature of one version of an operator."""

    op_type: str
    version: int
    attributes: dict[str, tuple[str, bool]]
    """The name of its onnx.AttributeProto.AttributeType, and whether it is required."""
    required_inputs: tuple[bool, ...]
    """One entry for each formal input, a variadic one counted once."""
    min_inputs: int
    max_inputs: int
    min_outputs: int
    max_outputs: int

    def problem(self, node: Node) -> str | None:
        """What is wrong with `node` when it is read as this version, or None."""
        for name, value in node.attributes.items():
            known = self.attributes.get(name)
            if known is None:
                return f"attribute '{name}' is unknown"
            if not _has_kind(value, known[0]):
                return f"attribute '{name}' is not of kind {known[0]}"
        for name, (_, required) in self.attributes.items():
            if required and name not in node.attributes:
                return f"required attribute '{name}' is missing"
        count = len(node.inputs)
        while count and node.inputs[count - 1] is None:
            count -= 1
        if not self.min_inputs <= count <= self.max_inputs:
            return f"{count} inputs where {_range(self.min_inputs, self.max_inputs)} are allowed"
        for index, (value, required) in enumerate(
            zip(node.inputs, self.required_inputs, strict=False)
        ):
            if required and value is None:
                return f"input {index} is missing"
        if not self.min_outputs <= len(node.outputs) <= self.max_outputs:
            allowed = _range(self.min_outputs, self.max_outputs)
            return f"{len(node.outputs)} outputs where {allowed} are allowed"
        return None


def newest_opset(domain: str) -> int:
    """The newest version of an operator set that the installed onnx knows."""
    return _opsets().get(domain, 0)


@functools.cache
def form_in_force(op_type: str, domain: str, opset: int) -> Form | None:
    """The version of an operator that `opset` means; None when the opset has no such operator."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    inputs = schema.inputs
    return Form(
        op_type,
        schema.since_version,
        {
            name: (str(a.type).rpartition(".")[2], a.required)
            for name, a in schema.attributes.items()
        },
        tuple(i.option == OpSchema.FormalParameterOption.Single for i in inputs),
        schema.min_input,
        schema.max_input,
        schema.min_output,
        schema.max_output,
    )


@functools.cache
def _opsets() -> dict[str, int]:
    found: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain] = max(found.get(schema.domain, 0), schema.since_version)
    found[""] = onnx.defs.onnx_opset_version()
    return found


def _has_kind(value: Any, kind: str) -> bool:
    if isinstance(value, AttributeReference):
        return True
    if isinstance(value, (list, tuple)):
        if not value:
            return kind in _LIST_OF.values()
        return _LIST_OF[_kind_of(value[0])] == kind
    return _kind_of(value) == kind


def _kind_of(value: Any) -> str:
    if isinstance(value, int):
        return "INT"
    if isinstance(value, float):
        return "FLOAT"
    if isinstance(value, (str, bytes)):
        return "STRING"
    if isinstance(value, Constant):
        return "TENSOR"
    if isinstance(value, SparseConstant):
        return "SPARSE_TENSOR"
    if isinstance(value, Graph):
        return "GRAPH"
    return "TYPE_PROTO"


def _range(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"at least {low}" if high > 1_000_000 else f"{low} to {high}"
