# SPDX-License-Identifier: Apache-2.0
"""What operator schemas demand of the types of their inputs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from bascule.errors import Fail, InvalidGraph
from bascule.ir import check
from bascule.ir.graph import Model, Node
from bascule.ir.types import MapType, OptionalType, SequenceType, Type


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a model is refused, and the node at fault."""

    node: Node
    error: Exception


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    constraint: str
    """The type parameter (``T``), or the type itself."""
    allowed: frozenset[str]
    variadic: bool
    binds: bool
    """Inputs with the same type parameter have the same type."""


@functools.lru_cache(maxsize=4096)
def _parameters(op_type: str, version: int, domain: str) -> tuple[_Parameter, ...]:
    import onnx.defs

    found = onnx.defs.get_schema(op_type, version, domain)
    parameter_names = {constraint.type_param_str for constraint in found.type_constraints}
    option = onnx.defs.OpSchema.FormalParameterOption
    return tuple(
        _Parameter(
            formal.name,
            formal.type_str,
            frozenset(formal.types),
            formal.option == option.Variadic,
            formal.type_str in parameter_names
            and (formal.option != option.Variadic or formal.is_homogeneous),
        )
        for formal in found.inputs
    )


def type_errors(model: Model) -> Iterator[Problem]:
    """Inputs of a type that the operator does not take, one for a node. Unknown types pass."""
    for node in model.graph.walk_nodes():
        if (node.domain, node.op_type, node.overload) in model.functions:
            continue
        version = node.opset or model.opset_imports.get(node.domain)
        if version is not None and check.schema(node.op_type, version, node.domain) is not None:
            error = _type_error(node, _parameters(node.op_type, version, node.domain))
            if error is not None:
                yield Problem(node, error)


def _type_error(node: Node, parameters: tuple[_Parameter, ...]) -> Exception | None:
    bound: dict[str, tuple[str, str]] = {}
    for index, value in enumerate(node.inputs):
        if value is None or value.type is None or _contains_map(value.type):
            continue
        if index < len(parameters):
            parameter = parameters[index]
        elif parameters and parameters[-1].variadic:
            parameter = parameters[-1]
        else:
            return None
        type_name = str(value.type)
        if type_name not in parameter.allowed:
            return InvalidGraph(
                f"This is an invalid model. Type Error: Type '{type_name}' of input parameter "
                f"({value.name}) of operator ({node.op_type}) in node ({node.name}) is invalid.",
                expected=" or ".join(sorted(parameter.allowed)),
            )
        if not parameter.binds:
            continue
        first_type, first_name = bound.setdefault(parameter.constraint, (type_name, value.name))
        if first_type != type_name:
            return Fail(
                f"Type Error: Type parameter ({parameter.constraint}) of Optype ({node.op_type}) "
                f"bound to different types ({first_type} and {type_name}) in node ({node.name}).",
                inputs=f"{first_name}, {value.name}",
            )
    return None


def _contains_map(type: Type) -> bool:
    """Schemas spell map types in more than one way."""
    if isinstance(type, (SequenceType, OptionalType)):
        return _contains_map(type.element)
    return isinstance(type, MapType)
