# SPDX-License-Identifier: Apache-2.0
"""What operator schemas demand of the types of their inputs."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bascule.errors import Fail, InvalidGraph
from bascule.ir import check
from bascule.ir.graph import Model, Node
from bascule.ir.types import MapType, OptionalType, SequenceType, Type


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


def check_types(model: Model) -> None:
    """Refuse inputs of a type that the operator does not take. Unknown types pass."""
    for node in model.graph.walk_nodes():
        if (node.domain, node.op_type, node.overload) in model.functions:
            continue
        version = node.opset or model.opset_imports.get(node.domain)
        if version is not None and check.schema(node.op_type, version, node.domain) is not None:
            _check_node(node, _parameters(node.op_type, version, node.domain))


def _check_node(node: Node, parameters: tuple[_Parameter, ...]) -> None:
    bound: dict[str, tuple[str, str]] = {}
    for index, value in enumerate(node.inputs):
        if value is None or value.type is None or _contains_map(value.type):
            continue
        if index < len(parameters):
            parameter = parameters[index]
        elif parameters and parameters[-1].variadic:
            parameter = parameters[-1]
        else:
            return
        type_name = str(value.type)
        if type_name not in parameter.allowed:
            raise InvalidGraph(
                f"This is an invalid model. Type Error: Type '{type_name}' of input parameter "
                f"({value.name}) of operator ({node.op_type}) in node ({node.name}) is invalid.",
                expected=" or ".join(sorted(parameter.allowed)),
            )
        if not parameter.binds:
            continue
        first_type, first_name = bound.setdefault(parameter.constraint, (type_name, value.name))
        if first_type != type_name:
            raise Fail(
                f"Type Error: Type parameter ({parameter.constraint}) of Optype ({node.op_type}) "
                f"bound to different types ({first_type} and {type_name}) in node ({node.name}).",
                inputs=f"{first_name}, {value.name}",
            )


def _contains_map(type: Type) -> bool:
    """Schemas spell map types in more than one way."""
    if isinstance(type, (SequenceType, OptionalType)):
        return _contains_map(type.element)
    return isinstance(type, MapType)
