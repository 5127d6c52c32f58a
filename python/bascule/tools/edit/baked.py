# SPDX-License-Identifier: Apache-2.0
"""Constants that nodes compute with, and those in which a size is baked in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from bascule.ir.dtype import DataType
from bascule.ir.types import TensorType, Type
from bascule.ir.walk import graphs_of
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import label

Types = Mapping[str, Type]
Constants = dict[str, "onnx.TensorProto | onnx.AttributeProto"]
"""Constants that a graph sees, by name."""


def scopes(
    graph: onnx.GraphProto, outer: Constants | None = None
) -> Iterator[tuple[onnx.GraphProto, Constants]]:
    """A graph and those nested in it, with the constants that each sees."""
    own: Constants = {**(outer or {}), **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain and len(node.attribute) == 1:
            attribute = node.attribute[0]
            own[node.output[0]] = attribute.t if attribute.name == "value" else attribute
        else:
            for name in node.output:
                own.pop(name, None)
    for info in graph.input:
        own.pop(info.name, None)
    yield graph, own
    for node in graph.node:
        for inner in graphs_of(node):
            yield from scopes(inner, own)


def array_of(document: Document, constants: Constants, name: str) -> np.ndarray[Any, Any] | None:
    """A constant of integers, or None."""
    found = constants.get(name)
    if isinstance(found, onnx.AttributeProto):
        if found.name == "value_int":
            return np.array(found.i, np.int64)
        return np.array(found.ints, np.int64) if found.name == "value_ints" else None
    if found is None or found.data_type not in (int(DataType.INT64), int(DataType.INT32)):
        return None
    return document.constant(found).numpy()


def integers(document: Document, constants: Constants, name: str) -> list[int] | None:
    """The elements of a constant with one axis of integers, or None."""
    found = array_of(document, constants, name)
    return found.tolist() if found is not None and found.ndim == 1 else None


_SHAPE_INPUTS = {
    "ConstantOfShape": 0,
    "Expand": 1,
    "Tile": 1,
    "Resize": 3,
    "Upsample": 1,
}


def baked_in(document: Document, old: Types, new: Types, freed: Mapping[str, int]) -> Iterator[str]:
    """Notes on nodes that use constants in which a size, dynamic now, is or may be baked in."""
    sizes = {size for size in freed.values() if size > 1}
    for graph, constants in scopes(document.proto.graph):
        for node in graph.node:
            index = _SHAPE_INPUTS.get(node.op_type) if not node.domain else None
            if index is not None and index < len(node.input):
                target = integers(document, constants, node.input[index])
                found = sizes & set(target or ())
                if found:
                    size = min(found)
                    yield f"{label(node)} has a constant {target} that may hold the size {size}"
            if not node.domain and node.op_type in _PICKING:
                yield from _picked(document, constants, node, old, new)


_PICKING = ("Gather", "GatherND", "GatherElements", "Slice", "ScatterND", "ScatterElements")


def _picked(
    document: Document, constants: Constants, node: onnx.NodeProto, old: Types, new: Types
) -> Iterator[str]:
    """A note on constant indices that run over all of an axis as it was."""
    was, now = old.get(node.input[0]), new.get(node.input[0])
    if not isinstance(was, TensorType) or not isinstance(now, TensorType):
        return
    for axis, (size, dim) in enumerate(zip(was.shape or (), now.shape or ())):
        if not isinstance(size, int) or isinstance(dim, int):
            continue
        places = _places(document, constants, node, axis, len(now.shape or ()))
        if places is not None and set(range(size)) <= set(places):
            what = f"place {places[0]}" if size == 1 else f"places 0 to {size - 1}"
            yield (
                f"{label(node)} takes {what} of axis {axis} of '{node.input[0]}', whose size "
                f"was {size} and is dynamic now, by constants: others are left out"
            )


def _places(
    document: Document, constants: Constants, node: onnx.NodeProto, axis: int, rank: int
) -> list[int] | None:
    """Which places of an axis a node takes by constants; None if that is not so."""
    arrays = [array_of(document, constants, name) for name in node.input[1:]]
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if not arrays or arrays[0] is None:
        return None
    if node.op_type == "Slice":
        return _sliced(arrays, axis, rank)
    indices = arrays[0]
    if node.op_type in ("GatherND", "ScatterND"):
        first = attributes.get("batch_dims", 0)
        if not first <= axis < first + indices.shape[-1]:
            return None
        return [int(i) for i in np.unique(indices[..., axis - first])]
    if attributes.get("axis", 0) % rank != axis:
        return None
    return [int(i) for i in np.unique(indices)]


def _sliced(arrays: list[Any], axis: int, rank: int) -> list[int] | None:
    """The places that starts, ends, axes and steps take, if the end is not left open."""
    if any(array is None for array in arrays) or len(arrays) < 2:
        return None
    starts, ends = arrays[0].tolist(), arrays[1].tolist()
    axes = [a % rank for a in arrays[2].tolist()] if len(arrays) > 2 else list(range(len(starts)))
    steps = arrays[3].tolist() if len(arrays) > 3 else [1] * len(starts)
    if axis not in axes:
        return None
    index = axes.index(axis)
    start, end, step = starts[index], ends[index], steps[index]
    if step != 1 or start < 0 or not 0 <= end < 1 << 31:
        return None
    return list(range(start, min(end, start + (1 << 20))))
