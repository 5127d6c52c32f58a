# SPDX-License-Identifier: Apache-2.0
"""Hashes of values from the operators that make them, and of graphs from these."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from bascule.ir.check import call_order
from bascule.ir.constant import Constant
from bascule.ir.graph import (
    Attribute,
    AttributeReference,
    Function,
    Graph,
    Model,
    Node,
    SparseConstant,
    Value,
)
from bascule.tools.digest.fields import Field, hash_fields, hash_type
from bascule.tools.digest.tensors import TensorHasher

_PURE_DOMAINS = frozenset(("", "ai.onnx.ml", "com.microsoft"))
_DRAWING = ("Random", "Bernoulli", "Multinomial", "Dropout", "Sampling")
"""Parts of the names of operators in these domains that draw numbers."""

_CONSTANTS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}
"""Attributes of Constant that stand for tensors, and their element types."""

_MISSING = b""


class ModelHasher:
    """The hash of one model."""

    def __init__(self, model: Model, tensors: TensorHasher) -> None:
        self._model = model
        self._tensors = tensors
        self._functions: dict[tuple[str, str, str], bytes] = {}
        self._drawing: set[tuple[str, str, str]] = set()

    def hash(self) -> bytes:
        """The graph with the names of its inputs and outputs, and all functions."""
        self._tensors.hash_all(self._initializers())
        for key in call_order(self._model.functions):
            function = self._model.functions[key]
            self._functions[key] = self._function(function)
            if any(self._draws(node) for node in function.body):
                self._drawing.add(key)
        scope = _Scope(self, self._model.opset_imports)
        graph = scope.graph(self._model.graph, is_named=True)
        return hash_fields("model", graph, *sorted(self._functions.values()))

    def _initializers(self) -> Iterator[Constant]:
        bodies = [self._model.graph, *(each.body for each in self._model.functions.values())]
        for graph in (each for body in bodies for each in body.walk_graphs()):
            for value in graph.initializers.values():
                if value.constant is not None:
                    yield value.constant
            for node in graph:
                tensor = node.attribute("value") if node.is_op("Constant") else None
                if isinstance(tensor, Constant):
                    yield tensor

    def _function(self, function: Function) -> bytes:
        scope = _Scope(self, function.opset_imports)
        fields: list[Field] = [function.domain, function.name, function.overload]
        fields += [len(function.attributes), *sorted(function.attributes)]
        fields += scope.attributes(function.attribute_defaults)
        return hash_fields("function", *fields, scope.graph(function.body))

    def _draws(self, node: Node) -> bool:
        """Whether two such nodes may differ in what they make of the same inputs."""
        key = node.domain, node.op_type, node.overload
        if key in self._model.functions:
            return key in self._drawing
        if node.domain not in _PURE_DOMAINS or any(part in node.op_type for part in _DRAWING):
            return True
        return any(self._draws(inner) for graph in node.subgraphs for inner in graph)


class _Scope:
    """The values of a graph and of those nested in it, whose nodes are of the same opsets."""

    def __init__(self, model: ModelHasher, opsets: dict[str, int]) -> None:
        self._model = model
        self._tensors = model._tensors
        self._opsets = opsets
        self._values: dict[int, bytes] = {}
        self._depth = 0

    def graph(self, graph: Graph, is_named: bool = False) -> bytes:
        """A graph; `is_named` says whether the names of inputs and outputs count."""
        self._depth += 1
        inputs = [self._input(v, i, is_named) for i, v in enumerate(graph.inputs)]
        tensors: set[bytes] = set()
        own = {id(value) for value in graph.inputs}
        for value in graph.initializers.values():
            if id(value) not in own:
                assert value.constant is not None
                self._values[id(value)] = self._tensors.hash(value.constant)
                tensors.add(self._values[id(value)])
        nodes = self._nodes(graph, tensors)
        outputs = [
            hash_fields("output", value.name if is_named else "", self._values[id(value)])
            for value in graph.outputs
        ]
        self._depth -= 1
        fields: list[Field] = [len(inputs), *inputs, len(outputs), *outputs]
        return hash_fields("graph", *fields, len(nodes), *sorted(nodes), *sorted(tensors))

    def _input(self, value: Value, index: int, is_named: bool) -> bytes:
        default = _MISSING if value.constant is None else self._tensors.hash(value.constant)
        # Inside, types follow from those outside, and files may leave them out.
        told = (value.name, hash_type(value.type)) if is_named else ("", _MISSING)
        found = hash_fields("input", self._depth, index, *told, default)
        self._values[id(value)] = found
        return found

    def _nodes(self, graph: Graph, tensors: set[bytes]) -> list[bytes]:
        """The hash of every node that is no constant; constants go to `tensors`."""
        found: list[bytes] = []
        drawn: Counter[bytes] = Counter()
        for node in graph:
            constant = constant_of(node)
            if constant is not None:
                self._values[id(node.output)] = self._tensors.hash(constant)
                tensors.add(self._values[id(node.output)])
                continue
            hashed = self._node(node)
            if self._model._draws(node):
                drawn[hashed] += 1
                hashed = hash_fields("draw", drawn[hashed], hashed)
            found.append(hashed)
            for index, value in enumerate(node.outputs):
                self._values[id(value)] = hash_fields("value", index, hashed)
        return found

    def _node(self, node: Node) -> bytes:
        function = self._model._functions.get((node.domain, node.op_type, node.overload))
        version = self._opsets.get(node.domain, 0) if function is None else function
        inputs = [_MISSING if v is None else self._values[id(v)] for v in node.inputs]
        fields: list[Field] = [node.domain, node.op_type, node.overload, version]
        fields += [len(node.outputs), len(inputs), *inputs, *self.attributes(node.attributes)]
        return hash_fields("node", *fields)

    # --- attributes

    def attributes(self, attributes: dict[str, Attribute]) -> list[Field]:
        """Names and hashes, by name."""
        fields: list[Field] = []
        for name in sorted(attributes):
            fields += [name, self._attribute(attributes[name])]
        return fields

    def _attribute(self, value: Any) -> bytes:
        if isinstance(value, (list, array)):
            return self._list(value)
        if isinstance(value, int):
            return hash_fields("int", value)
        if isinstance(value, float):
            return hash_fields("float", struct.pack("<f", value))
        if isinstance(value, str):
            return hash_fields("string", value)
        if isinstance(value, Constant):
            return self._tensors.hash(value)
        if isinstance(value, SparseConstant):
            return self._tensors.hash_sparse(value)
        if isinstance(value, Graph):
            return self.graph(value)
        if isinstance(value, AttributeReference):
            return hash_fields("reference", value.name, value.kind)
        return hash_type(value)

    def _list(self, items: Any) -> bytes:
        if len(items) and isinstance(items[0], int):
            return hash_fields("ints", np.asarray(items, "<i8").tobytes())
        if len(items) and isinstance(items[0], float):
            return hash_fields("floats", np.asarray(items, "<f4").tobytes())
        return hash_fields("list", *(self._attribute(item) for item in items))


def constant_of(node: Node) -> Constant | None:
    """The tensor that a node Constant holds, if it holds a dense one."""
    if not node.is_op("Constant") or len(node.attributes) != 1:
        return None
    ((name, value),) = node.attributes.items()
    if isinstance(value, Constant):
        return value
    if name not in _CONSTANTS or isinstance(value, AttributeReference):
        return None
    return Constant.from_numpy(np.asarray(value, _CONSTANTS[name]))
