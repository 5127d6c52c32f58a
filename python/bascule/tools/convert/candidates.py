# SPDX-License-Identifier: Apache-2.0
"""The nodes of a model that could compute in a narrow type, and those that cannot, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx

from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.source_trace import source_of
from bascule.ir.types import TensorType
from bascule.ir.walk import graphs_in, graphs_of
from bascule.tools.convert.document import Document
from bascule.tools.convert.rewrite import Rewriting
from bascule.transformers.float16 import DEFAULT_OP_BLOCK_LIST

# Operators of com.microsoft that compute on floats of any width.
_CONTRIB = frozenset(
    (
        *("Attention", "MultiHeadAttention", "GroupQueryAttention", "RotaryEmbedding", "Gelu"),
        *("BiasGelu", "FastGelu", "QuickGelu", "LayerNormalization", "SkipLayerNormalization"),
        *("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "FusedMatMul"),
        *("EmbedLayerNormalization", "FusedConv", "FusedGemm", "MatMulNBits"),
    )
)
_MOVES = frozenset(
    (
        *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice"),
        *("Concat", "Gather", "Expand", "Tile", "Split"),
    )
)
"""Operators whose results are elements of their inputs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could be narrow."""

    key: str
    """Its first output."""
    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Candidates:
    """Of one model, for one type.

    Attributes:
        found: the nodes that could be narrow, in order.
        rules: why others that compute in float32 stay, by their keys.
        floats: the names of all float32 tensors.
        names: the names of nodes, given to those without one, by key.
        sources: the exporter's source lines of nodes, by key.
    """

    def __init__(self, document: Document, type_name: str, to: int) -> None:
        self._document = document
        self._type = type_name
        self._to = to
        model = document.model()
        self.floats, self._opaque = _types(model)
        nodes = [node for node in model.graph.walk_nodes() if node.outputs]
        self.sources = {_first(node): source_of(node) for node in nodes}
        self.names = {_first(node): node.name for node in nodes}
        self.rules: dict[str, str] = {}
        self.found = list(self._find_candidates())

    def _find_candidates(self) -> Iterator[Candidate]:
        rewriting = Rewriting(
            self._document.proto, floats=self.floats, is_blocked=self.stays, to=self._to
        )
        for graph in graphs_in(self._document.proto.graph):
            for node in graph.node:
                floats = [name in self.floats for name in (*node.input, *node.output)]
                if not any(floats) or not node.output or node.op_type == "Constant":
                    continue
                if any(True for _ in graphs_of(node)):
                    continue
                why = self._rule(node)
                wide = [
                    rewriting.is_wide(node, i, of_output)
                    for of_output, names in ((False, node.input), (True, node.output))
                    for i, name in enumerate(names)
                    if name in self.floats
                ]
                if why or all(wide):
                    self.rules[node_key(node)] = why or f"it has no {self._type} in this opset"
                    continue
                key = node_key(node)
                name = self.names.get(key, node.name)
                yield Candidate(key, name, node.op_type, tuple(node.input), tuple(node.output))

    def _rule(self, node: onnx.NodeProto) -> str:
        """Why a node stays whatever is measured, or ''."""
        if any(name in self._opaque for name in (*node.input, *node.output)):
            return "it makes or reads a sequence, an optional or a map"
        if node.domain == "ai.onnx.ml":
            return "operators of ai.onnx.ml compute in float32"
        if node.domain == "com.microsoft":
            return "" if node.op_type in _CONTRIB else "its scales have to be float32"
        if node.domain not in ("", "ai.onnx", "bascule"):
            return "what types it takes is not known"
        if node.op_type == "BitCast":
            return "it reads bits"
        if node.op_type in (*DEFAULT_OP_BLOCK_LIST, "MeanVarianceNormalization"):
            return "some runtimes have it in float32 only"
        return ""

    def stays(self, node: onnx.NodeProto) -> bool:
        """Whether a node stays whatever is measured."""
        return bool(self._rule(node))

    def between(self, blocks: Collection[str]) -> set[str]:
        """Nodes that only move elements from nodes that stay to nodes that stay."""
        stay = {*blocks, *self.rules}
        readers: dict[str, list[Candidate | None]] = {}
        makers = {name: each.key for each in self.found for name in each.outputs}
        for each in self.found:
            for name in each.inputs:
                readers.setdefault(name, []).append(each)
        outputs = {value.name for value in self._document.proto.graph.output}
        found: set[str] = set()
        changed = bool(blocks)
        while changed:
            changed = False
            for each in self.found:
                if each.key in stay or each.op_type not in _MOVES:
                    continue
                made = [makers[n] for n in each.inputs if n in self.floats and n in makers]
                read = [r for name in each.outputs for r in readers.get(name, ())]
                kept = all(r is not None and r.key in stay for r in read)
                ends = [name for name in each.outputs if name in outputs]
                if made and read and kept and not ends and all(key in stay for key in made):
                    stay.add(each.key)
                    found.add(each.key)
                    changed = True
        return found


def node_key(node: onnx.NodeProto) -> str:
    """What tells a node apart: its first output."""
    return next((str(name) for name in node.output if name), str(node.name))


def _first(node: Node) -> str:
    return next((value.name for value in node.outputs if value.name), node.name)


def _types(model: Model) -> tuple[set[str], set[str]]:
    """The names of float32 tensors, and of values that are no tensors."""
    # Imported here: it imports onnx.
    from bascule.ir.infer import infer_types

    infer_types(model, check=False)
    floats: set[str] = set()
    opaque: set[str] = set()
    for value in _all_values(model.graph):
        if not isinstance(value.type, TensorType):
            if value.type is not None:
                opaque.add(value.name)
        elif value.dtype is DataType.FLOAT:
            floats.add(value.name)
    return floats, opaque


def _all_values(graph: Graph) -> Iterator[Value]:
    for each in graph.walk_graphs():
        yield from each.inputs
        yield from each.initializers.values()
        for node in each:
            yield from node.outputs
