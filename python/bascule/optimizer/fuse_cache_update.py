# SPDX-License-Identifier: Apache-2.0
"""Let Attention bring new keys and values to its caches, which it reads while it copies them.

For providers on which memory is slower than arithmetic.

Before:
    g (float[1,1,8] q, float[1,1,4] k, float[1,1,4] v, float[1,1,6,4] pk, float[1,1,6,4] pv,
       int64[1] first, int64[1] all, int64[1] valid)
        => (float[1,1,8] y, float[1,1,7,4] nk, float[1,1,7,4] nv) {
        nk = bascule.UpdateCache(pk, k, first, all)
        nv = bascule.UpdateCache(pv, v, first, all)
        y = bascule.Attention<q_num_heads = 2>(q, nk, nv, , , , valid)
    }
After:
    g (float[1,1,8] q, float[1,1,4] k, float[1,1,4] v, float[1,1,6,4] pk, float[1,1,6,4] pv,
       int64[1] first, int64[1] all, int64[1] valid)
        => (float[1,1,8] y, float[1,1,7,4] nk, float[1,1,7,4] nv) {
        y, nk, nv = bascule.Attention<q_num_heads = 2, kv_num_heads = 1>(q, k, v, , pk, pv, valid,
            , first, all)
    }
"""

from __future__ import annotations

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node
from bascule.ir.replaced import inherit
from bascule.optimizer.context import Context
from bascule.optimizer.fuse_cache_rows import cache_updates
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.rewrite import Builder


@graph_pass
def fuse_cache_update(graph: Graph, context: Context) -> int:
    return sum(
        _fuse(each, node)
        for each in list(graph.walk_graphs())
        for node in list(each)
        if node.is_op("Attention", domain=FUSED_DOMAIN) and len(node.outputs) == 1
    )


def _fuse(graph: Graph, attention: Node) -> int:
    updates = cache_updates(graph, attention)
    if updates is None:
        return 0
    keys, values = updates
    shape = None if keys.inputs[0] is None else keys.inputs[0].shape
    heads = shape[1] if shape is not None and len(shape) == 4 else None
    if not isinstance(heads, int):
        return 0
    query, _, _, mask, _, _, valid, sink = (*attention.inputs, *[None] * 8)[:8]
    inputs = [query, keys.inputs[1], values.inputs[1], mask, keys.inputs[0], values.inputs[0]]
    made = Builder(attention).node(
        "Attention",
        [*inputs, valid, sink, *keys.inputs[2:]],
        attention.attributes | {"kv_num_heads": heads},
        outputs=3,
        domain=FUSED_DOMAIN,
    )
    made.name = attention.name
    inherit([made], [attention, *updates])
    for new, old in zip(made.outputs, (attention.output, keys.output, values.output)):
        new.type = old.type
        old.replace_uses(new)
    for node in (attention, *updates):
        graph.remove(node)
    return 1
