# SPDX-License-Identifier: Apache-2.0
"""Two models joined into one: side by side, or one behind the other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from bascule.errors import InvalidArgument
from bascule.ir.check import normal_domain
from bascule.ir.deserialize import read_type
from bascule.ir.types import TensorType
from bascule.ir.walk import graphs_of
from bascule.tools.edit.change import Change, imports_of, remove_initializer
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import (
    all_names,
    fresh,
    initializer_names,
    node_names,
    rename_values,
    suggestion,
    training_graphs,
    walk_nodes,
)
from bascule.tools.edit.opsets import raise_opsets
from bascule.tools.edit.renaming import dim_names, rename_dims
from bascule.tools.edit.types import show

Pairs = Sequence[tuple[str, str]]
"""(output of the first model, input of the second)."""


@dataclass
class Joint:
    """How the second model is joined to the first.

    `pairs` are connected; None finds them. `prefix` comes before names of the second that the
    first has too, or with `prefix_all` before all. Outputs in `keep` stay, although connected.
    """

    chained: bool
    pairs: Pairs | None = None
    prefix: str = ""
    prefix_all: bool = False
    keep: frozenset[str] = field(default_factory=frozenset)


def join(document: Document, change: Change, other: Document, joint: Joint) -> None:
    """Add the model of `other` to that of `document`; see Editor.merge and Editor.chain."""
    first = document.proto
    second = document.adopt(other)
    part = Document(second, document.store)
    _raise_ir_version(first, second, change)
    targets = imports_of(first)
    for domain, version in imports_of(second).items():
        targets[domain] = max(version, targets.get(domain, 1))
    raise_opsets(document, change, targets)
    raise_opsets(part, change, targets)
    pairs = _pairs(first, second, joint) if joint.chained else []
    _join_dims(first, second, change, pairs, joint.prefix)
    _join_functions(first, second, change, joint.prefix)
    _join_names(first, second, change, pairs, joint)
    _join_graphs(first, second, pairs, joint)
    _join_rest(first, second, change, joint.prefix)
    for domain, version in targets.items():
        if domain not in imports_of(first):
            first.opset_import.add(domain=domain, version=version)
    change.changed.update(output for output, _ in pairs)


def default_prefix(other: Document, number: int) -> str:
    """A prefix that tells where a name came from."""
    stem = os.path.splitext(os.path.basename(other.path or ""))[0] or other.proto.graph.name
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', stem).strip('_') or f'model{number}'}_"


def _raise_ir_version(first: onnx.ModelProto, second: onnx.ModelProto, change: Change) -> None:
    version = max(first.ir_version, second.ir_version)
    for model in (first, second):
        if model.ir_version < 4 <= version:
            # Here these were constants; from version 4 on they would be inputs with a default.
            constants = set(initializer_names(model.graph))
            for index in range(len(model.graph.input) - 1, -1, -1):
                if model.graph.input[index].name in constants:
                    del model.graph.input[index]
        model.ir_version = version
    del change


# --- what is connected


def _pairs(first: onnx.ModelProto, second: onnx.ModelProto, joint: Joint) -> Pairs:
    outputs = {info.name: info for info in first.graph.output}
    inputs = {info.name: info for info in second.graph.input}
    constants = set(initializer_names(second.graph))
    if joint.pairs is not None:
        pairs = list(joint.pairs)
    else:
        pairs = [(name, name) for name in inputs if name in outputs]
        required = [name for name in inputs if name not in constants]
        if not pairs and len(outputs) == len(required):
            pairs = list(zip(outputs, required))
    if not pairs:
        raise InvalidArgument(
            f"Which outputs ({', '.join(outputs)}) go to which inputs ({', '.join(inputs)}) does "
            "not follow from names or order: say so by `connect`"
        )
    seen = set()
    for output, input in pairs:
        if output not in outputs:
            raise InvalidArgument(f"There is no output '{output}'{suggestion(output, outputs)}")
        if input not in inputs:
            raise InvalidArgument(f"There is no input '{input}'{suggestion(input, inputs)}")
        if input in seen:
            raise InvalidArgument(f"Two outputs go to input '{input}'")
        seen.add(input)
        _require_fit(outputs[output], inputs[input])
    return pairs


def _require_fit(output: onnx.ValueInfoProto, input: onnx.ValueInfoProto) -> None:
    made, taken = read_type(output.type), read_type(input.type)
    if made is None or taken is None:
        return
    fits = type(made) is type(taken)
    reason = ""
    if isinstance(made, TensorType) and isinstance(taken, TensorType):
        if made.dtype is not taken.dtype:
            fits, reason = False, ": insert a Cast"
        elif made.shape is not None and taken.shape is not None:
            sizes = list(zip(made.shape, taken.shape))
            fits = len(made.shape) == len(taken.shape) and all(
                a == b for a, b in sizes if isinstance(a, int) and isinstance(b, int)
            )
    elif fits:
        fits = made == taken
    if not fits:
        raise InvalidArgument(
            f"Output '{output.name}' is {show(made)}, and input '{input.name}' takes "
            f"{show(taken)}{reason}"
        )


# --- names


def _join_dims(
    first: onnx.ModelProto, second: onnx.ModelProto, change: Change, pairs: Pairs, prefix: str
) -> None:
    """Let sizes that are connected have one name, and all others different ones."""
    outputs = {info.name: info for info in first.graph.output}
    inputs = {info.name: info for info in second.graph.input}
    mapping: dict[str, int | str] = {}
    fixed: dict[str, int | str] = {}
    for output, input in pairs:
        made, taken = read_type(outputs[output].type), read_type(inputs[input].type)
        if not isinstance(made, TensorType) or not isinstance(taken, TensorType):
            continue
        for a, b in zip(made.shape or (), taken.shape or ()):
            if isinstance(b, str) and a is not None:
                if mapping.setdefault(b, a) != a:
                    change.note(f"size '{b}' is connected to '{mapping[b]}' and to '{a}'")
            elif isinstance(b, int) and isinstance(a, str):
                fixed.setdefault(a, b)
    mapping = {b: fixed.get(a, a) if isinstance(a, str) else a for b, a in mapping.items()}
    taken_names = dim_names(first) | dim_names(second)
    for name in sorted(dim_names(first) & dim_names(second)):
        if name not in mapping:
            mapping[name] = fresh(f"{prefix}{name}", taken_names)
            change.note(f"size '{name}' of the second model is called '{mapping[name]}'")
    rename_dims(second, mapping)
    rename_dims(first, fixed)
    for name, size in fixed.items():
        change.note(f"size '{name}' is {size}, as what it is connected to takes no other")


def _join_functions(
    first: onnx.ModelProto, second: onnx.ModelProto, change: Change, prefix: str
) -> None:
    known = {_key(function): function for function in first.functions}
    own = {_key(function): function for function in second.functions}
    for one, other, functions in ((first, second, own), (second, first, known)):
        for key in (_calls(one) & functions.keys()) - {_key(f) for f in one.functions}:
            which = "second" if other is second else "first"
            raise InvalidArgument(
                f"'{key[1]}' of domain '{key[0]}' is a function of the {which} model, and an "
                "operator that the other takes from elsewhere"
            )
    names = {key[1] for key in (*known, *own)}
    shared = known.keys() & own.keys()
    differing = {k for k in shared if known[k].SerializeToString() != own[k].SerializeToString()}
    while more := {k for k in shared - differing if _calls_of(own[k]) & differing}:
        differing |= more  # what it calls is another function
    for key in [key for key in own if key in differing]:
        new = fresh(f"{prefix}{key[1]}", names)
        change.note(f"function '{key[1]}' of the second model is called '{new}'")
        _rename_function(second, key, new)
    first.functions.extend(f for f in second.functions if _key(f) not in known)


def _key(function: onnx.FunctionProto) -> tuple[str, str, str]:
    return normal_domain(function.domain), function.name, function.overload


def _every_node(model: onnx.ModelProto) -> Iterable[onnx.NodeProto]:
    for root in (model.graph, *training_graphs(model)):
        yield from walk_nodes(root)
    for function in model.functions:
        yield from _nodes_of(function)


def _nodes_of(function: onnx.FunctionProto) -> Iterable[onnx.NodeProto]:
    for node in function.node:
        yield node
        for inner in graphs_of(node):
            yield from walk_nodes(inner)


def _called(node: onnx.NodeProto) -> tuple[str, str, str]:
    return normal_domain(node.domain), node.op_type, node.overload


def _calls(model: onnx.ModelProto) -> set[tuple[str, str, str]]:
    return {_called(node) for node in _every_node(model)}


def _calls_of(function: onnx.FunctionProto) -> set[tuple[str, str, str]]:
    return {_called(node) for node in _nodes_of(function)}


def _rename_function(model: onnx.ModelProto, key: tuple[str, str, str], new: str) -> None:
    for node in _every_node(model):
        if _called(node) == key:
            node.op_type = new
    for function in model.functions:
        if _key(function) == key:
            function.name = new


def _join_names(
    first: onnx.ModelProto, second: onnx.ModelProto, change: Change, pairs: Pairs, joint: Joint
) -> None:
    """Make names of the second differ from those of the first, but for what is connected."""
    connected = {input: output for output, input in pairs}
    _keep_passed_through(second, connected)
    values, known = all_names(second), all_names(first)
    taken = values | known
    ends = {info.name for info in (*second.graph.input, *second.graph.output)}
    mapping = dict(connected)
    for name in sorted(values - connected.keys()):
        if joint.prefix_all or name in known:
            mapping[name] = fresh(f"{joint.prefix}{name}", taken)
            if name in ends:
                change.note(f"'{name}' of the second model is called '{mapping[name]}'")
    for name in connected:
        if name in initializer_names(second.graph):
            remove_initializer(second.graph, name)
    for graph in (second.graph, *training_graphs(second)):
        rename_values(graph, mapping, everywhere=True)
    for info in second.training_info:
        for binding in (*info.initialization_binding, *info.update_binding):
            binding.key = mapping.get(binding.key, binding.key)
            binding.value = mapping.get(binding.value, binding.value)
    known_nodes = node_names(first)
    taken_nodes = known_nodes | node_names(second)
    for node in walk_nodes(second.graph):
        if node.name and (joint.prefix_all or node.name in known_nodes):
            node.name = fresh(f"{joint.prefix}{node.name}", taken_nodes)


def _keep_passed_through(second: onnx.ModelProto, connected: Mapping[str, str]) -> None:
    """Give an output that is a connected input a node, so that it keeps its name."""
    graph = second.graph
    names = all_names(second)
    for info in graph.output:
        if info.name in connected:
            source = info.name
            node = graph.node.add(op_type="Identity", name=fresh(f"Identity_{source}", names))
            node.input.append(source)
            info.name = fresh(f"{source}_output", names)
            node.output.append(info.name)


# --- graphs


def _join_graphs(
    first: onnx.ModelProto, second: onnx.ModelProto, pairs: Pairs, joint: Joint
) -> None:
    graph, more = first.graph, second.graph
    connected = {output for output, _ in pairs}
    gone = connected - joint.keep
    stated = {info.name for info in graph.value_info}
    given = {info.name for info in graph.input}
    kept: list[onnx.ValueInfoProto] = []
    left_out: list[onnx.ValueInfoProto] = []
    for info in graph.output:
        copy = onnx.ValueInfoProto.FromString(info.SerializeToString())
        (left_out if info.name in gone else kept).append(copy)
    graph.value_info.extend(
        info for info in left_out if info.name not in stated and info.name not in given
    )
    del graph.output[:]
    graph.output.extend([*more.output, *kept] if joint.chained else [*kept, *more.output])
    graph.input.extend(info for info in more.input if info.name not in connected)
    graph.node.extend(more.node)
    graph.initializer.extend(more.initializer)
    graph.sparse_initializer.extend(more.sparse_initializer)
    graph.value_info.extend(more.value_info)
    graph.quantization_annotation.extend(more.quantization_annotation)
    _join_metadata(graph, more, joint.prefix)
    _join_unknown(graph, more)
    graph.doc_string = _joined_text(graph.doc_string, more.doc_string)


def _join_rest(
    first: onnx.ModelProto, second: onnx.ModelProto, change: Change, prefix: str
) -> None:
    for key in _join_metadata(first, second, prefix):
        change.note(f"metadata '{key}' of the second model is called '{prefix}{key}'")
    first.doc_string = _joined_text(first.doc_string, second.doc_string)
    first.training_info.extend(second.training_info)
    _join_unknown(first, second)
    if "configuration" in first.DESCRIPTOR.fields_by_name:
        names = {each.name for each in first.configuration}
        first.configuration.extend(e for e in second.configuration if e.name not in names)


def _join_unknown(first: Any, second: Any) -> None:
    """Take over fields of later versions of ONNX."""
    rest = type(second)()
    rest.CopyFrom(second)
    for known in second.DESCRIPTOR.fields:
        rest.ClearField(known.name)
    first.MergeFrom(rest)


def _join_metadata(
    first: onnx.ModelProto | onnx.GraphProto, second: onnx.ModelProto | onnx.GraphProto, prefix: str
) -> list[str]:
    """Take over entries; the keys of those that the first has with another value."""
    known = {entry.key: entry.value for entry in first.metadata_props}
    differing = []
    for entry in second.metadata_props:
        if entry.key not in known:
            first.metadata_props.add(key=entry.key, value=entry.value)
        elif known[entry.key] != entry.value:
            first.metadata_props.add(key=f"{prefix}{entry.key}", value=entry.value)
            differing.append(entry.key)
    return differing


def _joined_text(first: str, second: str) -> str:
    return "\n\n".join(dict.fromkeys(text for text in (first, second) if text))
