# SPDX-License-Identifier: Apache-2.0
"""The smallest model that shows a difference, with its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bascule.ir.dtype import DataType
from bascule.ir.graph import Model, Node, Value
from bascule.ir.serialize import write_type
from bascule.ir.types import TensorType, Type
from bascule.ir.walk import graphs_in
from bascule.tools.compare.alarms import find_alarm, model_steps
from bascule.tools.compare.cause import Place
from bascule.tools.compare.sides import Side, subject
from bascule.tools.edit.document import Document
from bascule.tools.edit.extract import extract
from bascule.tools.stepping.part import reads_of
from bascule.tools.stepping.steps import Environment

_IR_VERSION = 10
_SHRUNK = 40
"""Up to so many nodes each is left out on trial."""


@dataclass(frozen=True)
class Reproduction:
    """A model of some nodes, and an array for each of its inputs."""

    model: bytes
    """The serialized model."""
    feeds: dict[str, Any]
    """An array for each input, by name."""
    nodes: tuple[str, ...]
    """The names of its nodes."""
    other: bytes | None = None
    """Of two models that were compared: the same part of `a`, with the same inputs."""

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``reproduction.onnx`` and ``reproduction.npz``; returns both paths.

        `other` goes to ``reproduction_a.onnx``.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model, inputs = folder / "reproduction.onnx", folder / "reproduction.npz"
        model.write_bytes(self.model)
        if self.other is not None:
            (folder / "reproduction_a.onnx").write_bytes(self.other)
        np.savez(inputs, **{name: _storable(array) for name, array in self.feeds.items()})
        return model, inputs


def reproduce(place: Place, fails: Callable[[Reproduction], bool] | None) -> Reproduction | None:
    """The least nodes around those of `place` that fail.

    They grow backwards until they do, in the end to the whole graph up to there, and are then left
    out one by one where that makes no difference. Without `fails` nothing of this is done. None
    where the model has to be fed what is no tensor, which cannot be stored.
    """
    cutter = _Cutter(place)
    nodes = list(place.nodes)
    found = cutter.cut(nodes)
    while found is None or (fails is not None and not fails(found)):
        more = _with_producers(nodes)
        if len(more) == len(nodes):
            break
        nodes = place.side.source.in_order(more)
        found = cutter.cut(nodes)
    if found is None or fails is None:
        return found and replace(found, other=_other(place, nodes, found))
    return _shrunk(cutter, nodes, found, fails)


def _other(place: Place, nodes: Sequence[Node], found: Reproduction) -> bytes | None:
    """What the twin of a side has for `nodes`, if it reads the same values."""
    if place.twin is None:
        return None
    source = place.twin.source
    made = [source.find(value) for node in nodes for value in node.outputs if not value.is_unused]
    read = [source.find(v) for node in nodes for v in reads_of(node) if v.constant is None]
    region = source.region(
        [each.value for each in made if each is not None],
        [each.value for each in read if each is not None],
    )
    twin = _Cutter(Place(place.twin, region, place.inside)).cut(region) if region else None
    return twin.model if twin is not None and twin.feeds.keys() == found.feeds.keys() else None


def reproduce_alarm(place: Place) -> Reproduction | None:
    """The least nodes around that of `place` that set off an alarm."""
    backend = place.side.subject.backend.partition(" ")[0]

    def alarms(found: Reproduction) -> bool:
        side = Side(subject(found.model, backend), found.feeds)
        return find_alarm(side)[0] is not None

    return reproduce(place, alarms)


def _shrunk(
    cutter: _Cutter,
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
        smaller = cutter.cut(fewer)
        if smaller is not None and fails(smaller):
            nodes, found = fewer, smaller
    return found


def before(side: Side, culprit: Node) -> list[Node]:
    """What a node of the graph of a side stands for in its model.

    Of a node that stands for nothing by itself: the nodes that its readers stand for.
    """
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


class _Cutter:
    """Cuts nodes out of the model of a side, as it says it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        side = place.side
        model = Model(side.source.graph, dict(side.source_imports), ir_version=_IR_VERSION)
        self._document, self._name = Document.of_model(model)
        self._graphs = list(graphs_in(self._document.proto.graph))
        self._nodes = {name: n for g in self._graphs for n in g.node for name in n.output if name}
        self._known: dict[int, Any] = {}

    def cut(self, nodes: Sequence[Node]) -> Reproduction | None:
        """A model of `nodes` whose inputs are what they have when the model of the side runs.

        None where one of them is no tensor.
        """
        inside = {id(node) for node in nodes}
        outputs = [
            value
            for node in nodes
            for value in node.outputs
            if value.is_graph_output or any(id(use.node) not in inside for use in value.uses)
        ]
        read = {id(value): value for node in nodes for value in reads_of(node)}
        read = {key: value for key, value in read.items() if value.constant is None}
        inputs = [
            value
            for value in read.values()
            if value.producer is None or id(value.producer) not in inside
        ]
        if any(id(value) not in self._known for value in inputs):
            self._known.update(_arrays(self._place, list(read.values())))
        feeds: dict[str, Any] = {}
        infos = []
        for value in inputs:
            array = self._known[id(value)]
            if not isinstance(array, np.ndarray):
                return None
            feeds[self._name(value)] = array
            type = TensorType(DataType.from_numpy(array.dtype), array.shape)
            infos.append(self._info(value, type))
        protos = [self._proto(node) for node in nodes]
        ends = [self._info(value, value.type) for value in outputs]
        proto = extract(self._document.proto, protos, infos, ends, self._graphs)
        for node in nodes:
            for each in proto.opset_import:
                if node.opset is not None and each.domain == node.domain:
                    each.version = node.opset
        data = Document(proto, self._document.store).to_bytes()
        return Reproduction(data, feeds, tuple(node.name for node in nodes))

    def _proto(self, node: Node) -> onnx.NodeProto:
        names = (self._name(value) for value in node.outputs)
        return next(self._nodes[name] for name in names if name in self._nodes)

    def _info(self, value: Value, type: Type | None) -> onnx.ValueInfoProto:
        info = onnx.ValueInfoProto(name=self._name(value))
        if type is not None:
            write_type(type, info.type)
        return info


def _arrays(place: Place, wanted: Sequence[Value]) -> dict[int, Any]:
    """The values that `wanted` have in a run of the model node by node."""
    if place.inside:
        return _arrays_inside(place, wanted)
    side = place.side
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


def _arrays_inside(place: Place, wanted: Sequence[Value]) -> dict[int, Any]:
    """The same of values in a body, in the iteration of the place."""
    uses = {id(value) for value in wanted}
    nodes = {id(node) for node in place.nodes}
    found: dict[int, Any] = {}
    for step in model_steps(place.side):
        for value, array in (*step.inputs, *step.outputs):
            if id(value) in uses:
                found[id(value)] = array
        if step.inside == place.inside and id(step.node) in nodes:
            break
    return found


def _storable(array: Any) -> Any:
    """NumPy's files know no element types but its own: others are kept as float32."""
    if array.dtype == object:
        return array.astype(np.str_)
    return array.astype(np.float32) if array.dtype.kind == "V" else array
