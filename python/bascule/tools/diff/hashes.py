# SPDX-License-Identifier: Apache-2.0
"""Hashes by which nodes of two graphs are recognised."""

from __future__ import annotations

from array import array
from collections import Counter

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.graph import Attribute, Graph, SparseConstant
from bascule.tools.diff.items import Given, Item, Items, Made, Source, Tensor
from bascule.tools.diff.weights import fingerprint
from bascule.tools.digest.fields import Field, hash_fields

_SMALL = 64
"""Elements up to which integers are taken for shapes and positions: part of the structure."""


class Hashes:
    """Of every item of a graph: what it is, what it is computed from, and what reads it.

    Attributes:
        local: operator, attributes and types of its tensors.
        weighted: the same with fingerprints of its tensors.
        up, up_weighted: with all that it is computed from.
        down, down_weighted: with all that is computed from it.
        place: its own operator, and how the graph goes on from it, whatever the other operators.
    """

    def __init__(self, items: Items, fingerprints: dict[int, bytes]) -> None:
        self._fingerprints = fingerprints
        self.local: dict[Item, bytes] = {}
        self.weighted: dict[Item, bytes] = {}
        self.up: dict[Item, bytes] = {}
        self.up_weighted: dict[Item, bytes] = {}
        self.down: dict[Item, bytes] = {}
        self.down_weighted: dict[Item, bytes] = {}
        self.place: dict[Item, bytes] = {}
        self._hash_places(items)
        for item in items.items:
            self._hash_up(item)
        for item in reversed(items.items):
            self._hash_down(item)

    def _hash_places(self, items: Items) -> None:
        up: dict[Item, bytes] = {}
        down: dict[Item, bytes] = {}
        for item in items.items:
            sources = []
            for source in item.inputs:
                if isinstance(source, Made):
                    sources.append(hash_fields("made", source.index, up[source.item]))
                else:
                    sources.append(source.key.encode() if isinstance(source, Given) else b"")
            up[item] = hash_fields("place", *sources)
        for item in reversed(items.items):
            readers = sorted(
                hash_fields("reader", output, down[reader], position)
                for output, reader, position in item.readers
            )
            ends = sorted(hash_fields("output", index, key) for index, key in item.outputs)
            down[item] = hash_fields("place", *readers, *ends)
            self.place[item] = hash_fields("place", *item.operator, up[item], down[item])

    def _hash_up(self, item: Item) -> None:
        base = self._base(item)
        for found, up, weighted in (
            (self.local, self.up, False),
            (self.weighted, self.up_weighted, True),
        ):
            own = [self._tensor(s, weighted) if isinstance(s, Tensor) else b"" for s in item.inputs]
            found[item] = hash_fields("local", base, *own)
            sources = [self._source(s, up, weighted) for s in item.inputs]
            captured = sorted(self._source(s, up, weighted) for s in item.captures)
            up[item] = hash_fields("up", base, len(sources), *sources, *captured)

    def _hash_down(self, item: Item) -> None:
        for local, down in ((self.local, self.down), (self.weighted, self.down_weighted)):
            readers = sorted(
                hash_fields("reader", output, down[reader], position)
                for output, reader, position in item.readers
            )
            outputs = sorted(hash_fields("output", index, key) for index, key in item.outputs)
            down[item] = hash_fields("down", local[item], *readers, *outputs)

    def _source(self, source: Source, up: dict[Item, bytes], weighted: bool) -> bytes:
        if isinstance(source, Tensor):
            return self._tensor(source, weighted)
        if isinstance(source, Made):
            return hash_fields("made", source.index, up[source.item])
        return hash_fields("given", source.key) if isinstance(source, Given) else b""

    def _tensor(self, tensor: Tensor, weighted: bool) -> bytes:
        constant = tensor.constant
        fields: list[Field] = [int(constant.dtype), len(constant.shape), *constant.shape]
        is_structure = constant.size <= _SMALL and not constant.dtype.is_float
        if weighted or is_structure:
            key = id(constant)
            if key not in self._fingerprints:
                self._fingerprints[key] = fingerprint(constant)
            fields.append(self._fingerprints[key])
        return hash_fields("tensor", *fields)

    def _base(self, item: Item) -> bytes:
        fields: list[Field] = [*item.operator, len(item.node.outputs)]
        for name, value in item.attributes.items():
            fields += [name, self._attribute(value)]
        for name, graphs in sorted(item.graphs.items()):
            fields += [name, *(_outline(graph) for graph in graphs)]
        return hash_fields("node", *fields)

    def _attribute(self, value: Attribute) -> bytes:
        if isinstance(value, Constant):
            return self._tensor(Tensor(value, ""), False)
        if isinstance(value, SparseConstant):
            return hash_fields("sparse", *value.shape)
        if isinstance(value, (list, array)):
            if len(value) and isinstance(value[0], (int, float)):
                kind = "<i8" if isinstance(value[0], int) else "<f4"
                return hash_fields(kind, np.asarray(value, kind).tobytes())
            return hash_fields("list", *(self._attribute(item) for item in value))
        if isinstance(value, float):
            return hash_fields("float", np.float32(value).tobytes())
        return hash_fields(type(value).__name__, str(value))


def _outline(graph: Graph) -> bytes:
    """How many nodes of each operator a nested graph has."""
    counts = Counter((node.domain, node.op_type) for node in graph.walk_nodes())
    return hash_fields("graph", *(str(each) for each in sorted(counts.items())))
