# SPDX-License-Identifier: Apache-2.0
"""A model in another opset of the standard: node by node, so that all the rest stays as it is.

A node whose operator is the same in both opsets is not touched. One that differs in types or in
attributes at their defaults only is relabeled. For others there are, in this order: onnx's version
converter, on a model of this one node; moving constants between inputs and attributes of the same
name; the function by which the standard defines the operator; and, upwards, bascule's own rewriting
to the newest form. Opsets of other domains are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bascule.errors import ALL, Fail, InvalidArgument
from bascule.ir.check import newest_opsets
from bascule.ir.constant import Constant
from bascule.ir.graph import Model
from bascule.ir.serialize import write_type
from bascule.ir.source_trace import source_of
from bascule.ir.types import Type
from bascule.ir.walk import graphs_in, graphs_of
from bascule.tools.check.words import plain
from bascule.tools.convert.document import ONNX_DOMAINS, Document, weights_of
from bascule.tools.convert.nodes import (
    expand_by_function,
    expand_by_newest_form,
    expand_by_onnx,
    inline,
)
from bascule.tools.convert.relabel import (
    Array,
    count_axes_from_front,
    last_axis_softmax,
    move_constants,
    plain_constant,
    relabel,
    schema_of,
)

OLDEST = 7
"""Before it, operators broadcast by an attribute."""

_AXES_FROM_BACK = 11
"""The opset from which on axes may be counted from the last one."""

_DEPTH = 12
_MAX_CONSTANT = 4096
"""Elements of a constant that an adapter may look at."""


@dataclass
class OpsetChange:
    """What was done to bring a model to another opset."""

    before: int
    """The opset that the model had."""
    after: int
    """The opset that it has now."""
    changed: int = 0
    """Nodes that were replaced, attributes and operators."""
    nodes_before: int = 0
    """Nodes that the model had, nested graphs included."""
    nodes_after: int = 0
    """Nodes that it has now, nested graphs included."""
    inlined: int = 0
    """Functions of the model whose calls were replaced by what they do."""
    checked: str = ""
    """How outputs on the feeds compare: ``same bits``, ``within rounding``; or why not checked."""


def convert_opset(document: Document, version: int) -> tuple[Document, OpsetChange]:
    """A copy of a model in opset `version` of the standard's domain.

    Raises:
        InvalidArgument: there is no such opset.
        Fail: a node cannot be said in it; the message names the node.
    """
    newest = newest_opsets()[""]
    if not OLDEST <= version <= newest:
        raise InvalidArgument(f"opset is {version}; expected {OLDEST} to {newest}")
    before = document.opset
    change = OpsetChange(before, version)
    if before in (0, version):
        return document, change
    document, change.inlined = inline(document)
    work = document.copy()
    change.nodes_before = sum(len(graph.node) for graph in graphs_in(work.proto.graph))
    _Conversion(work, before, version, change).run()
    change.nodes_after = sum(len(graph.node) for graph in graphs_in(work.proto.graph))
    for each in work.proto.opset_import:
        if each.domain in ONNX_DOMAINS:
            each.version = version
    needed = helper.find_min_ir_version_for([helper.make_opsetid("", version)])
    upwards = version > before
    work.proto.ir_version = max(work.proto.ir_version if upwards else 4, needed)
    return work, change


class Holder(Protocol):
    """A message whose tensors may be elsewhere."""

    proto: onnx.ModelProto

    def model(self) -> Model: ...

    def constant(self, tensor: onnx.TensorProto) -> Constant: ...


def convert_nodes(document: Holder, before: int, after: int) -> int:
    """Bring the nodes of a model, but for those of functions, to another opset; returns how many.

    Raises:
        Fail: a node cannot be said in it; the message names the node.
    """
    change = OpsetChange(before, after)
    _Conversion(document, before, after, change).run()
    return change.changed


_WRONG_DOWNWARDS = ("Softmax", "LogSoftmax", "Hardmax")
"""It changes the opset and leaves an axis that is not the last."""


class _Conversion:
    def __init__(self, document: Holder, before: int, after: int, change: OpsetChange) -> None:
        self._document = document
        self._before, self._after = before, after
        self._change = change
        model = document.model()
        self._types = _types_of(model)
        self._sources = {
            node.output.name: source_of(node) for node in model.graph.walk_nodes() if node.outputs
        }
        self._constants = {
            name: tensor
            for name, tensor in weights_of(document.proto).items()
            if np.prod(tensor.dims, dtype=object) <= _MAX_CONSTANT
        }
        graphs = list(graphs_in(document.proto.graph))
        for node in (node for graph in graphs for node in graph.node):
            plain_form = plain_constant(node, None)
            if plain_form is not None:
                self._constants[node.output[0]] = plain_form.attribute[0].t
        self._taken = {
            name
            for graph in graphs
            for names in (
                *(each.output for each in graph.node),
                [each.name for each in (*graph.input, *graph.initializer)],
            )
            for name in names
        }

        self._node_names = {node.name for graph in graphs for node in graph.node}

    def run(self) -> None:
        self._graph(self._document.proto.graph, self._before)

    def _graph(self, graph: onnx.GraphProto, version: int) -> None:
        made: list[onnx.NodeProto] = []
        for node in graph.node:
            for inner in graphs_of(node):
                self._graph(inner, version)
            if node.domain not in ONNX_DOMAINS:
                made.append(node)
                continue
            found = self._node(node, version, 0)
            if self._after < _AXES_FROM_BACK <= version:
                for each in found:
                    if not count_axes_from_front(each, self._types):
                        raise self._failure(node, "the rank from whose end it counts is not known")
            if found != [node]:
                self._change.changed += 1
                _inherit(found, node, self._node_names)
            made += found
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in made]
        del graph.node[:]
        graph.node.extend(copies)

    def _node(self, node: onnx.NodeProto, version: int, depth: int) -> list[onnx.NodeProto]:
        """The nodes, in the opset wanted, that do what `node` of opset `version` does."""
        old = schema_of(node, version)
        if old is None or node.domain not in ONNX_DOMAINS:  # no operator of the standard
            return [node]
        new = schema_of(node, self._after)
        if new is not None and new.since_version == old.since_version:
            return [node]
        if depth > _DEPTH:
            raise self._failure(node, "what stands for it never ends")
        if new is not None:
            found = relabel(node, old, new, self._types, self._constants)
            found = found or plain_constant(node, new)
            found = found or last_axis_softmax(node, old, new, self._types)
            if found is not None:
                return [found]
        if any(graphs_of(node)):
            raise self._failure(node, "it holds graphs, and differs")
        return self._other_ways(node, version, old, new, depth)

    def _other_ways(
        self,
        node: onnx.NodeProto,
        version: int,
        old: onnx.defs.OpSchema,
        new: onnx.defs.OpSchema | None,
        depth: int,
    ) -> list[onnx.NodeProto]:
        reasons = []
        single = self._alone(node, version)
        try:
            if self._after < version and node.op_type in _WRONG_DOWNWARDS:
                raise ValueError("onnx's version converter gets it wrong")
            nodes = expand_by_onnx(single, self._after)
            if all(self._is_sound(each) for each in nodes):
                return self._spliced(nodes, node, single, self._after, depth)
        except ValueError as error:
            reasons.append(str(error) if new is not None else self._no_such())
        moved = new and move_constants(node, old, new, self._constants, self._types)
        if new is not None and moved:
            node_moved, added = moved
            found = relabel(node_moved, old, new, self._types, self._constants, moved=True)
            if found is not None:
                return [*self._constant_nodes(added, found), found]
        try:
            expanded = expand_by_function(single)
        except (*ALL, RuntimeError, ValueError) as error:
            raise self._failure(node, "; ".join([*reasons, plain(error)])) from None
        if expanded is not None:
            proto, body_version = expanded
            return self._spliced(list(proto.graph.node), node, proto, body_version, depth)
        if self._after > version:
            proto, newest = expand_by_newest_form(single)
            return self._spliced(list(proto.graph.node), node, proto, newest, depth)
        raise self._failure(node, "; ".join(reasons) or self._no_such())

    def _no_such(self) -> str:
        return f"opset {self._after} has no such operator"

    def _is_sound(self, node: onnx.NodeProto) -> bool:
        """Whether a node that an adapter made is one of the opset wanted."""
        schema = schema_of(node, self._after)
        if schema is None or len(node.input) > schema.max_input:
            return False
        return all(attribute.name in schema.attributes for attribute in node.attribute)

    def _alone(self, node: onnx.NodeProto, version: int) -> onnx.ModelProto:
        """A model of one node, its small constants inside."""
        graph = onnx.GraphProto(name="one")
        copy = graph.node.add()
        copy.CopyFrom(node)
        for name in dict.fromkeys(node.input):
            tensor = self._constants.get(name)
            if tensor is not None:
                inside = numpy_helper.from_array(self._array(tensor), name)
                graph.initializer.append(inside)
            elif name:
                _declare(graph.input.add(), name, self._types.get(name))
        for name in node.output:
            if name:
                _declare(graph.output.add(), name, self._types.get(name))
        imports = [helper.make_opsetid("", version)]
        needed = helper.find_min_ir_version_for(imports)
        return helper.make_model(graph, opset_imports=imports, ir_version=max(needed, 8))

    def _array(self, tensor: onnx.TensorProto) -> Array:
        return self._document.constant(tensor).numpy()

    def _spliced(
        self,
        nodes: Sequence[onnx.NodeProto],
        node: onnx.NodeProto,
        proto: onnx.ModelProto,
        version: int,
        depth: int,
    ) -> list[onnx.NodeProto]:
        """Nodes of a model of one node, under names that are free, and what stands for them."""
        kept = {*node.input, *node.output}
        names: dict[str, str] = {}
        for each in nodes:
            for name in each.output:
                if name and name not in kept:
                    names[name] = self._unique(f"{node.output[0]}_{name.rpartition('/')[2]}")
        self._learn(proto, names)
        made: list[onnx.NodeProto] = []
        for each in nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(each)
            _rename(copy, names)
            for inner in graphs_of(copy):
                self._graph(inner, version)
            if copy.op_type == "Constant":
                for attribute in copy.attribute:
                    if attribute.name == "value":
                        self._constants[copy.output[0]] = attribute.t
            made += self._node(copy, version, depth + 1)
        return made

    def _learn(self, proto: onnx.ModelProto, names: dict[str, str]) -> None:
        """The types of the values that took the place of a node."""
        try:
            inferred = onnx.shape_inference.infer_shapes(proto)
            types = _types_of(Document(inferred).model())
        except (*ALL, RuntimeError, ValueError):
            return
        for name, type_ in types.items():
            if name in names:
                self._types[names[name]] = type_

    def _constant_nodes(
        self,
        added: dict[str, Array],
        node: onnx.NodeProto,
    ) -> list[onnx.NodeProto]:
        """A Constant node for each new input of `node`, in place of its name."""
        made = []
        for name, array in added.items():
            free = self._unique(f"{node.output[0]}_{name}")
            for i, each in enumerate(node.input):
                if each == name:
                    node.input[i] = free
            value = numpy_helper.from_array(array, free)
            made.append(helper.make_node("Constant", [], [free], name=free, value=value))
        return made

    def _unique(self, name: str) -> str:
        return _unique(name, self._taken)

    def _failure(self, node: onnx.NodeProto, why: str) -> Fail:
        key = next((name for name in node.output if name), node.name)
        return Fail(
            f"Node '{node.name or key}' cannot be said in opset {self._after}: {why}",
            op=node.op_type,
            source=self._sources.get(key, ""),
        )


def _unique(name: str, taken: set[str]) -> str:
    """A name that is not taken yet, and is then."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Other names for values, those that nested graphs read included."""
    for field in (node.input, node.output):
        for i, name in enumerate(field):
            field[i] = names.get(name, name)
    for graph in graphs_of(node):
        for inner in graph.node:
            _rename(inner, names)
        for value in graph.output:
            value.name = names.get(value.name, value.name)


def _inherit(made: Iterable[onnx.NodeProto], node: onnx.NodeProto, taken: set[str]) -> None:
    """Let the nodes that stand for another have its documentation, and one of them its name.

    That is the one with the same operator, or else the one that makes what it made.
    """
    made = list(made)
    makes = next((each for each in made if node.output[0] in each.output), made[-1])
    main = next((each for each in reversed(made) if each.op_type == node.op_type), makes)
    for each in made:
        if each is main:
            each.name = node.name
        elif node.name and each.name in ("", node.name):
            each.name = _unique(f"{node.name}_{each.op_type}", taken)
        if not each.doc_string and node.doc_string:
            each.doc_string = node.doc_string
        if not each.metadata_props:
            each.metadata_props.extend(node.metadata_props)


def _declare(info: onnx.ValueInfoProto, name: str, type_: Type | None) -> None:
    info.name = name
    if type_ is not None:
        write_type(type_, info.type)


def _types_of(model: Model) -> dict[str, Type]:
    # Imported here: it imports onnx.
    from bascule.ir.infer import infer_types

    infer_types(model, check=False)
    found: dict[str, Type] = {}
    for graph in model.graph.walk_graphs():
        values = [*graph.inputs, *graph.initializers.values()]
        for value in (*values, *(v for node in graph for v in node.outputs)):
            if value.type is not None:
                found[value.name] = value.type
    return found
