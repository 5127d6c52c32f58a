# SPDX-License-Identifier: Apache-2.0
"""What the standard demands of a node and its attributes, as far as it can be told without types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bascule.errors import Fail, InvalidGraph
from bascule.ir import check
from bascule.ir.check import normal_domain, require_text

if TYPE_CHECKING:
    import onnx

_ATTRIBUTE_FIELDS = {
    "f": 1,
    "i": 2,
    "s": 3,
    "t": 4,
    "g": 5,
    "floats": 6,
    "ints": 7,
    "strings": 8,
    "tensors": 9,
    "graphs": 10,
    "sparse_tensor": 11,
    "sparse_tensors": 12,
    "tp": 13,
    "type_protos": 14,
}
_KIND_NAMES = {number: name for name, number in _ATTRIBUTE_FIELDS.items()}
_EQUATION = re.compile(rb"[A-Za-z., \->]*")
_MESSAGE_KINDS = frozenset((4, 5, 11, 13))


@dataclass(frozen=True, slots=True)
class Scope:
    """What the nodes of a model, or of one of its functions, may refer to."""

    imports: Mapping[str, int]
    functions: Set[check.FunctionKey]
    function: str = ""
    """The function whose nodes these are."""
    untyped_attributes: bool = False
    """Attributes need not say their type."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why there is no operator of a node's name, and the error that is due."""

    error: type[Exception]
    reason: str


def unknown_operator(proto: onnx.NodeProto, name: str, scope: Scope) -> Unknown | None:
    """Look up a node's operator: in the model's functions, then in the standard."""
    domain, op_type = normal_domain(proto.domain), proto.op_type
    if domain in check.UNCHECKED_DOMAINS:
        return None
    if domain not in scope.imports:
        if scope.function:
            return Unknown(
                Fail, f"No opset registered for domain '{domain}' in function {scope.function}"
            )
        return Unknown(
            InvalidGraph, _invalid_text(proto, name, f"No opset import for domain '{domain}'")
        )
    if (domain, op_type, proto.overload) in scope.functions:
        return None
    if domain not in check.newest_opsets():
        return Unknown(
            Fail, f"Fatal error: {domain}:{op_type}(-1) is not a registered function/op"
        )
    version = scope.imports[domain]
    if check.schema(op_type, version, domain) is None and (
        domain or op_type not in check.OUTSIDE_STANDARD
    ):
        return Unknown(
            InvalidGraph,
            _invalid_text(
                proto, name, f"No Op registered for {op_type} with domain_version of {version}"
            ),
        )
    return None


def check_node(proto: onnx.NodeProto, name: str, scope: Scope) -> None:
    """Check a node of a known operator against its schema, if it has one."""
    require_text(*proto.input, *proto.output)
    require_text(name, proto.op_type, proto.domain, proto.overload, proto.doc_string)
    if not proto.op_type:
        raise InvalidGraph(f"Node '{name}' has no operator type.")
    names = [attribute.name for attribute in proto.attribute]
    require_text(*names)
    if len(set(names)) < len(names):
        raise _invalid(proto, name, "An attribute is given twice.")
    domain = normal_domain(proto.domain)
    is_call = (domain, proto.op_type, proto.overload) in scope.functions
    version = None if is_call else scope.imports.get(domain)
    found = None if version is None else check.schema(proto.op_type, version, domain)
    if found is None:
        return
    _check_counts(proto, name, found)
    for attribute in proto.attribute:
        expected = found.attributes.get(attribute.name)
        if expected is None:
            raise _invalid(
                proto,
                name,
                f"Unrecognized attribute: {attribute.name} for operator {proto.op_type}",
            )
        kind = attribute_kind(attribute, node_label(proto, name), scope.untyped_attributes)
        if kind not in (expected, 0):
            raise _invalid(
                proto,
                name,
                f"Attribute '{attribute.name}' is expected to be kept in "
                f"'{_KIND_NAMES[expected]}', and is in '{_KIND_NAMES[kind]}'.",
            )
    for required in found.required.difference(names):
        raise _invalid(proto, name, f"Required attribute '{required}' is missing.")
    _check_values(proto, name)


def node_label(proto: onnx.NodeProto, name: str) -> str:
    return f"{proto.op_type} node '{name}'"


def _check_counts(proto: onnx.NodeProto, name: str, found: check.Schema) -> None:
    inputs, outputs = len(proto.input), len(proto.output)
    while inputs > found.max_inputs and not proto.input[inputs - 1]:
        inputs -= 1
    if not found.min_inputs <= inputs <= found.max_inputs:
        raise _invalid(
            proto,
            name,
            f"Node ({name}) has input size {inputs} not in range "
            f"[min={found.min_inputs}, max={found.max_inputs}].",
        )
    if not found.min_outputs <= outputs <= found.max_outputs:
        raise _invalid(
            proto,
            name,
            f"Node ({name}) has output size {outputs} not in range "
            f"[min={found.min_outputs}, max={found.max_outputs}].",
        )
    for kind, values, single in (
        ("input", proto.input, found.single_inputs),
        ("output", proto.output, found.single_outputs),
    ):
        for index, value in enumerate(values):
            if not value and index in single:
                raise _invalid(
                    proto,
                    name,
                    f"Node ({name})'s {kind} {index} is marked single but has an empty string in "
                    "the graph",
                )


def _check_values(proto: onnx.NodeProto, name: str) -> None:
    """Attribute values that onnx's own inference would not survive."""
    for attribute in proto.attribute:
        if (
            proto.op_type == "Split"
            and attribute.name == "num_outputs"
            and attribute.i != len(proto.output)
            and not attribute.ref_attr_name
        ):
            raise _invalid(
                proto,
                name,
                f"num_outputs is {attribute.i}, and the node has {len(proto.output)} outputs.",
            )
        if proto.op_type == "Einsum" and not _EQUATION.fullmatch(attribute.s):
            raise _invalid(proto, name, f"Invalid equation {attribute.s!r}.")


def attribute_kind(proto: onnx.AttributeProto, holder: str, untyped: bool = False) -> int:
    """The attribute's type; refused when its content says something else.

    With `untyped` it may be left to the content, as in the first version of the IR.
    """
    fields = [descriptor.name for descriptor, _ in proto.ListFields()]
    filled = [_ATTRIBUTE_FIELDS[name] for name in fields if name in _ATTRIBUTE_FIELDS]
    kind: int = proto.type
    require_text(proto.name, proto.ref_attr_name)
    if not proto.name:
        raise InvalidGraph(f"An attribute of {holder} has no name.")
    label = f"Attribute '{proto.name}' of {holder}"
    if kind == 0:
        if not untyped:
            raise InvalidGraph(f"{label}: Field 'type' of 'attr' is required but missing.")
        if proto.ref_attr_name and not filled:  # so in operator schemas' own functions
            return kind
        if len(filled) != 1:
            raise InvalidGraph(f"{label} does not say its type.")
        return filled[0]
    if kind not in _KIND_NAMES:
        raise InvalidGraph(f"{label} has the unknown type {kind}.")
    if proto.ref_attr_name:
        if filled:
            raise InvalidGraph(f"{label} is a reference and a value at once.")
    elif any(each != kind for each in filled) or (kind in _MESSAGE_KINDS and not filled):
        raise InvalidGraph(f"{label} must keep its value in '{_KIND_NAMES[kind]}' alone.")
    return kind


def _invalid_text(proto: onnx.NodeProto, name: str, reason: str) -> str:
    return (
        f"This is an invalid model. In Node, ('{name}', {proto.op_type}, "
        f"'{proto.domain}', -1) : ({', '.join(proto.input)}) -> ({', '.join(proto.output)}) , "
        f"Error {reason}"
    )


def _invalid(proto: onnx.NodeProto, name: str, reason: str) -> InvalidGraph:
    return InvalidGraph(_invalid_text(proto, name, reason))
