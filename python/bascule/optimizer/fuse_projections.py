# SPDX-License-Identifier: Apache-2.0
"""Take what stands around products with packed weights into them, and join those of one factor.

For providers that start one large operation sooner than several small ones: the normalization of
the rows goes before the product, a gate and a residual after it. Only products of 16-bit elements
with weights of 4 bits gain by that.

Before:
    g (float16[1,16] x, uint8[2,1,8] b, float16[2,1] s, float16[1,2] r, float16[2] w)
        => (float16[1,2] y, float16[1,2] t) {
        p = bascule.MatMulNBits<K = 16, N = 2, bits = 4, block_size = 16>(x, b, s)
        y, t = bascule.SkipRMSNormalization<epsilon = 1e-05>(r, p, w)
    }
After:
    g (float16[1,16] x, uint8[2,1,8] b, float16[2,1] s, float16[1,2] r, float16[2] w)
        => (float16[1,2] y, float16[1,2] t) {
        t = bascule.ProjectNBits<K = 16, N = 2, bits = 4, block_size = 16>(x, b, s, , , , r)
        y = RMSNormalization<axis = -1, epsilon = 1e-05>(t, w)
    }
Before:
    g (float16[1,16] x, uint8[2,1,8] b, float16[2,1] s, float16[16] w) => (float16[1,2] y) {
        n = RMSNormalization<axis = -1, epsilon = 1e-05>(x, w)
        y = bascule.MatMulNBits<K = 16, N = 2, bits = 4, block_size = 16>(n, b, s)
    }
After:
    g (float16[1,16] x, uint8[2,1,8] b, float16[2,1] s, float16[16] w) => (float16[1,2] y) {
        y = bascule.ProjectNBits<K = 16, N = 2, bits = 4, block_size = 16, epsilon = 1e-05>(
            x, b, s, , , w)
    }
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.replaced import inherit
from bascule.ir.types import TensorType
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import attribute_of, constant_of
from bascule.optimizer.rewrite import Builder

_NARROW = (DataType.FLOAT16, DataType.BFLOAT16)
_MOST_READERS = 2
"""Products that repeat a normalization, at most."""


@graph_pass
def fuse_projections(graph: Graph, context: Context) -> int:
    return sum(
        _join_gates(each) + _join(each) + _take_in_sums(each) + _take_in_normalizations(each)
        for each in list(graph.walk_graphs())
    )


def _is_product(value: Value | None) -> bool:
    """Whether a value is a plain product of 16-bit elements with weights of 4 bits."""
    node = None if value is None else value.producer
    return (
        node is not None
        and node.is_op("MatMulNBits", domain=FUSED_DOMAIN)
        and node.output.dtype in _NARROW
        and node.attribute("bits", 4) == 4
        and not node.attribute("values")
        and node.input(4) is None
    )


def _projection(node: Node) -> tuple[list[Value | None], dict[str, Any]]:
    """The inputs and attributes of a product as ProjectNBits has them."""
    x, b, scales, zeros = [*node.inputs, None, None][:4]
    if node.op_type == "ProjectNBits":
        return [node.input(index) for index in range(7)], dict(node.attributes)
    return [x, b, scales, zeros, node.input(5), None, None], dict(node.attributes)


def _made(build: Builder, old: Node, inputs: Sequence[Any], attributes: dict[str, Any]) -> Node:
    """A ProjectNBits in the place of `old`."""
    made = build.node("ProjectNBits", inputs, attributes, domain=FUSED_DOMAIN, type=old.output.type)
    made.name = old.name
    return made


# --- products of the same rows


def _join_gates(graph: Graph) -> int:
    """swish(x A) * (x B) by one product."""
    count = 0
    for node in list(graph):
        if not node.is_op("Mul"):
            continue
        for gate, other in (node.inputs, node.inputs[::-1]):
            swish = None if gate is None else gate.producer
            if swish is None or not swish.is_op("Swish") or gate is None or other is None:
                continue
            if attribute_of(swish, "alpha") != 1 or gate.only_use() is not node:
                continue
            pair = [swish.inputs[0], other]
            readers = (swish, node)
            if not all(
                _is_product(each) and each is not None and each.only_use() is reader
                for each, reader in zip(pair, readers)
            ):
                continue
            products = [each.producer for each in pair if each is not None and each.producer]
            inputs = _side_by_side(products)
            if len(products) != 2 or inputs is None or len({_key(p) for p in products}) != 1:
                continue
            columns = sum(int(each.attribute("N")) for each in products)
            if products[0].attribute("N") != products[1].attribute("N"):
                continue
            attributes = {**products[0].attributes, "N": columns, "gated": 1}
            made = _made(Builder(node), node, [*inputs, None, None], attributes)
            node.output.replace_uses(made.output)
            inherit([made], [*products, swish, node])
            for old in (node, swish, *products):
                graph.remove(old)
            count += 1
            break
    return count


def _key(node: Node) -> Hashable:
    """What products must have in common to become one."""
    attributes = [node.attribute(name) for name in ("K", "bits", "block_size")]
    types = [None if v is None else (v.dtype, v.rank) for v in node.inputs[1:]]
    return (node.inputs[0], *attributes, *types)


def _join(graph: Graph) -> int:
    """One product for those of the same rows, and a Split of its columns."""
    groups: dict[Hashable, list[Node]] = {}
    for node in graph:
        if _is_product(node.outputs[0] if node.outputs else None) and node.output.rank:
            groups.setdefault(_key(node), []).append(node)
    count = 0
    for nodes in groups.values():
        inputs = _side_by_side(nodes) if len(nodes) > 1 else None
        if inputs is None:
            continue
        build, widths = Builder(nodes[0]), [int(node.attribute("N")) for node in nodes]
        first = nodes[0].output
        assert isinstance(first.type, TensorType) and first.shape is not None
        whole = build.node(
            "MatMulNBits",
            [*inputs[:4], None, inputs[4]],
            {**nodes[0].attributes, "N": sum(widths)},
            domain=FUSED_DOMAIN,
            type=TensorType(first.type.dtype, (*first.shape[:-1], sum(widths))),
        )
        whole.name = nodes[0].name
        inherit([whole], nodes)
        sizes = np.array(widths, np.int64)
        split = build.node("Split", [whole.output, sizes], {"axis": -1}, outputs=len(nodes))
        for new, node in zip(split.outputs, nodes):
            new.type = node.output.type
            node.output.replace_uses(new)
        for node in nodes:
            graph.remove(node)
        count += 1
    return count


def _side_by_side(nodes: Sequence[Node]) -> list[Any] | None:
    """Inputs of one product with the columns of all; None where they are not all constant."""
    joined: list[Any] = [nodes[0].inputs[0]]
    for parts in zip(*(_projection(node)[0][1:5] for node in nodes)):
        given = [value for value in parts if value is not None]
        constants = [constant_of(value) for value in given if len(value.uses) == 1]
        arrays = [constant.numpy() for constant in constants if constant is not None]
        if len(arrays) != len(given) or len(given) not in (0, len(parts)):
            return None
        joined.append(np.concatenate(arrays, axis=0) if arrays else None)
    return joined


# --- what is around


def _take_in_sums(graph: Graph) -> int:
    """The residual that is added to a product before a normalization."""
    count = 0
    for node in list(graph):
        if not node.is_op("SkipRMSNormalization", domain=FUSED_DOMAIN):
            continue
        x, skip, scale = node.inputs[:3]
        for product, residual in ((skip, x), (x, skip)):
            if product is None or residual is None or product.only_use() is not node:
                continue
            shape, old = product.shape, product.producer
            if shape is None or None in shape or residual.shape != shape or old is None:
                continue
            if not _is_product(product):
                continue
            inputs, attributes = _projection(old)
            build = Builder(node)
            made = _made(build, old, [*inputs[:6], residual], attributes)
            normal = build.node(
                "RMSNormalization",
                [made.output, scale],
                {"axis": -1, "epsilon": float(node.attribute("epsilon", 1e-5))},
                type=node.output.type,
            )
            normal.name = node.name
            node.outputs[0].replace_uses(normal.output)
            if len(node.outputs) > 1:
                node.outputs[1].replace_uses(made.output)
            inherit([made], [old])
            graph.remove(node)
            graph.remove(old)
            count += 1
            break
    return count


def _take_in_normalizations(graph: Graph) -> int:
    """The normalization of the rows of products."""
    count = 0
    for node in list(graph):
        readers = _readers(node) if node.is_op("RMSNormalization") else None
        if not readers:
            continue
        x, scale = node.inputs[:2]
        for reader in readers:
            inputs, attributes = _projection(reader)
            attributes["epsilon"] = float(attribute_of(node, "epsilon"))
            made = _made(Builder(reader), reader, [x, *inputs[1:5], scale, inputs[6]], attributes)
            reader.output.replace_uses(made.output)
            inherit([made], [node, reader])
            graph.remove(reader)
        graph.remove(node)
        count += 1
    return count


def _readers(node: Node) -> list[Node] | None:
    """The products that alone read a normalization of rows, if they can do it themselves."""
    x, scale = node.inputs[:2]
    if x is None or scale is None or scale.rank != 1 or scale.dtype is not x.dtype or not x.rank:
        return None
    if attribute_of(node, "axis") not in (-1, x.rank - 1) or attribute_of(node, "stash_type") != 1:
        return None
    y = node.output
    if y.is_graph_output or len(y.uses) > _MOST_READERS:
        return None
    if any(use.index != 0 for use in y.uses):  # a residual that is added to the product, too
        return None
    readers = [use.node for use in y.uses]
    for reader in readers:
        plain = reader.outputs and _is_product(reader.outputs[0])
        fused = reader.is_op("ProjectNBits", domain=FUSED_DOMAIN) and reader.input(5) is None
        if not (plain or fused) or reader.graph is not node.graph or reader.inputs[0] is not y:
            return None
    return readers
