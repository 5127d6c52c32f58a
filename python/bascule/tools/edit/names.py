# SPDX-License-Identifier: Apache-2.0
"""Names in a model: who defines and who reads a value, finding things by name, and renaming.

A nested graph sees the values of the graphs around it, and so do the two graphs of a training_info
those of the model's graph.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import onnx

from bascule.errors import InvalidArgument, InvalidProtobuf
from bascule.ir.check import normal_domain, require_text
from bascule.ir.walk import graphs_in, graphs_of


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node, if it is one that has a tensor."""
    if node.op_type == "Constant" and not node.domain and len(node.attribute) == 1:
        return node.attribute[0].t if node.attribute[0].name == "value" else None
    return None


def walk_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of nested graphs after the node that holds them."""
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from walk_nodes(inner)


def training_graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The graphs of training_info, which read values of the model's graph."""
    return [g for info in model.training_info for g in (info.initialization, info.algorithm)]


def initializer_names(graph: onnx.GraphProto) -> list[str]:
    """The names of constants, sparse ones included."""
    sparse = [each.values.name for each in graph.sparse_initializer]
    return [each.name for each in graph.initializer] + sparse


def defined(graph: onnx.GraphProto) -> set[str]:
    """The values that a graph defines itself."""
    found = {each.name for each in graph.input}
    found.update(initializer_names(graph))
    for node in graph.node:
        found.update(node.output)
    found.discard("")
    return found


def reads(node: onnx.NodeProto) -> list[str]:
    """What a node reads, by its nested graphs as well, each once."""
    found = dict.fromkeys(name for name in node.input if name)
    for graph in graphs_of(node):
        found.update(dict.fromkeys(captured(graph)))
    return list(found)


def captured(graph: onnx.GraphProto) -> list[str]:
    """What a graph reads of those around it."""
    own = defined(graph)
    found = dict.fromkeys(name for node in graph.node for name in reads(node))
    found.update(dict.fromkeys(each.name for each in graph.output))
    return [name for name in found if name and name not in own]


def all_names(model: onnx.ModelProto) -> set[str]:
    """Every name of a value, wherever it stands outside of functions."""
    found: set[str] = set()
    for root in (model.graph, *training_graphs(model)):
        for graph in graphs_in(root):
            found |= defined(graph)
            found.update(name for node in graph.node for name in node.input)
            found.update(each.name for each in graph.output)
    found.discard("")
    return found


def node_names(model: onnx.ModelProto) -> set[str]:
    """The names of all nodes."""
    return {node.name for node in walk_nodes(model.graph) if node.name}


def fresh(hint: str, taken: set[str]) -> str:
    """`hint`, or a name like it, that is not taken; it is then."""
    name, count = hint, 0
    while name in taken:
        count += 1
        name = f"{hint}_{count}"
    taken.add(name)
    return name


def producers(graph: onnx.GraphProto) -> dict[str, int]:
    """The number of the node that makes each value."""
    return {name: i for i, node in enumerate(graph.node) for name in node.output if name}


def require_texts(model: onnx.ModelProto) -> None:
    """Refuse names that are no text.

    Raises:
        InvalidProtobuf: there is one.
    """
    roots = [model.graph, *training_graphs(model)]
    try:
        for graph in (graph for root in roots for graph in graphs_in(root)):
            infos = (*graph.input, *graph.output, *graph.value_info)
            require_text(*(info.name for info in infos), *initializer_names(graph))
            for node in graph.node:
                _require_node_text(node)
        for function in model.functions:
            require_text(function.name, function.domain, function.overload)
            for node in function.node:
                _require_node_text(node)
        require_text(*(each.domain for each in model.opset_import))
    except UnicodeDecodeError:
        raise InvalidProtobuf("Protobuf parsing failed. A text is not UTF-8.") from None


def _require_node_text(node: onnx.NodeProto) -> None:
    require_text(node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
    require_text(*(attribute.name for attribute in node.attribute))


# --- finding


class Found(NamedTuple):
    """A node, where it is."""

    graph: onnx.GraphProto
    place: int

    @property
    def node(self) -> onnx.NodeProto:
        return self.graph.node[self.place]


def find_node(model: onnx.ModelProto, reference: str) -> Found:
    """The node of a name, or the one that makes the value of this name.

    Raises:
        InvalidArgument: there is none, or several have the name.
    """
    named: list[Found] = []
    made: list[Found] = []
    for graph in graphs_in(model.graph):
        for index, node in enumerate(graph.node):
            if reference and node.name == reference:
                named.append(Found(graph, index))
            elif reference and reference in node.output:
                made.append(Found(graph, index))
    found = named or made
    if len(found) == 1:
        return found[0]
    if found:
        outputs = ", ".join(f"'{each.node.output[0]}'" for each in found if each.node.output)
        raise InvalidArgument(
            f"{len(found)} nodes are called '{reference}': name one by what it makes: {outputs}"
        )
    known = node_names(model) | {n for node in walk_nodes(model.graph) for n in node.output}
    raise InvalidArgument(f"There is no node '{reference}'{suggestion(reference, known)}")


def find_value(model: onnx.ModelProto, name: str) -> onnx.GraphProto:
    """The graph that defines a value: the outermost.

    Raises:
        InvalidArgument: there is none, or several nested graphs have one of this name.
    """
    homes = [graph for graph in graphs_in(model.graph) if name and name in defined(graph)]
    if homes and (len(homes) == 1 or homes[0] is model.graph):
        return homes[0]
    if homes:
        raise InvalidArgument(f"{len(homes)} nested graphs have a value '{name}': rename one first")
    raise InvalidArgument(f"There is no value '{name}'{suggestion(name, all_names(model))}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    close = difflib.get_close_matches(name, [each for each in known if each], 3)
    return f"; did you mean {' or '.join(repr(each) for each in close)}?" if close else ""


def label(node: onnx.NodeProto) -> str:
    """What a node is called in messages."""
    name = node.name or (node.output[0] if node.output else "")
    domain = normal_domain(node.domain)
    return f"{domain + '.' if domain else ''}{node.op_type} node '{name}'"


# --- renaming


def rename_value(model: onnx.ModelProto, graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value that `graph`, of this model, defines; `new` must be free."""
    rename_values(graph, {old: new})
    if graph is model.graph:
        rename_in_training(model, {old: new})


def rename_values(
    graph: onnx.GraphProto, mapping: dict[str, str], everywhere: bool = False
) -> None:
    """Rename values wherever a graph and those nested in it read them.

    A nested graph that defines a value of the same name is left out, unless this is to happen
    `everywhere`.
    """
    for info in (*graph.input, *graph.output, *graph.value_info):
        info.name = mapping.get(info.name, info.name)
    for tensor in graph.initializer:
        tensor.name = mapping.get(tensor.name, tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = mapping.get(sparse.values.name, sparse.values.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = mapping.get(annotation.tensor_name, annotation.tensor_name)
        for entry in annotation.quant_parameter_tensor_names:
            entry.value = mapping.get(entry.value, entry.value)
    for node in graph.node:
        replace_names(node.input, mapping)
        replace_names(node.output, mapping)
        for configuration in getattr(node, "device_configurations", ()):
            for spec in configuration.sharding_spec:
                spec.tensor_name = mapping.get(spec.tensor_name, spec.tensor_name)
        for inner in graphs_of(node):
            hidden = set() if everywhere else defined(inner) & mapping.keys()
            visible = {k: v for k, v in mapping.items() if k not in hidden} if hidden else mapping
            if visible:
                rename_values(inner, visible, everywhere)


def replace_names(names: Any, mapping: dict[str, str]) -> None:
    """Rename in a repeated field of names."""
    for index, name in enumerate(names):
        if name in mapping:
            names[index] = mapping[name]


def rename_in_training(model: onnx.ModelProto, mapping: dict[str, str]) -> None:
    """Rename values of the model's graph where training_info names them."""
    for info in model.training_info:
        for graph, bindings in (
            (info.initialization, info.initialization_binding),
            (info.algorithm, info.update_binding),
        ):
            own = defined(graph)
            visible = {k: v for k, v in mapping.items() if k not in own}
            rename_values(graph, visible)
            for binding in bindings:
                binding.key = mapping.get(binding.key, binding.key)
                if binding.value not in own:
                    binding.value = mapping.get(binding.value, binding.value)


def redirect(graph: onnx.GraphProto, old: str, new: str, skip: Iterable[int] = ()) -> list[str]:
    """Let the nodes of a graph, those nested in it included, read `new` where they read `old`.

    Nodes whose index is in `skip` are left out. Returns the labels of those that do.
    """
    found = []
    skipped = set(skip)
    for index, node in enumerate(graph.node):
        if index not in skipped and old in reads(node):
            redirect_node(node, old, new)
            found.append(label(node))
    return found


def redirect_node(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let one node read `new` where it reads `old`."""
    replace_names(node.input, {old: new})
    for inner in graphs_of(node):
        if old in defined(inner):
            continue
        for each in inner.node:
            redirect_node(each, old, new)
        for info in inner.output:
            if info.name == old:
                info.name = new


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put nodes behind what they read, if they are not; the order stays where it may.

    Raises:
        InvalidArgument: the nodes are on a cycle.
    """
    made = producers(graph)
    waits = [{made[n] for n in reads(node) if n in made} for node in graph.node]
    if all(source < index for index, sources in enumerate(waits) for source in sources):
        return
    order: list[int] = []
    state = [0] * len(waits)
    for root in range(len(waits)):
        stack = [(root, iter(sorted(waits[root])))] if not state[root] else []
        state[root] = state[root] or 1
        while stack:
            index, rest = stack[-1]
            following = next((i for i in rest if state[i] != 2), None)
            if following is None:
                state[index] = 2
                order.append(index)
                stack.pop()
            elif state[following] == 1:
                raise InvalidArgument(f"{label(graph.node[following])} would read its own result")
            else:
                state[following] = 1
                stack.append((following, iter(sorted(waits[following]))))
    copies = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(copies)
