# SPDX-License-Identifier: Apache-2.0
"""Compute products of one matrix with several constant ones as one product.

For providers that start one large product sooner than several small ones; its results need not be
copied apart.

Before:
    g (float[2,3] x) => (float[2,2] y, float[2,2] z)
    <float[3,2] v = {1, 2, 3, 4, 5, 6}, float[3,2] w = {7, 8, 9, 10, 11, 12}> {
        y = MatMul(x, v)
        z = MatMul(x, w)
    }
After:
    g (float[2,3] x) => (float[2,2] y, float[2,2] z)
    <float[3,4] c = {1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12}> {
        y, z = bascule.SplitMatMul(x, c)
    }
Before:
    g (float[2,3] x) => (float[2,1] y, float[2,1] z)
    <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {7, 8}> {
        t = bascule.MatMul(x, w, b)
        y, z = Split<axis = -1, num_outputs = 2>(t)
    }
After:
    g (float[2,3] x) => (float[2,1] y, float[2,1] z)
    <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {7, 8}> {
        y, z = bascule.SplitMatMul(x, w, b)
    }
Keeps:
    g (float[2,3] x) => (float[2,2] y, float[2,1] z)
    <float[3,2] v = {1, 2, 3, 4, 5, 6}, float[3,1] w = {7, 8, 9}> {
        y = MatMul(x, v)
        z = MatMul(x, w)
    }
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.replaced import inherit
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.rewrite import Builder


@graph_pass
def fuse_split_matmul(graph: Graph, context: Context) -> int:
    return sum(_join(each) + _take_in_splits(each) for each in list(graph.walk_graphs()))


def _join(graph: Graph) -> int:
    """One product for those with the same first factor."""
    groups: dict[Hashable, list[Node]] = {}
    for node in graph:
        if _is_product(node):
            a, b, bias = _operands(node)
            groups.setdefault((a, b.dtype, b.shape, bias is None), []).append(node)
    count = 0
    for nodes in groups.values():
        if len(nodes) > 1:
            _, factors, rows = zip(*map(_operands, nodes))
            outputs = [node.output for node in nodes]
            _replace(nodes[0], _side_by_side(factors), _side_by_side(rows), outputs, nodes)
            count += 1
    return count


def _take_in_splits(graph: Graph) -> int:
    """The parts of a product are its results."""
    count = 0
    for split in list(graph):
        whole = split.input(0) if split.is_op("Split") else None
        product = None if whole is None else whole.producer
        if whole is None or product is None or product.graph is not graph:
            continue
        is_alone = len(whole.uses) == 1 and not whole.is_graph_output
        if is_alone and _is_product(product) and _splits_columns(split, whole):
            _, b, bias = _operands(product)
            _replace(product, b, bias, split.outputs, [split, product])
            count += 1
    return count


def _is_product(node: Node) -> bool:
    """Whether a node multiplies with a constant matrix that it alone reads, and adds a row."""
    if not (node.is_op("MatMul") or node.is_op("MatMul", domain=FUSED_DOMAIN)):
        return False
    if node.attributes or node.input(3) is not None or node.output.rank is None:
        return False
    a, b, bias = _operands(node)
    if constant_of(b) is None or b.rank != 2 or len(b.uses) != 1:
        return False
    return a.rank not in (None, 0, 1) and (bias is None or constant_of(bias) is not None)


def _operands(node: Node) -> tuple[Value, Value, Value | None]:
    a, b = node.inputs[:2]
    assert a is not None and b is not None
    return a, b, node.input(2)


def _splits_columns(split: Node, whole: Value) -> bool:
    rank = whole.rank or 0
    if len(split.outputs) < 2 or split.attribute("axis", 0) not in (-1, rank - 1):
        return False
    widths = {None if each.shape is None else each.shape[-1] for each in split.outputs}
    return len(widths) == 1 and isinstance(widths.pop(), int)


def _side_by_side(values: Sequence[Value | None]) -> Value | np.ndarray | None:
    arrays = []
    for value in values:
        constant = None if value is None else constant_of(value)
        if constant is None:
            return None
        arrays.append(constant.numpy())
    return np.concatenate(arrays, axis=-1)


def _replace(
    place: Node,
    b: Value | np.ndarray | None,
    bias: Value | np.ndarray | None,
    outputs: Sequence[Value],
    nodes: Sequence[Node],
) -> None:
    """One node, in the place of `place`, that has `outputs` of `nodes`, which go."""
    graph = place.graph
    assert graph is not None
    made = Builder(place).node(
        "SplitMatMul", [place.inputs[0], b, bias], outputs=len(outputs), domain=FUSED_DOMAIN
    )
    made.name = place.name
    inherit([made], nodes)
    for new, old in zip(made.outputs, outputs):
        new.type = old.type
        old.replace_uses(new)
    for node in nodes:
        graph.remove(node)
