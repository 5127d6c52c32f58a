# SPDX-License-Identifier: Apache-2.0
"""Constants: set, made inputs, and made of inputs."""

from __future__ import annotations

from typing import Any

import onnx

from bascule.errors import InvalidArgument
from bascule.ir.constant import Constant
from bascule.ir.deserialize import read_type
from bascule.ir.serialize import write_type
from bascule.ir.types import TensorType
from bascule.ir.walk import graphs_in
from bascule.tools.edit.change import Change, remove_initializer, require_free
from bascule.tools.edit.document import Document, as_constant
from bascule.tools.edit.names import (
    constant_tensor,
    initializer_names,
    producers,
    suggestion,
)
from bascule.tools.edit.types import show

_DEFAULTS_ONLY = 3
"""Up to this version of the IR every initializer has to be an input as well."""


def add_initializer(
    document: Document, change: Change, graph: onnx.GraphProto, name: str, constant: Constant
) -> None:
    """A new constant of a graph.

    Raises:
        InvalidArgument: the name is taken.
    """
    require_free(document.proto, name)
    _append(document, graph, name, constant)
    change.changed.add(name)


def _append(document: Document, graph: onnx.GraphProto, name: str, constant: Constant) -> None:
    document.set_tensor(graph.initializer.add(name=name), constant)
    listed = any(info.name == name for info in graph.input)
    if document.proto.ir_version <= _DEFAULTS_ONLY and not listed:
        info = graph.input.add(name=name)
        write_type(TensorType(constant.dtype, constant.shape), info.type)


def set_initializer(document: Document, change: Change, name: str, array: Any) -> None:
    """Set or add a constant; see Editor.set_initializer."""
    constant = as_constant(array)
    model = document.proto
    homes = [g for g in graphs_in(model.graph) if name in initializer_names(g)]
    if len(homes) > 1 and homes[0] is not model.graph:
        raise InvalidArgument(f"{len(homes)} nested graphs have an initializer '{name}'")
    if homes:
        _set_in(document, homes[0], name, constant)
    else:
        found = _constant_node(model, name)
        if found is None:
            add_initializer(document, change, model.graph, name, constant)
            change.note(f"initializer '{name}' is new")
        else:
            document.set_tensor(found.t, constant)
    change.changed.add(name)


def _set_in(document: Document, graph: onnx.GraphProto, name: str, constant: Constant) -> None:
    for info in graph.input:
        if info.name == name:
            _require_fit(info, constant)
            if document.proto.ir_version <= _DEFAULTS_ONLY:
                info.ClearField("type")
                write_type(TensorType(constant.dtype, constant.shape), info.type)
    for tensor in graph.initializer:
        if tensor.name == name:
            document.set_tensor(tensor, constant)
            return
    remove_initializer(graph, name)
    _append(document, graph, name, constant)


def _constant_node(model: onnx.ModelProto, name: str) -> onnx.AttributeProto | None:
    """The attribute that holds the value of a Constant; refused for any other value."""
    for graph in graphs_in(model.graph):
        index = producers(graph).get(name)
        if index is None:
            continue
        node = graph.node[index]
        if node.op_type == "Constant" and not node.domain:
            if constant_tensor(node) is None:  # a number or a list: now a tensor
                del node.attribute[:]
                node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.SetInParent()
            return node.attribute[0]
        raise InvalidArgument(f"'{name}' is made by a {node.op_type} and is no constant")
    if any(info.name == name for info in model.graph.input):
        raise InvalidArgument(f"'{name}' is an input: make it a constant by input_to_initializer")
    return None


def _require_fit(info: onnx.ValueInfoProto, constant: Constant) -> None:
    """Refuse a constant that is not of the type of an input."""
    declared = read_type(info.type) if info.HasField("type") else None
    given = TensorType(constant.dtype, constant.shape)
    if declared is None:
        return
    fits = isinstance(declared, TensorType) and declared.dtype is given.dtype
    if fits and isinstance(declared, TensorType) and declared.shape is not None:
        sizes = list(zip(declared.shape, constant.shape))
        fits = len(declared.shape) == len(constant.shape) and all(
            not isinstance(dim, int) or dim == size for dim, size in sizes
        )
    if not fits:
        raise InvalidArgument(
            f"Input '{info.name}' is {show(declared)}, and the array {show(given)}"
        )


def initializer_to_input(document: Document, change: Change, name: str, keep_default: bool) -> None:
    """Let a constant be fed; see Editor.initializer_to_input."""
    graph = document.proto.graph
    tensor = next((each for each in graph.initializer if each.name == name), None)
    if tensor is None:
        constants = initializer_names(graph)
        raise InvalidArgument(f"The model has no initializer '{name}'{suggestion(name, constants)}")
    if not any(info.name == name for info in graph.input):
        stated = next((info for info in graph.value_info if info.name == name), None)
        info = graph.input.add(name=name)
        type = TensorType(document.constant(tensor).dtype, tuple(int(size) for size in tensor.dims))
        if stated is not None:
            info.CopyFrom(stated)
            graph.value_info.remove(stated)
        info.ClearField("type")
        write_type(type, info.type)
    elif keep_default:
        raise InvalidArgument(f"Initializer '{name}' is the default of an input already")
    if not keep_default:
        for index, each in enumerate(graph.initializer):
            if each.name == name:
                del graph.initializer[index]
                break
    change.changed.add(name)


def input_to_initializer(document: Document, change: Change, name: str, array: Any | None) -> None:
    """Give an input a value for good; see Editor.input_to_initializer."""
    model, graph = document.proto, document.proto.graph
    names = [info.name for info in graph.input]
    if name not in names:
        raise InvalidArgument(f"The model has no input '{name}'{suggestion(name, names)}")
    info = graph.input[names.index(name)]
    has_default = name in initializer_names(graph)
    if array is None and not has_default:
        raise InvalidArgument(f"Input '{name}' has no default: give an array")
    if array is not None:
        constant = as_constant(array)
        _require_fit(info, constant)
        if has_default:
            remove_initializer(graph, name)
        document.set_tensor(graph.initializer.add(name=name), constant)
        if model.ir_version <= _DEFAULTS_ONLY:
            info.ClearField("type")
            write_type(TensorType(constant.dtype, constant.shape), info.type)
    if model.ir_version > _DEFAULTS_ONLY:
        if any(output.name == name for output in graph.output):
            change.note(f"'{name}' is an output as well, and now a constant one")
        del graph.input[names.index(name)]
    change.changed.add(name)
