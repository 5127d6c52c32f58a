# SPDX-License-Identifier: Apache-2.0
"""What an edit did, and what several kinds of edit do on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx

from bascule.errors import InvalidArgument
from bascule.ir import check
from bascule.ir.types import Type
from bascule.ir.walk import graphs_in
from bascule.tools.edit.names import (
    all_names,
    captured,
    defined,
    initializer_names,
    producers,
    reads,
    redirect,
    redirect_node,
    training_graphs,
)


@dataclass
class Change:
    """An edit under way."""

    title: str
    notes: list[str] = field(default_factory=list)
    """What was done besides what was asked for, and what needs a look."""
    changed: set[str] = field(default_factory=set)
    """Values whose type may be another than before."""
    unsure: bool = False
    """Whether declared sizes hold only where they are proven."""
    same_nodes: bool = False
    """Whether all nodes are as before, so that onnx's inference only knows more about them."""
    facts: dict[str, Type] = field(default_factory=dict)
    """Types that are known beside what inference finds."""

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def imports_of(model: onnx.ModelProto) -> dict[str, int]:
    """The opset of each domain."""
    if not model.opset_import:  # as in the first versions of the IR
        return {"": 1}
    return {check.normal_domain(each.domain): each.version for each in model.opset_import}


def require_import(model: onnx.ModelProto, change: Change, domain: str) -> int:
    """The opset of a domain, which is imported if it is not yet."""
    imports = imports_of(model)
    domain = check.normal_domain(domain)
    if domain in imports:
        return imports[domain]
    version = check.newest_opsets().get(domain, 1)
    model.opset_import.add(domain=domain, version=version)
    change.note(f"opset {version} of domain '{domain}' is imported")
    return version


def require_free(model: onnx.ModelProto, name: str) -> None:
    """Refuse a name that a value has.

    Raises:
        InvalidArgument: it is taken, or empty.
    """
    if not name:
        raise InvalidArgument("A value needs a name")
    if name in all_names(model):
        raise InvalidArgument(f"There is a value '{name}' already")


def is_read(model: onnx.ModelProto, graph: onnx.GraphProto, name: str) -> bool:
    """Whether anything reads a value of `graph`, or it is an output."""
    if any(info.name == name for info in graph.output):
        return True
    if any(name in reads(node) for node in graph.node):
        return True
    return graph is model.graph and any(name in captured(g) for g in training_graphs(model))


def redirect_all(
    model: onnx.ModelProto, graph: onnx.GraphProto, old: str, new: str, skip: Iterable[int] = ()
) -> list[str]:
    """Let all nodes that read `old`, a value of `graph`, read `new`; their labels."""
    found = redirect(graph, old, new, skip)
    if graph is model.graph:
        for training in training_graphs(model):
            if old not in defined(training):
                for node in training.node:
                    redirect_node(node, old, new)
                for info in training.output:
                    if info.name == old:
                        info.name = new
    return found


def prune(model: onnx.ModelProto, change: Change, names: Iterable[str]) -> None:
    """Remove what an edit left without a reader: constants, and nodes that made these values.

    `names` are the values that lost a reader; what nothing read before stays.
    """
    pending = list(names)
    while pending:
        name = pending.pop()
        home = next((g for g in graphs_in(model.graph) if name and name in defined(g)), None)
        if home is None or is_read(model, home, name):
            continue
        if any(info.name == name for info in home.input):
            continue
        if name in initializer_names(home):
            remove_initializer(home, name)
            change.note(f"initializer '{name}', which nothing reads any more, was removed")
            continue
        index = producers(home)[name]
        node = home.node[index]
        if any(is_read(model, home, each) for each in node.output if each):
            continue
        pending.extend(reads(node))
        change.note(f"{node.op_type} '{name}', which nothing reads any more, was removed")
        forget(home, node.output)
        del home.node[index]


def remove_initializer(graph: onnx.GraphProto, name: str) -> None:
    """Take a constant out of a graph, dense or sparse."""
    for index, tensor in enumerate(graph.initializer):
        if tensor.name == name:
            del graph.initializer[index]
            break
    for index, sparse in enumerate(graph.sparse_initializer):
        if sparse.values.name == name:
            del graph.sparse_initializer[index]
            break
    forget(graph, [name])


def forget(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Remove what a graph says of values that are no longer there."""
    gone = set(names)
    for index in range(len(graph.value_info) - 1, -1, -1):
        if graph.value_info[index].name in gone:
            del graph.value_info[index]
    for index in range(len(graph.quantization_annotation) - 1, -1, -1):
        annotation = graph.quantization_annotation[index]
        named = {entry.value for entry in annotation.quant_parameter_tensor_names}
        if annotation.tensor_name in gone or named & gone:
            del graph.quantization_annotation[index]
