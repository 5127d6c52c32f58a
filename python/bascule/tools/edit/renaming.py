# SPDX-License-Identifier: Apache-2.0
"""Renaming values, nodes and sizes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from bascule.errors import InvalidArgument
from bascule.ir.walk import graphs_in
from bascule.tools.edit.change import Change
from bascule.tools.edit.names import (
    all_names,
    find_node,
    find_value,
    initializer_names,
    node_names,
    rename_in_training,
    rename_values,
    suggestion,
    walk_nodes,
)

KINDS = ("value", "input", "output", "initializer", "node", "dim")


def rename(
    model: onnx.ModelProto, change: Change, names: Mapping[str, str], kind: str | None
) -> None:
    """Rename several things at once, so that names may be exchanged; see Editor.rename."""
    if kind is not None and kind not in KINDS:
        raise InvalidArgument(f"'{kind}' is nothing to rename; there are {', '.join(KINDS)}")
    values: dict[str, str] = {}
    nodes: dict[str, str] = {}
    dims: dict[str, str] = {}
    for old, new in names.items():
        if not new:
            raise InvalidArgument(f"'{old}' needs a name")
        found = _kinds(model, old)
        wanted = _choose(model, old, found, kind)
        {"value": values, "node": nodes, "dim": dims}[wanted][old] = new
    _require_distinct(values, all_names(model), "value")
    _require_distinct(nodes, node_names(model), "node")
    _require_distinct(dims, dim_names(model), "size")
    by_graph: dict[int, tuple[onnx.GraphProto, dict[str, str]]] = {}
    for old, new in values.items():
        graph = find_value(model, old)
        by_graph.setdefault(id(graph), (graph, {}))[1][old] = new
    for graph, mapping in by_graph.values():
        rename_values(graph, mapping)
        if graph is model.graph:
            rename_in_training(model, mapping)
    for node in walk_nodes(model.graph):
        node.name = nodes.get(node.name, node.name)
    rename_dims(model, dims)
    del change  # nothing but names is another


def _kinds(model: onnx.ModelProto, name: str) -> set[str]:
    found = set()
    if name in all_names(model):
        found.add("value")
    if name in node_names(model):
        found.add("node")
    if name in dim_names(model):
        found.add("dim")
    return found


def _choose(model: onnx.ModelProto, name: str, found: set[str], kind: str | None) -> str:
    if kind is None:
        if len(found) == 1:
            return next(iter(found))
        if not found:
            known = all_names(model) | node_names(model) | dim_names(model)
            raise InvalidArgument(f"Nothing is called '{name}'{suggestion(name, known)}")
        raise InvalidArgument(
            f"'{name}' is the name of a {' and of a '.join(sorted(found))}: say which by `kind`"
        )
    graph = model.graph
    known = {
        "node": node_names(model),
        "dim": dim_names(model),
        "value": all_names(model),
        "input": {info.name for info in graph.input},
        "output": {info.name for info in graph.output},
        "initializer": set(initializer_names(graph)),
    }[kind]
    if name not in known:
        raise InvalidArgument(f"There is no {kind} '{name}'{suggestion(name, known)}")
    if kind == "node":
        find_node(model, name)  # refuses a name that several have
    return kind if kind in ("node", "dim") else "value"


def _require_distinct(mapping: Mapping[str, str], taken: set[str], what: str) -> None:
    free = taken - mapping.keys()
    for old, new in mapping.items():
        if new in free or list(mapping.values()).count(new) > 1:
            raise InvalidArgument(f"'{old}' cannot be called '{new}': there is such a {what}")


def dim_names(model: onnx.ModelProto) -> set[str]:
    """The names of sizes."""
    return {
        dim.dim_param
        for graph in graphs_in(model.graph)
        for info in (*graph.input, *graph.output, *graph.value_info)
        for shape in shapes(info.type)
        for dim in shape.dim
        if dim.dim_param
    }


def rename_dims(model: onnx.ModelProto, mapping: Mapping[str, str | int]) -> None:
    """Give named sizes another name, a number, or nothing ("") wherever they stand."""
    if not mapping:
        return
    for graph in graphs_in(model.graph):
        for info in (*graph.input, *graph.output, *graph.value_info):
            for shape in shapes(info.type):
                for dim in shape.dim:
                    if dim.dim_param in mapping:
                        new = mapping[dim.dim_param]
                        if new == "":
                            dim.ClearField("dim_param")
                        elif isinstance(new, int):
                            dim.dim_value = new
                        else:
                            dim.dim_param = new


def shapes(type: onnx.TypeProto) -> list[onnx.TensorShapeProto]:
    """The shapes in a type."""
    kind = type.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(type, kind)
        return [tensor.shape] if tensor.HasField("shape") else []
    if kind in ("sequence_type", "optional_type"):
        return shapes(getattr(type, kind).elem_type)
    return shapes(type.map_type.value_type) if kind == "map_type" else []
