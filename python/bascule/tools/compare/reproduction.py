# SPDX-License-Identifier: Apache-2.0
"""The smallest model that shows a difference, with its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bascule.errors import InvalidArgument
from bascule.ir.dtype import DataType
from bascule.ir.graph import Model, Node, Value
from bascule.ir.types import TensorType
from bascule.tools.compare.sides import Side
from bascule.tools.stepping.part import extract, reads_of
from bascule.tools.stepping.steps import Environment

_IR_VERSION = 10
_SHRUNK = 40
"""Up to so many nodes each is left out on trial."""


@dataclass(frozen=True)
class Reproduction:
    """A model of some nodes, and an array for each of its inputs."""

    model: bytes
    feeds: dict[str, Any]
    nodes: tuple[str, ...]

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``reproduction.onnx`` and ``reproduction.npz``; returns both paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model, inputs = folder / "reproduction.onnx", folder / "reproduction.npz"
        model.write_bytes(self.model)
        np.savez(inputs, **{name: _storable(array) for name, array in self.feeds.items()})
        return model, inputs


def reproduce(
    side: Side, culprit: Node, fails: Callable[[Reproduction], bool] | None
) -> Reproduction:
    """The least nodes around what `culprit`, of the graph of `side`, stands for that fail.

    They grow backwards until they do, in the end to the whole model up to there, and are then left
    out one by one where that makes no difference. Without `fails` nothing of this is done.

    Raises:
        InvalidArgument: a value that the nodes read is no tensor, and cannot be stored.
    """
    source = side.source
    nodes = source.nodes_of(culprit) or _before(culprit, side)
    found = _cut_out(side, nodes)
    if fails is None:
        return found
    while not fails(found):
        more = _with_producers(nodes)
        if len(more) == len(nodes):
            break
        nodes = source.in_order(more)
        found = _cut_out(side, nodes)
    return _shrunk(side, nodes, found, fails)


def _shrunk(
    side: Side,
    nodes: list[Node],
    found: Reproduction,
    fails: Callable[[Reproduction], bool],
) -> Reproduction:
    """Without the nodes that are not needed to fail, as far as it does fail."""
    if len(nodes) > _SHRUNK or not fails(found):
        return found
    for node in list(nodes):
        fewer = [each for each in nodes if each is not node]
        if not fewer:
            break
        smaller = _cut_out(side, fewer)
        if fails(smaller):
            nodes, found = fewer, smaller
    return found


def _before(culprit: Node, side: Side) -> list[Node]:
    """Of a node that stands for nothing by itself: the nodes that its readers stand for."""
    pending, seen = [culprit], {id(culprit)}
    while pending:
        node = pending.pop(0)
        found = side.source.nodes_of(node)
        if found:
            return found
        for value in node.outputs:
            for use in value.uses:
                if id(use.node) not in seen:
                    seen.add(id(use.node))
                    pending.append(use.node)
    return []


def _with_producers(nodes: Sequence[Node]) -> list[Node]:
    found = {id(node): node for node in nodes}
    for node in nodes:
        for value in reads_of(node):
            if value.producer is not None and value.producer.graph is node.graph:
                found[id(value.producer)] = value.producer
    return list(found.values())


def _cut_out(side: Side, nodes: Sequence[Node]) -> Reproduction:
    """A model of `nodes` whose inputs are what they have when the model of `side` runs."""
    from bascule.ir.save import to_bytes

    inside = {id(node) for node in nodes}
    outputs = [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output or any(id(use.node) not in inside for use in value.uses)
    ]
    part = extract(nodes, outputs)
    arrays = _arrays(side, part.inputs)
    feeds: dict[str, Any] = {}
    for value, own in zip(part.inputs, part.graph.inputs):
        array = arrays[id(value)]
        if not isinstance(array, np.ndarray):
            raise InvalidArgument(f"Value '{value.name}' is no tensor: it cannot be stored")
        own.type = TensorType(DataType.from_numpy(array.dtype), array.shape)
        feeds[own.name] = array
    imports = dict(side.source_imports)
    for node in nodes:
        if node.opset is not None:
            imports[node.domain] = node.opset
    model = Model(part.graph, imports, ir_version=_IR_VERSION)
    return Reproduction(to_bytes(model), feeds, tuple(node.name for node in nodes))


def _arrays(side: Side, wanted: Sequence[Value]) -> dict[int, Any]:
    """The values that `wanted` have in a run of the model node by node."""
    source = side.source.graph
    environment = Environment()
    for value, array in zip(source.inputs, side.feeds):
        environment[value] = array
    found = {id(value): environment[value] for value in wanted if value in environment}
    uses = {id(value) for value in wanted}
    needed = side.source.region([value for value in wanted if id(value) not in found], [])
    last = {id(value): node for node in needed for value in reads_of(node)}
    for node in needed:
        results = side.run(node, environment)
        made = [value for value in node.outputs if not value.is_unused]
        for value, array in zip(made, results):
            environment[value] = array
            if id(value) in uses:
                found[id(value)] = array
        for value in reads_of(node):
            if last[id(value)] is node:
                environment.drop(value)
    return found


def _storable(array: Any) -> Any:
    """NumPy's files know no element types but its own: others are kept as float32."""
    if array.dtype == object:
        return array.astype(np.str_)
    return array.astype(np.float32) if array.dtype.kind == "V" else array
