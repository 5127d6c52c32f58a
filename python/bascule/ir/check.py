# SPDX-License-Identifier: Apache-2.0
"""What the standard demands of a model, as far as it can be told without types."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bascule.errors import Fail, InvalidGraph, InvalidProtobuf
from bascule.ir.graph import FUSED_DOMAIN, Function

if TYPE_CHECKING:
    import onnx

FunctionKey = tuple[str, str, str]

UNCHECKED_DOMAINS = frozenset((FUSED_DOMAIN, "com.microsoft"))
"""Domains whose operators have no schema here; they need no opset import."""

OUTSIDE_STANDARD = frozenset(
    (
        "Affine",
        "ConstantFill",
        "Crop",
        "DynamicSlice",
        "GivenTensorFill",
        "ImageScaler",
        "LayerNormalization",
        "MeanVarianceNormalization",
        "ParametricSoftplus",
        "Scale",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
        "ThresholdedRelu",
    )
)
"""Operators of the default domain that may be used in an opset without them: experiments that ONNX
dropped, and what other runtimes have added. Canonicalizing gives them a standard form."""

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

_VARIADIC = 2**31 - 1
"""As many outputs as one likes, in a schema."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What is needed of an onnx.defs.OpSchema, in a form that is quick to ask."""

    since_version: int
    min_inputs: int
    max_inputs: int
    min_outputs: int
    max_outputs: int
    single_inputs: frozenset[int]
    """Inputs that may not be left out; `single_outputs` likewise."""
    single_outputs: frozenset[int]
    attributes: Mapping[str, int]
    """The kind of each attribute, as onnx.AttributeProto.AttributeType."""
    required: frozenset[str]


@functools.lru_cache(maxsize=4096)
def schema(op_type: str, version: int, domain: str) -> Schema | None:
    """The operator as of opset `version` of `domain`; None when there is none."""
    import onnx.defs

    try:
        found = onnx.defs.get_schema(op_type, min(version, 2**31 - 1), domain)
    except onnx.defs.SchemaError:
        return None
    attributes = found.attributes
    return Schema(
        found.since_version,
        found.min_input,
        found.max_input,
        found.min_output,
        found.max_output,
        _single(found.inputs),
        _single(found.outputs),
        {name: attribute.type.value for name, attribute in attributes.items()},
        frozenset(name for name, attribute in attributes.items() if attribute.required),
    )


def _single(parameters: Iterable[Any]) -> frozenset[int]:
    return frozenset(
        index for index, each in enumerate(parameters) if each.option == each.option.Single
    )


def counts_outputs(proto: onnx.NodeProto, opsets: Mapping[str, int]) -> bool:
    """Whether the number of a node's outputs means something: that of Split's parts, of a loop's
    values. Such a node keeps its last outputs even if they have no name.
    """
    domain = normal_domain(proto.domain)
    found = schema(proto.op_type, opsets.get(domain, 1), domain)
    return found is None or found.max_outputs == _VARIADIC


@functools.cache
def newest_opsets() -> dict[str, int]:
    """The newest opset of each domain that has schemas."""
    import onnx.defs

    return {domain: versions[1] for domain, versions in onnx.defs.C.schema_version_map().items()}


def normal_domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def require_text(*items: str) -> None:
    """Refuse strings that are not UTF-8: protobuf hands these out as bytes."""
    try:
        "".join(items)
    except TypeError:
        raise InvalidProtobuf("Protobuf parsing failed. A text is not UTF-8.") from None


# --- the model's head


def check_ir_version(proto: onnx.ModelProto) -> None:
    """A newer IR is fine as long as the model uses nothing that is new in it."""
    import onnx

    if proto.ir_version < 1:
        raise Fail("Missing or invalid model IR version.")
    if proto.ir_version > onnx.IR_VERSION:
        unknown = _unknown_field(proto)
        if unknown:
            raise Fail(
                f"Unsupported model IR version: {proto.ir_version}, max supported IR version: "
                f"{onnx.IR_VERSION}. The model uses an unknown field in {unknown}."
            )


def _unknown_field(proto: Any) -> str:
    """The kind of a message that holds a field that is not known here, or nothing."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    pending = [proto]
    while pending:
        message = pending.pop()
        if len(UnknownFieldSet(message)):
            return str(message.DESCRIPTOR.name)
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                pending.extend([value] if hasattr(value, "DESCRIPTOR") else value)
    return ""


def opset_imports(proto: onnx.ModelProto) -> dict[str, int]:
    if not proto.opset_import and proto.ir_version >= 3:
        raise Fail(
            "Missing opset in the model. All ModelProtos MUST have at least one entry that "
            "specifies which version of the ONNX OperatorSet is being imported."
        )
    return _imports(proto.opset_import) or {"": 1}


def function_opset_imports(
    proto: onnx.FunctionProto, model_imports: dict[str, int]
) -> dict[str, int]:
    """A function's own imports; the model's stand in for what it leaves out."""
    return {**model_imports, **_imports(proto.opset_import)}


def _imports(protos: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in protos:
        require_text(each.domain)
        domain = normal_domain(each.domain)
        newest = newest_opsets().get(domain)
        if newest is not None and each.version > newest:
            raise Fail(
                "bascule only *guarantees* support for models stamped with official released onnx "
                f"opset versions. Opset {each.version} is under development and support for this "
                f"is limited. Current official support for domain {domain or 'ai.onnx'} is till "
                f"opset {newest}."
            )
        if each.version < 1:
            raise InvalidGraph(f"Opset {each.version} of domain '{domain}' does not exist.")
        if found.setdefault(domain, each.version) != each.version:
            raise InvalidGraph(f"Domain '{domain}' is imported in two versions.")
    return found


# --- functions


def function_keys(proto: onnx.ModelProto) -> set[FunctionKey]:
    found: set[FunctionKey] = set()
    for function in proto.functions:
        require_text(function.domain, function.name, function.overload, function.doc_string)
        require_text(*function.input, *function.output, *function.attribute)
        key = (normal_domain(function.domain), function.name, function.overload)
        if not function.name:
            raise InvalidGraph("A function has no name.")
        if key in found:
            raise Fail(f"Duplicate definition of function ({key[0]}:{key[1]}).")
        found.add(key)
    return found


def call_order(functions: Mapping[FunctionKey, Function]) -> list[FunctionKey]:
    """The functions, each after those that it calls; functions that call themselves are refused."""
    calls = {
        key: [
            called
            for node in function.body.walk_nodes()
            if (called := (node.domain, node.op_type, node.overload)) in functions
        ]
        for key, function in functions.items()
    }
    done: dict[FunctionKey, None] = {}
    for root in functions:
        path = [(root, iter(calls[root]))] if root not in done else []
        active = {root}
        while path:
            key, rest = path[-1]
            for called in rest:
                if called in active:
                    raise InvalidGraph(
                        f"Function '{called[0]}:{called[1]}' calls itself, which is not allowed."
                    )
                if called not in done:
                    active.add(called)
                    path.append((called, iter(calls[called])))
                    break
            else:
                path.pop()
                active.discard(key)
                done[key] = None
    return list(done)


# --- nodes


def attribute_kind(proto: onnx.AttributeProto, where: str) -> int:
    """The attribute's type; refused when its content says something else."""
    fields = [descriptor.name for descriptor, _ in proto.ListFields()]
    filled = [_ATTRIBUTE_FIELDS[name] for name in fields if name in _ATTRIBUTE_FIELDS]
    kind: int = proto.type
    require_text(proto.name, proto.ref_attr_name)
    if not proto.name:
        raise InvalidGraph(f"Attribute '{where}' has no name.")
    if kind == 0 and proto.ref_attr_name and not filled:  # so in operator schemas' own functions
        return kind
    if kind == 0:  # not demanded by the first versions of the IR
        if len(filled) != 1:
            raise InvalidGraph(f"Attribute '{where}' does not say its type.")
        return filled[0]
    if kind not in _KIND_NAMES:
        raise InvalidGraph(f"Attribute '{where}' has the unknown type {kind}.")
    if proto.ref_attr_name:
        if filled:
            raise InvalidGraph(f"Attribute '{where}' is a reference and a value at once.")
    elif any(each != kind for each in filled) or (kind in _MESSAGE_KINDS and not filled):
        name = _KIND_NAMES[kind]
        raise InvalidGraph(f"Attribute '{where}' must keep its value in '{name}' alone.")
    return kind


def check_node(
    proto: onnx.NodeProto,
    name: str,
    imports: dict[str, int],
    functions: set[FunctionKey],
) -> None:
    """Check a node against its operator's schema; without one it is left to the compiler."""
    require_text(*proto.input, *proto.output)
    require_text(name, proto.op_type, proto.domain, proto.overload, proto.doc_string)
    domain, op_type = normal_domain(proto.domain), proto.op_type
    if not op_type:
        raise InvalidGraph(f"Node '{name}' has no operator type.")
    names = [attribute.name for attribute in proto.attribute]
    require_text(*names)
    if len(set(names)) < len(names):
        raise _invalid(proto, name, "An attribute is given twice.")
    if domain not in imports and domain not in UNCHECKED_DOMAINS:
        raise _invalid(proto, name, f"No opset import for domain '{domain}'")
    if (domain, op_type, proto.overload) in functions:
        return
    found = schema(op_type, imports[domain], domain) if domain in newest_opsets() else None
    if found is None:
        return
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
    for side, values, single in (
        ("input", proto.input, found.single_inputs),
        ("output", proto.output, found.single_outputs),
    ):
        for index, value in enumerate(values):
            if not value and index in single:
                raise _invalid(
                    proto,
                    name,
                    f"Node ({name})'s {side} {index} is marked single but has an empty string in "
                    "the graph",
                )
    for attribute in proto.attribute:
        expected = found.attributes.get(attribute.name)
        if expected is None:
            raise _invalid(
                proto, name, f"Unrecognized attribute: {attribute.name} for operator {op_type}"
            )
        kind = attribute_kind(attribute, f"{name}.{attribute.name}")
        if kind not in (expected, 0):
            raise _invalid(
                proto,
                name,
                f"Attribute '{attribute.name}' is expected to be kept in "
                f"'{_KIND_NAMES[expected]}', and is in '{_KIND_NAMES[kind]}'.",
            )
    for required in found.required.difference(names):
        raise _invalid(proto, name, f"Required attribute '{required}' is missing.")
    _check_values(proto, name, outputs)


def _check_values(proto: onnx.NodeProto, name: str, outputs: int) -> None:
    """Attribute values that onnx's own inference would not survive."""
    for attribute in proto.attribute:
        if (
            proto.op_type == "Split"
            and attribute.name == "num_outputs"
            and attribute.i != outputs
            and not attribute.ref_attr_name
        ):
            raise _invalid(
                proto, name, f"num_outputs is {attribute.i}, and the node has {outputs} outputs."
            )
        if proto.op_type == "Einsum" and not _EQUATION.fullmatch(attribute.s):
            raise _invalid(proto, name, f"Invalid equation {attribute.s!r}.")


def _invalid(proto: onnx.NodeProto, name: str, reason: str) -> InvalidGraph:
    return InvalidGraph(
        f"This is an invalid model. In Node, ('{name}', {proto.op_type}, "
        f"'{proto.domain}', -1) : ({', '.join(proto.input)}) -> ({', '.join(proto.output)}) , "
        f"Error {reason}"
    )
