# SPDX-License-Identifier: Apache-2.0
"""Some nodes of a model as a model of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import onnx

from bascule.errors import InvalidArgument
from bascule.ir.check import normal_domain
from bascule.ir.serialize import write_type
from bascule.ir.types import TensorType, Type
from bascule.ir.walk import graphs_of
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import (
    all_names,
    captured,
    defined,
    find_value,
    fresh,
    initializer_names,
    label,
    producers,
    reads,
    training_graphs,
)
from bascule.tools.edit.types import declared_types, infer


def extract(
    model: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    graphs: Sequence[onnx.GraphProto] | None = None,
) -> onnx.ModelProto:
    """The model of `nodes` alone, with the constants, declarations and functions they need.

    What is kept is as it was: opsets, metadata, nodes in the order given. `graphs` are where the
    nodes and what they read are defined, by default the model's graph.
    """
    part = _without(model, "graph", "functions", "training_info")
    graph = part.graph
    graph.CopyFrom(
        _without(
            model.graph, "node", "initializer", "sparse_initializer", "input", "output",
            "value_info", "quantization_annotation",
        )
    )  # fmt: skip
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    given = {info.name for info in inputs}
    _make_room(model, graph, given)
    needed = {name for node in graph.node for name in reads(node)}
    needed.update(info.name for info in outputs)
    wanted = needed - given
    inner = {name for node in graph.node for name in node.output if name}
    ends = given | {info.name for info in outputs}
    for source in graphs if graphs is not None else [model.graph]:
        defaults = {info.name: info for info in source.input}
        for tensor in source.initializer:
            if tensor.name in wanted:
                graph.initializer.append(tensor)
                if tensor.name in defaults and source is model.graph:
                    graph.input.append(defaults[tensor.name])
        for sparse in source.sparse_initializer:
            if sparse.values.name in wanted:
                graph.sparse_initializer.append(sparse)
        graph.value_info.extend(
            info
            for info in source.value_info
            if info.name in inner | needed and info.name not in ends
        )
        known = inner | needed
        graph.quantization_annotation.extend(
            a
            for a in source.quantization_annotation
            if a.tensor_name in known
            and all(e.value in known for e in a.quant_parameter_tensor_names)
        )
    part.functions.extend(_called(model, graph))
    _keep_training(model, part)
    return part


def _make_room(model: onnx.ModelProto, graph: onnx.GraphProto, given: Collection[str]) -> None:
    """Rename results that are inputs now, of nodes of which another result is needed."""
    taken = None
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name in given:
                taken = all_names(model) if taken is None else taken
                node.output[index] = fresh(f"{name}_unused", taken)


def _without(message: Any, *fields: str) -> Any:
    """A copy without some fields; what is unknown in it stays."""
    copy = type(message)()
    copy.CopyFrom(message)
    for field in fields:
        copy.ClearField(field)
    return copy


def _called(model: onnx.ModelProto, graph: onnx.GraphProto) -> list[onnx.FunctionProto]:
    """The functions that are called, in the order in which the model has them."""
    known = {(normal_domain(f.domain), f.name, f.overload): f for f in model.functions}
    if not known:
        return []
    found: set[tuple[str, str, str]] = set()
    pending = list(graph.node)
    while pending:
        node = pending.pop()
        key = (normal_domain(node.domain), node.op_type, node.overload)
        for inner in graphs_of(node):
            pending.extend(inner.node)
        if key in known and key not in found:
            found.add(key)
            pending.extend(known[key].node)
    return [function for key, function in known.items() if key in found]


def _keep_training(model: onnx.ModelProto, part: onnx.ModelProto) -> None:
    """Keep what is said about training, if all that it speaks of is there."""
    names = defined(part.graph)
    for info, pair in zip(model.training_info, _pairs(training_graphs(model))):
        read = {name for graph in pair for name in captured(graph)}
        own = {name for graph in pair for name in defined(graph)}
        bound = (*info.initialization_binding, *info.update_binding)
        read.update(each.key for each in bound)
        read.update(each.value for each in bound if each.value not in own)
        if read <= names:
            part.training_info.append(info)


def _pairs(
    graphs: Sequence[onnx.GraphProto],
) -> list[tuple[onnx.GraphProto, onnx.GraphProto]]:
    return list(zip(graphs[::2], graphs[1::2]))


# --- between named values


def cut(
    document: Document,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
    types: Mapping[str, Type],
) -> tuple[onnx.ModelProto, list[str]]:
    """What computes `outputs` from `inputs`, as a model; and what else there is to say.

    See Editor.cut.
    """
    model, graph = document.proto, document.proto.graph
    wanted = list(dict.fromkeys(outputs or [info.name for info in graph.output]))
    given = None if inputs is None else list(dict.fromkeys(inputs))
    for name in (*wanted, *(given or ())):
        if find_value(model, name) is not graph:
            raise InvalidArgument(
                f"Value '{name}' is inside a nested graph, which cannot be cut: only values of the "
                "model's own graph can"
            )
    indices, reached = _between(graph, given, wanted)
    if given is None:
        given = [info.name for info in graph.input if info.name in reached]
    notes = [
        f"initializer '{name}' is an input now"
        for name in given
        if name in initializer_names(graph)
    ]
    known = declared_types(graph)
    ends = [*given, *wanted]
    inferred: dict[str, Type] = {}
    if any(not _has_shape(known.get(name)) and name not in types for name in ends):
        inferred = infer(document)
    infos = [_info(graph, name, types, known, inferred) for name in ends]
    nodes = [graph.node[index] for index in indices]
    part = extract(model, nodes, infos[: len(given)], infos[len(given) :])
    if len(part.training_info) < len(model.training_info):
        notes.append("training_info was left out: it speaks of what is no longer there")
    return part, notes


def _between(
    graph: onnx.GraphProto, given: Sequence[str] | None, wanted: Sequence[str]
) -> tuple[list[int], set[str]]:
    """The nodes that are needed, in order, and the inputs that were reached."""
    made = producers(graph)
    constants = set(initializer_names(graph))
    stops = set(given or ())
    needed: set[int] = set()
    reached: set[str] = set()
    pending = [(name, "") for name in wanted]
    seen: set[str] = set()
    while pending:
        name, reader = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in stops:
            reached.add(name)
        elif name in made:
            index = made[name]
            if index not in needed:
                needed.add(index)
                node = graph.node[index]
                pending.extend((each, label(node)) for each in reads(node))
        elif name not in constants:
            if given is not None:
                what = f", which {reader} reads" if reader else ""
                raise InvalidArgument(
                    f"Input '{name}' is needed as well{what}: give it, or a value between it and "
                    f"the outputs, beside {', '.join(map(repr, given)) or 'no input'}"
                )
            reached.add(name)
    for name in given or ():
        if name not in reached:
            raise InvalidArgument(
                f"Input '{name}' is not needed for {', '.join(map(repr, wanted))}: leave it out"
            )
    return sorted(needed), reached


def _has_shape(type: onnx.TypeProto | None) -> bool:
    """Whether nothing is left to find out that onnx's checker asks for."""
    return type is not None and (
        not type.HasField("tensor_type") or type.tensor_type.HasField("shape")
    )


def _has_no_rank(type: Type | None) -> bool:
    return isinstance(type, TensorType) and type.shape is None


def _info(
    graph: onnx.GraphProto,
    name: str,
    types: Mapping[str, Type],
    known: Mapping[str, onnx.TypeProto],
    inferred: Mapping[str, Type],
) -> onnx.ValueInfoProto:
    """What the part declares of one of its ends: as the model does, if it does."""
    info = onnx.ValueInfoProto(name=name)
    for each in (*graph.input, *graph.output, *graph.value_info):
        if each.name == name:
            info.CopyFrom(each)
            break
    if name in types:
        info.ClearField("type")
        write_type(types[name], info.type)
        return info
    found = inferred.get(name)
    is_end = any(each.name == name for each in (*graph.input, *graph.output))
    if not is_end and not _has_shape(known.get(name)) and _has_no_rank(found):
        raise InvalidArgument(
            f"The rank of value '{name}' is not declared and cannot be inferred: give it, as in "
            f"types={{'{name}': 'float32[?, 3]'}}"
        )
    if name in known and (_has_shape(known[name]) or found is None):
        info.type.CopyFrom(known[name])
        return info
    tensor = next((each for each in graph.initializer if each.name == name), None)
    if tensor is not None:
        info.type.tensor_type.elem_type = tensor.data_type
        info.type.tensor_type.shape.SetInParent()
        for size in tensor.dims:
            info.type.tensor_type.shape.dim.add(dim_value=size)
        return info
    if found is None:
        raise InvalidArgument(
            f"The type of value '{name}' is not declared and cannot be inferred: give it, as in "
            f"types={{'{name}': 'float32[batch, 3]'}}"
        )
    info.ClearField("type")
    write_type(found, info.type)
    return info
