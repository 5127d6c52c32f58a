# SPDX-License-Identifier: Apache-2.0
"""What the standard demands of a model, as far as it can be told without types."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bascule.errors import Fail, InvalidGraph, InvalidProtobuf
from bascule.ir.graph import FUSED_DOMAIN, Function

if TYPE_CHECKING:
    import onnx

FunctionKey = tuple[str, str, str]

UNCHECKED_DOMAINS = frozenset((FUSED_DOMAIN, "com.microsoft", "com.microsoft.nchwc"))
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
        "MemcpyFromHost",
        "MemcpyToHost",
        "ParametricSoftplus",
        "Scale",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
        "ThresholdedRelu",
    )
)
"""Operators of the default domain that may be used in an opset without them: experiments that ONNX
dropped, and what other runtimes have added. Canonicalizing gives them a standard form."""

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

    for message in submessages(proto):
        if len(UnknownFieldSet(message)):
            return str(message.DESCRIPTOR.name)
    return ""


def submessages(proto: Any) -> Iterator[Any]:
    """The message and all those in it."""
    pending = [proto]
    while pending:
        message = pending.pop()
        yield message
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                pending.extend([value] if hasattr(value, "DESCRIPTOR") else value)


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
