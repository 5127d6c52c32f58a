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

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.rewrite import Builder


@graph_pass
def fuse_cache_rows(graph: Graph, context: Context) -> int:
    count = 0
    for each in list(graph.walk_graphs()):
        for node in list(each):
            if node.is_op("Attention", domain=FUSED_DOMAIN):
                count += _fuse(each, node)
    return count


def _fuse(graph: Graph, attention: Node) -> int:
    query, updates = attention.inputs[0], []
    for value in attention.inputs[1:3]:
        node = None if value is None else value.producer
        if node is None or not node.is_op("UpdateCache", domain=FUSED_DOMAIN):
            return 0
        if node.graph is not graph or any(use.node is not attention for use in node.output.uses):
            return 0
        updates.append(node)
    keys, values = updates
    if keys is values or keys.inputs[2:] != values.inputs[2:] or query is None:
        return 0
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
    made.name = keys.name
    gone = updates
    if attributes and turns[0] is not None and turns[1] is not None:
        made.outputs[0].type = query.type
        query.replace_uses(made.outputs[0])
        gone = [*updates, turns[0], turns[1]]
    for new, update in zip(made.outputs[1:], updates):
        new.type = update.output.type
        update.output.replace_uses(new)
    for node in gone:
        graph.remove(node)
    return 1


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
