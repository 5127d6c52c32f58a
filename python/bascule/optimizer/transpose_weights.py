# SPDX-License-Identifier: Apache-2.0
"""Lay constant matrices by columns for products of a few rows, and let these normalize their rows.

For providers that start one operation sooner than several. With the elements of a column beside
each other a warp makes a column of the result by itself, so that no second operation has to join
parts; the normalization of a few rows takes less than to start one more operation.

Before:
    g (float[1,4] x) => (float[1,2] y)
    <float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = MatMul(x, w) }
After:
    g (float[1,4] x) => (float[1,2] y)
    <float[2,4] w = {1, 3, 5, 7, 2, 4, 6, 8}> { y = bascule.MatMul<transB = 1>(x, w) }
Before:
    g (float[1,4] x, float[4] s, float[4] b) => (float[1,2] y)
    <float[2,4] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
        n = LayerNormalization<axis = -1, epsilon = 1e-05>(x, s, b)
        y = bascule.MatMul<transB = 1>(n, w)
    }
After:
    g (float[1,4] x, float[4] s, float[4] b) => (float[1,2] y)
    <float[2,4] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
        y = bascule.Project<transB = 1, normalization = "LayerNormalization", epsilon = 1e-05>(
            x, w, , , s, b)
    }
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node
from bascule.ir.replaced import inherit
from bascule.ir.types import TensorType
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import attribute_of, constant_of
from bascule.optimizer.rewrite import Builder

_MOST_ROWS = 8
_MOST_READERS = 2
"""Products that repeat a normalization, at most."""
_MOST_BYTES = 32 << 10
"""Of the rows that are normalized."""
_TYPES = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)
_VECTOR = 16


@graph_pass
def transpose_weights(graph: Graph, context: Context) -> int:
    return sum(_turn(each) + _take_in(each) for each in list(graph.walk_graphs()))


def _rows(node: Node) -> int | None:
    """The rows of a product, if they are known."""
    x = node.inputs[0]
    if x is None or not x.shape or not all(isinstance(size, int) for size in x.shape):
        return None
    return math.prod(size for size in x.shape[:-1] if isinstance(size, int))


def _is_product(node: Node) -> bool:
    """Whether a node multiplies a few rows with one matrix."""
    is_split = node.is_op("SplitMatMul", domain=FUSED_DOMAIN)
    if not (node.is_op("MatMul") or node.is_op("MatMul", domain=FUSED_DOMAIN) or is_split):
        return False
    if is_split and _rows(node) != 1:  # the parts of one row are dense as they are
        return False
    rows, b = _rows(node), node.inputs[1]
    if node.attribute("transA", 0) or rows is None or not 0 < rows <= _MOST_ROWS or b is None:
        return False
    return b.rank == 2 and constant_of(b) is not None and node.outputs[0].dtype in _TYPES


def _turn(graph: Graph) -> int:
    count = 0
    for node in list(graph):
        if not _is_product(node) or node.attribute("transB", 0):
            continue
        b = node.inputs[1]
        constant = None if b is None else constant_of(b)
        if b is None or constant is None or len(b.uses) != 1 or b.dtype is None:
            continue
        matrix = constant.numpy()
        if matrix.shape[0] * matrix.itemsize % _VECTOR or not matrix.size:
            continue
        if len(node.outputs) > 1:
            node = _split_afterwards(node, matrix.shape[1])
        turned = np.ascontiguousarray(matrix.T)
        _replace(node, [node.inputs[0], turned, *node.inputs[2:]], {"transB": 1})
        count += 1
    return count


def _split_afterwards(node: Node, columns: int) -> Node:
    """The product of a SplitMatMul, before a Split of its own."""
    graph, first = node.graph, node.outputs[0]
    assert graph is not None and isinstance(first.type, TensorType)
    shape = None if first.shape is None else (*first.shape[:-1], columns)
    build = Builder(node)
    whole = build.node(
        "MatMul", node.inputs, domain=FUSED_DOMAIN, type=TensorType(first.type.dtype, shape)
    )
    whole.name = node.name
    count = len(node.outputs)
    split = build.node("Split", [whole.output], {"axis": -1, "num_outputs": count}, outputs=count)
    for new, old in zip(split.outputs, node.outputs):
        new.type = old.type
        old.replace_uses(new)
    graph.remove(node)
    return whole


def _take_in(graph: Graph) -> int:
    """Normalizations that only such products read."""
    count = 0
    for node in list(graph):
        if not node.is_op("LayerNormalization", "RMSNormalization"):
            continue
        readers = _readers(node)
        if not readers:
            continue
        x, scale, bias = [*node.inputs, None][:3]
        for reader in readers:
            inputs = [x, *[reader.input(index) for index in (1, 2, 3)], scale, bias]
            more = {"normalization": node.op_type, "epsilon": float(attribute_of(node, "epsilon"))}
            inherit([_replace(reader, inputs, more, "Project")], [node, reader])
        graph.remove(node)
        count += 1
    return count


def _readers(node: Node) -> list[Node] | None:
    x, y = node.inputs[0], node.outputs[0]
    if x is None or not x.rank or y.is_graph_output or not 0 < len(y.uses) <= _MOST_READERS:
        return None
    if any(not output.is_unused for output in node.outputs[1:]):
        return None
    if any(use.index != 0 for use in y.uses):  # a residual that is added to the product, too
        return None
    if attribute_of(node, "axis") not in (-1, x.rank - 1) or attribute_of(node, "stash_type") != 1:
        return None
    for parameter in node.inputs[1:]:
        if parameter is None or parameter.rank != 1 or parameter.dtype is not x.dtype:
            return None
    readers = [use.node for use in y.uses]
    for reader in readers:
        if not _is_product(reader) or not reader.attribute("transB", 0):
            return None
        width = x.shape[-1] if x.shape else None
        if reader.graph is not node.graph or reader.inputs[0] is not y:
            return None
        rows, dtype = _rows(reader), x.dtype
        if not isinstance(width, int) or rows is None or dtype is None:
            return None
        size = dtype.numpy.itemsize
        if rows * width * size > _MOST_BYTES or width * size % _VECTOR:
            return None
    return readers


def _replace(node: Node, inputs: Sequence[Any], more: dict[str, Any], op: str = "MatMul") -> Node:
    graph = node.graph
    assert graph is not None
    made = Builder(node).node(
        op, inputs, {**node.attributes, **more}, domain=FUSED_DOMAIN, type=node.output.type
    )
    made.name = node.name
    node.output.replace_uses(made.output)
    graph.remove(node)
    return made
