# SPDX-License-Identifier: Apache-2.0
"""Nodes brought to a newer opset, one by one, so that all others stay as they are.

onnx's converter sees each node whose operator has changed as a model of its own. What it does not
know how to convert is an error, not a guess.
"""

from __future__ import annotations

import functools

import onnx

from bascule.errors import InvalidArgument
from bascule.ir import check
from bascule.ir.infer import INFERENCE_ERRORS
from bascule.ir.serialize import write_type
from bascule.ir.types import Type
from bascule.ir.walk import graphs_of
from bascule.tools.edit.change import Change, imports_of
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import (
    all_names,
    constant_tensor,
    fresh,
    label,
    node_names,
    producers,
)
from bascule.tools.edit.types import infer

_SMALL = 1 << 16
"""Constants up to this many bytes are shown to the converter: axes, sizes, paddings."""

_SAME_SINCE = {"Constant": 1, "If": 1, "Loop": 11, "Scan": 9, "SequenceMap": 17}
"""Operators that have only become more general since these versions."""


def raise_opsets(document: Document, change: Change, wanted: dict[str, int]) -> None:
    """Bring a model to these opsets, none of them older than its own.

    Raises:
        InvalidArgument: a node cannot be converted; it is named.
    """
    model = document.proto
    for domain, version in wanted.items():
        old = imports_of(model).get(domain)
        if old is None or old >= version:
            continue
        if _needs_conversion(model.graph, domain, old, version):
            if domain:
                node = _changed(model.graph, domain, old, version)
                raise InvalidArgument(
                    f"{label(node)} means something else in opset {version} of '{domain}' than in "
                    f"{old}, and there is no converter for this domain"
                )
            types = infer(document)
            count = _convert(document, model.graph, old, version, types, {})
            change.note(f"nodes converted from opset {old} to {version}: {count}")
        for function in model.functions:
            _raise_function(function, domain, version, old)
        for each in model.opset_import:
            if check.normal_domain(each.domain) == domain:
                each.version = version


def _raise_function(function: onnx.FunctionProto, domain: str, version: int, model: int) -> None:
    own = next((o for o in function.opset_import if check.normal_domain(o.domain) == domain), None)
    old = model if own is None else own.version
    for node in function.node:
        if _differs(node, domain, old, version):
            raise InvalidArgument(
                f"{label(node)} of function '{function.name}' means something else in opset "
                f"{version} than in {old}, and functions cannot be converted"
            )
    if own is not None and own.version < version:
        own.version = version


def _differs(node: onnx.NodeProto, domain: str, old: int, new: int) -> bool:
    if check.normal_domain(node.domain) != domain:
        return False
    since = _SAME_SINCE.get(node.op_type) if not domain else None
    if since is not None and old >= since:
        return False
    return _is_another(node.op_type, domain, old, new)


@functools.cache
def _is_another(op_type: str, domain: str, old: int, new: int) -> bool:
    """Whether an operator has become another one, not only one that takes more element types."""
    before, after = check.schema(op_type, old, domain), check.schema(op_type, new, domain)
    if before is None:
        return False
    if after is None or before.since_version == after.since_version:
        return after is None
    sides = [onnx.defs.get_schema(op_type, version, domain) for version in (old, new)]
    if sides[1].deprecated or (op_type, old < 7) == (
        "PRelu",
        True,
    ):  # that one broadcasts otherwise
        return True
    one, other = (
        (
            sorted(
                (a.name, a.type, a.required, str(a.default_value)) for a in s.attributes.values()
            ),
            [(p.name, p.option) for p in (*s.inputs, *s.outputs)],
            len(s.inputs),
        )
        for s in sides
    )
    return one != other


def _needs_conversion(graph: onnx.GraphProto, domain: str, old: int, new: int) -> bool:
    for node in graph.node:
        if _differs(node, domain, old, new):
            return True
        if any(_needs_conversion(inner, domain, old, new) for inner in graphs_of(node)):
            return True
    return False


def _changed(graph: onnx.GraphProto, domain: str, old: int, new: int) -> onnx.NodeProto:
    for node in graph.node:
        if _differs(node, domain, old, new):
            return node
        for inner in graphs_of(node):
            if _needs_conversion(inner, domain, old, new):
                return _changed(inner, domain, old, new)
    raise AssertionError("no node differs")


def _convert(
    document: Document,
    graph: onnx.GraphProto,
    old: int,
    new: int,
    types: dict[str, Type],
    outer: dict[str, onnx.TensorProto],
) -> int:
    """Convert the nodes of a graph and of those in it; returns how many."""
    constants = dict(outer)
    constants.update((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        tensor = constant_tensor(node)
        if tensor is not None:
            constants[node.output[0]] = tensor
    count = index = 0
    while index < len(graph.node):
        node = graph.node[index]
        for inner in graphs_of(node):
            count += _convert(document, inner, old, new, types, constants)
        if not _differs(node, "", old, new):
            index += 1
            continue
        made = _converted(document, node, old, new, types, constants)
        _put(document, graph, index, made)
        index += len(made.node)
        count += 1
    return count


def _converted(
    document: Document,
    node: onnx.NodeProto,
    old: int,
    new: int,
    types: dict[str, Type],
    constants: dict[str, onnx.TensorProto],
) -> onnx.GraphProto:
    """What onnx makes of a node."""
    from onnx import version_converter

    if graphs_of(node) or (node.op_type == "PRelu" and old < 7):
        raise InvalidArgument(
            f"{label(node)} means something else in opset {new} than in {old}, and there is "
            "no converter for it"
        )
    model = onnx.ModelProto(ir_version=max(document.proto.ir_version, 4))
    model.opset_import.add(version=old)
    model.graph.name = "node"
    model.graph.node.append(node)
    for name in dict.fromkeys(name for name in node.input if name):
        tensor = constants.get(name)
        if tensor is not None and tensor.ByteSize() < _SMALL:
            constant = document.constant(tensor)
            if constant.nbytes < _SMALL:
                from bascule.ir.serialize import write_inline

                copy = model.graph.initializer.add(name=name, data_type=tensor.data_type)
                copy.dims.extend(tensor.dims)
                write_inline(constant, copy)
                continue
        if name not in types:
            raise InvalidArgument(
                f"{label(node)} cannot be converted from opset {old} to {new}: the type of "
                f"'{name}' is not known"
            )
        write_type(types[name], model.graph.input.add(name=name).type)
    for name in node.output:
        if name:
            info = model.graph.output.add(name=name)
            if name in types:
                write_type(types[name], info.type)
    try:
        made = version_converter.convert_version(model, new).graph
    except (version_converter.ConvertError, *INFERENCE_ERRORS) as error:
        raise InvalidArgument(
            f"{label(node)} cannot be converted from opset {old} to {new}: {error}"
        ) from None
    if not set(node.output) - {""} <= producers(made).keys():
        raise InvalidArgument(f"{label(node)} cannot be converted from opset {old} to {new}")
    return made


def _put(document: Document, graph: onnx.GraphProto, index: int, made: onnx.GraphProto) -> None:
    """Put nodes in the place of the one that they were made of."""
    old = onnx.NodeProto.FromString(graph.node[index].SerializeToString())
    taken, names = all_names(document.proto), node_names(document.proto) - {old.name}
    inner = {name for node in made.node for name in node.output if name} - set(old.output)
    known = set(old.input)
    inner |= {tensor.name for tensor in made.initializer if tensor.name not in known}
    mapping = {name: fresh(f"{old.output[0]}_{name}", taken) for name in sorted(inner)}
    for tensor in made.initializer:
        if tensor.name in mapping:
            added = graph.initializer.add()
            added.CopyFrom(tensor)
            added.name = mapping[tensor.name]
    main = next(
        (n for n in reversed(made.node) if n.op_type == old.op_type),
        next(n for n in made.node if old.output[0] in n.output),
    )
    del graph.node[index]
    for offset, node in enumerate(made.node):
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.input[:] = [mapping.get(name, name) for name in node.input]
        copy.output[:] = [mapping.get(name, name) for name in node.output]
        if node is main:
            copy.name, copy.doc_string = old.name, old.doc_string
            del copy.metadata_props[:]
            copy.metadata_props.extend(old.metadata_props)
        elif old.name:
            copy.name = fresh(f"{old.name}_{copy.op_type}", names)
        graph.node.insert(index + offset, copy)
