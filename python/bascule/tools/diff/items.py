# SPDX-License-Identifier: Apache-2.0
"""Nodes as they are compared: constants are where they are read, defaults are left out."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

from bascule.ir import check
from bascule.ir.constant import Constant
from bascule.ir.graph import Attribute, AttributeReference, Graph, Node, SparseConstant, Value
from bascule.tools.diff.weights import equal_tensors
from bascule.tools.digest.graph import constant_of

CAPTURED = -1
"""The position under which a node reads what only its nested graphs read."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A source: a constant, wherever it is stored."""

    constant: Constant
    name: str


@dataclass(frozen=True, slots=True)
class Given:
    """A source: an input of the graph, or a value of a graph around it.

    `key` is the same in both models where the sources correspond.
    """

    key: str
    name: str = field(compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A source: output `index` of another node of the graph."""

    item: Item
    index: int


Source = Union[Tensor, Given, Made, None]


@dataclass(slots=True, eq=False)
class Item:
    """A node that is no constant."""

    node: Node
    position: int
    attributes: dict[str, Attribute]
    """Without nested graphs, and without those that have their default values."""
    graphs: dict[str, list[Graph]]
    inputs: list[Source]
    captures: list[Source]
    readers: list[tuple[int, Item, int]] = field(default_factory=list)
    """(output, reader, position at which it reads) of each use."""
    outputs: list[tuple[int, str]] = field(default_factory=list)
    """(output, key) of each output of the graph that it makes."""

    @property
    def operator(self) -> tuple[str, str, str]:
        return self.node.domain, self.node.op_type, self.node.overload

    @property
    def operator_name(self) -> str:
        parts = self.node.domain, self.node.op_type, self.node.overload
        return ".".join(part for part in parts if part)

    @property
    def name(self) -> str:
        return self.node.name or next((v.name for v in self.node.outputs if v.name), "")

    @property
    def tensors(self) -> list[tuple[int, Tensor]]:
        return [(i, s) for i, s in enumerate(self.inputs) if isinstance(s, Tensor)]


class Items:
    """The items of one graph, in order.

    Args:
        graph: the graph.
        opsets: the version of each domain.
        given: keys of values from outside: inputs and values of graphs around it.
        outputs: a key of each output.
    """

    def __init__(
        self,
        graph: Graph,
        opsets: Mapping[str, int],
        given: Mapping[int, str],
        outputs: Iterable[str],
    ) -> None:
        self._given = given
        self._sources: dict[int, Source] = {}
        self._opsets = opsets
        self.items: list[Item] = []
        for value in graph.initializers.values():
            if id(value) not in given:
                assert value.constant is not None
                self._sources[id(value)] = Tensor(value.constant, value.name)
        for node in graph:
            constant = constant_of(node)
            if constant is not None:
                self._sources[id(node.output)] = Tensor(constant, node.output.name)
                continue
            item = self._item(node)
            self.items.append(item)
            for index, value in enumerate(node.outputs):
                self._sources[id(value)] = Made(item, index)
        self.outputs: dict[str, Source] = {}
        for value, key in zip(graph.outputs, outputs):
            source = self.outputs[key] = self.source(value)
            if isinstance(source, Made):
                source.item.outputs.append((source.index, key))

    def source(self, value: Value) -> Source:
        """Where a value comes from."""
        if id(value) in self._given:
            return Given(self._given[id(value)], value.name)
        found = self._sources.get(id(value))
        if found is None:  # a constant of a graph around it
            constant = value.constant
            if constant is None and value.producer is not None:
                constant = constant_of(value.producer)
            if constant is None:
                return Given(f"unknown {value.name}", value.name)
            found = self._sources[id(value)] = Tensor(constant, value.name)
        return found

    def _item(self, node: Node) -> Item:
        inputs = [None if value is None else self.source(value) for value in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        captured = {id(v): v for graph in node.subgraphs for v in graph.captures()}
        item = Item(
            node,
            len(self.items),
            _plain(node, self._opsets),
            _graphs(node),
            inputs,
            [self.source(value) for value in captured.values()],
        )
        positions = [*enumerate(item.inputs), *((CAPTURED, source) for source in item.captures)]
        for position, source in positions:
            if isinstance(source, Made):
                source.item.readers.append((source.index, item, position))
        return item


def _graphs(node: Node) -> dict[str, list[Graph]]:
    found: dict[str, list[Graph]] = {}
    for name, value in node.attributes.items():
        if isinstance(value, Graph):
            found[name] = [value]
        elif isinstance(value, list) and value and isinstance(value[0], Graph):
            found[name] = value
    return found


def _plain(node: Node, opsets: Mapping[str, int]) -> dict[str, Attribute]:
    """The attributes but for graphs and defaults, which exporters may write out or not."""
    version = opsets.get(node.domain)
    defaults = {} if version is None else _defaults(node.op_type, version, node.domain)
    found = {}
    for name, value in sorted(node.attributes.items()):
        if isinstance(value, Graph) or (
            isinstance(value, list) and value and isinstance(value[0], Graph)
        ):
            continue
        if name in defaults and equal_attributes(value, defaults[name]):
            continue
        found[name] = value
    return found


@functools.lru_cache(maxsize=4096)
def _defaults(op_type: str, version: int, domain: str) -> dict[str, Any]:
    """The defaults that the operator's schema gives."""
    if check.schema(op_type, version, domain) is None:
        return {}
    import onnx
    import onnx.defs

    found = {}
    schema = onnx.defs.get_schema(op_type, min(version, 2**31 - 1), domain)
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "surrogateescape")
            found[name] = list(value) if isinstance(value, (list, tuple)) else value
    return found


def equal_attributes(old: Attribute, new: Attribute) -> bool:
    """Whether two attribute values that hold no graphs are the same; floats are float32."""
    if isinstance(old, Constant) and isinstance(new, Constant):
        return equal_tensors(old, new)
    if isinstance(old, SparseConstant) and isinstance(new, SparseConstant):
        parts = (old.values, new.values), (old.indices, new.indices)
        return old.shape == new.shape and all(equal_tensors(a, b) for a, b in parts)
    if isinstance(old, AttributeReference) or isinstance(new, AttributeReference):
        return bool(old == new)
    if isinstance(old, (list, array)) and isinstance(new, (list, array)):
        if len(old) != len(new):
            return False
        if len(old) and isinstance(old[0], float) and isinstance(new[0], float):
            return bool(np.array_equal(np.asarray(old, "<f4"), np.asarray(new, "<f4")))
        return all(equal_attributes(a, b) for a, b in zip(old, new))
    if type(old) is not type(new):
        return False
    if isinstance(old, float):
        return bool(np.array_equal(np.float32(old), np.float32(new), equal_nan=True))
    return bool(old == new)
