# SPDX-License-Identifier: Apache-2.0
"""Let one operator turn the new queries and keys of a step, and write keys and values to caches.

For providers that start one operation sooner than four.

Before:
    g (float[1,1,8] q, float[1,1,4] k, float[1,1,4] v, float[1,1,6,4] pk, float[1,1,6,4] pv,
       float[9,2] c, float[9,2] s, int64[1,1] at, int64[1] first, int64[1] all, int64[1] valid)
        => (float[1,1,8] y, float[1,1,6,4] nk, float[1,1,6,4] nv) {
        tq = RotaryEmbedding<num_heads = 2>(q, c, s, at)
        tk = RotaryEmbedding<num_heads = 1>(k, c, s, at)
        nk = bascule.UpdateCache(pk, tk, first, all)
        nv = bascule.UpdateCache(pv, v, first, all)
        y = bascule.Attention<q_num_heads = 2>(tq, nk, nv, , , , valid)
    }
After:
    g (float[1,1,8] q, float[1,1,4] k, float[1,1,4] v, float[1,1,6,4] pk, float[1,1,6,4] pv,
       float[9,2] c, float[9,2] s, int64[1,1] at, int64[1] first, int64[1] all, int64[1] valid)
        => (float[1,1,8] y, float[1,1,6,4] nk, float[1,1,6,4] nv) {
        tq, nk, nv = bascule.CacheRows<num_heads = 2, kv_num_heads = 1, interleaved = 0,
            rotary_embedding_dim = 0>(q, k, v, pk, pv, first, all, c, s, at)
        y = bascule.Attention<q_num_heads = 2>(tq, nk, nv, , , , valid)
    }
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.replaced import inherit
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import attribute_of
from bascule.optimizer.rewrite import Builder


@graph_pass
def fuse_cache_rows(graph: Graph, context: Context) -> int:
    count = 0
    for each in list(graph.walk_graphs()):
        for node in list(each):
            if node.is_op("Attention", domain=FUSED_DOMAIN):
                count += _fuse(each, node)
            elif node.is_op("Attention"):
                count += _fuse_scatters(each, node)
    return count


def _fuse_scatters(graph: Graph, attention: Node) -> int:
    """The two TensorScatters of a step of one row."""
    scatters = _makers(graph, attention, "TensorScatter", "")
    if scatters is None or scatters[0].input(2) is None:
        return 0
    if any(node.inputs[2] is not scatters[0].inputs[2] for node in scatters):
        return 0
    rows = []
    build = Builder(attention)
    for node in scatters:
        cache, new = node.inputs[:2]
        known = () if new is None or new.shape is None else new.shape
        if cache is None or len(known) != 4 or known[2] != 1 or cache.rank != 4:
            return 0
        if attribute_of(node, "axis") not in (2, -2) or attribute_of(node, "mode") != "linear":
            return 0
        if not all(isinstance(size, int) for size in (known[1], known[3])):
            return 0
        rows.append(new)
    flat = [build.Reshape(new, np.array([0, 1, -1], np.int64)) for new in rows]
    inputs = [None, *flat, *[node.inputs[0] for node in scatters], scatters[0].inputs[2]]
    grows = np.zeros(1, np.int64)
    made = build.node("CacheRows", [*inputs, grows], outputs=3, domain=FUSED_DOMAIN)
    _put(graph, made, scatters)
    return 1


def _fuse(graph: Graph, attention: Node) -> int:
    query, updates = attention.inputs[0], cache_updates(graph, attention)
    if query is None or updates is None:
        return 0
    keys, values = updates
    inputs = [None, keys.inputs[1], values.inputs[1], keys.inputs[0], values.inputs[0]]
    inputs += keys.inputs[2:]
    attributes = {}
    turns = [_rotation(query, attention), _rotation(keys.inputs[1], keys)]
    if turns[0] is not None and turns[1] is not None and _alike(turns[0], turns[1]):
        inputs[:2] = [turns[0].inputs[0], turns[1].inputs[0]]
        inputs += turns[0].inputs[1:]
        attributes = {
            "num_heads": int(turns[0].attribute("num_heads")),
            "kv_num_heads": int(turns[1].attribute("num_heads")),
            "interleaved": int(turns[0].attribute("interleaved", 0)),
            "rotary_embedding_dim": int(turns[0].attribute("rotary_embedding_dim", 0)),
        }
    build = Builder(attention)
    made = build.node("CacheRows", inputs, attributes, outputs=3, domain=FUSED_DOMAIN)
    if attributes and turns[0] is not None and turns[1] is not None:
        made.outputs[0].type = query.type
        query.replace_uses(made.outputs[0])
    _put(graph, made, updates)
    for turn in turns if attributes else ():
        if turn is not None:
            inherit([made], [turn])
            graph.remove(turn)
    return 1


def cache_updates(graph: Graph, attention: Node) -> list[Node] | None:
    """The two UpdateCaches with the same starts of an attention, which alone reads them."""
    updates = _makers(graph, attention, "UpdateCache", FUSED_DOMAIN)
    return updates if updates and updates[0].inputs[2:] == updates[1].inputs[2:] else None


def _makers(graph: Graph, attention: Node, op_type: str, domain: str) -> list[Node] | None:
    """The nodes that make the keys and values of an attention, which alone reads them."""
    found = []
    for value in attention.inputs[1:3]:
        node = None if value is None else value.producer
        if node is None or not node.is_op(op_type, domain=domain) or node.graph is not graph:
            return None
        if any(use.node is not attention for use in node.output.uses):
            return None
        found.append(node)
    return found if len(found) == 2 and found[0] is not found[1] else None


def _put(graph: Graph, made: Node, updates: Sequence[Node]) -> None:
    """Let a CacheRows take the place of the updates of keys and of values."""
    made.name = updates[0].name
    inherit([made], updates)
    for new, update in zip(made.outputs[1:], updates):
        new.type = update.output.type
        update.output.replace_uses(new)
    for update in updates:
        graph.remove(update)


def _rotation(value: Value | None, reader: Node) -> Node | None:
    """The rotation by tables and position ids that `reader` alone reads."""
    node = None if value is None else value.producer
    if node is None or value is None or not node.is_op("RotaryEmbedding"):
        return None
    if node.graph is not reader.graph or value.only_use() is not reader or node.input(3) is None:
        return None
    return node if value.rank == 3 else None


def _alike(first: Node, second: Node) -> bool:
    """Whether two rotations differ in their rows alone."""
    names = ("interleaved", "rotary_embedding_dim")
    return first.inputs[1:] == second.inputs[1:] and all(
        first.attribute(name, 0) == second.attribute(name, 0) for name in names
    )
