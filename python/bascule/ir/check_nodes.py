# SPDX-License-Identifier: Apache-2.0
"""What the standard demands of a node and its attributes, as far as it shows without types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bascule.errors import InvalidGraph
from bascule.ir import check
from bascule.ir.check import normal_domain, require_text
from bascule.ir.dtype import DataType

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
_WORDS = {
    ("DepthToSpace", "mode"): (b"DCR", b"CRD"),
    ("Gelu", "approximate"): (b"none", b"tanh"),
    ("RoiAlign", "mode"): (b"avg", b"max"),
}
"""Of attributes that choose between two ways, where another word would choose one of them."""

_ELEMENT_TYPES = frozenset(DataType) - {DataType.UNDEFINED}

_EQUATION = re.compile(rb"[A-Za-z., \->]*")
_INT, _TEXT = _ATTRIBUTE_FIELDS["i"], _ATTRIBUTE_FIELDS["s"]
_MESSAGE_KINDS = frozenset((4, 5, 11, 13))


@dataclass(frozen=True, slots=True)
class Scope:
    """What the nodes of a model, or of one of its functions, may refer to."""

    imports: Mapping[str, int]
    functions: Set[check.FunctionKey]
    in_function: bool = False
    """Attributes may refer to those of a function."""
    untyped_attributes: bool = False
    """Attributes need not say their type."""


def check_node(proto: onnx.NodeProto, name: str, scope: Scope) -> int:
    """Check a node against its operator's schema; without one it is left to the compiler.

    Returns how many inputs it must have, those that are left out included.
    """
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
        return 0
    _check_counts(proto, name, found)
    for attribute in proto.attribute:
        expected = found.attributes.get(attribute.name)
        if expected is None:
            raise _invalid(
                proto,
                name,
                f"Unrecognized attribute: {attribute.name} for operator {proto.op_type}",
            )
        kind = attribute_kind(attribute, node_label(proto.op_type, name), scope.untyped_attributes)
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
    return found.min_inputs


def node_label(op_type: str, name: str) -> str:
    return f"{op_type} node '{name}'"


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
    for attribute in proto.attribute:
        if attribute.ref_attr_name or attribute.type not in (_INT, _TEXT):
            continue
        value = attribute.i if attribute.type == _INT else attribute.s
        problem = value_problem(proto.op_type, attribute.name, value, len(proto.output))
        if problem is not None:
            raise _invalid(proto, name, problem)


def value_problem(op_type: str, attribute: str, value: int | bytes, outputs: int) -> str | None:
    """What is wrong with a value that onnx's inference would not survive, or nothing else tells.

    `outputs` says how many the node has.
    """
    key = op_type, attribute
    words = _WORDS.get(key)
    if words is not None and value not in words:
        return f"attribute '{attribute}' is {_shown(value)}, expected one of {_listed(words)}."
    if key == ("Cast", "to") and isinstance(value, int) and value not in _ELEMENT_TYPES:
        return f"attribute 'to' is {value}, which is no element type."  # before opset 6 a word
    if key == ("GatherND", "batch_dims") and not (isinstance(value, int) and value >= 0):
        return f"attribute 'batch_dims' is {_shown(value)}, expected 0 or more."
    if key == ("Split", "num_outputs") and value != outputs:
        return f"num_outputs is {_shown(value)}, and the node has {outputs} outputs."
    if key == ("Einsum", "equation"):
        is_equation = isinstance(value, bytes) and _EQUATION.fullmatch(value) is not None
        return None if is_equation else f"Invalid equation {value!r}."
    return None


def _shown(value: int | bytes) -> str:
    return str(value) if isinstance(value, int) else f"'{value.decode(errors='replace')}'"


def _listed(words: tuple[bytes, ...]) -> str:
    return ", ".join(word.decode() for word in words)


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


def _invalid(proto: onnx.NodeProto, name: str, reason: str) -> InvalidGraph:
    return InvalidGraph(
        f"This is an invalid model. In Node, ('{name}', {proto.op_type}, "
        f"'{proto.domain}', -1) : ({', '.join(proto.input)}) -> ({', '.join(proto.output)}) , "
        f"Error {reason}"
    )
