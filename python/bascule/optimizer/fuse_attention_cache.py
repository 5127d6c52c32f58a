# SPDX-License-Identifier: Apache-2.0
"""Let Attention append the new keys and values to those of earlier steps.

Before:
    g (float[2,4,1,8] q, float[2,4,1,8] k, float[2,4,1,8] v, float[2,4,6,8] pk, float[2,4,6,8] pv)
        => (float[2,4,1,8] y, float[2,4,7,8] nk, float[2,4,7,8] nv) {
        nk = Concat<axis = 2>(pk, k)
        nv = Concat<axis = 2>(pv, v)
        y = Attention<scale = 0.25>(q, nk, nv)
    }
After:
    g (float[2,4,1,8] q, float[2,4,1,8] k, float[2,4,1,8] v, float[2,4,6,8] pk, float[2,4,6,8] pv)
        => (float[2,4,1,8] y, float[2,4,7,8] nk, float[2,4,7,8] nv) {
        y, nk, nv = Attention<scale = 0.25>(q, k, v, , pk, pv)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import op, optional, shared, values
from bascule.optimizer.rewrite import Match, Reject, rule

q, k, v, past_key, past_value, mask = values("q", "k", "v", "past_key", "past_value", "mask")

_KEYS = shared(op.Concat(past_key, k))
_VALUES = shared(op.Concat(past_value, v))


@rule(op.Attention(q, _KEYS, _VALUES, optional(mask)))
def fuse_attention_cache(match: Match) -> Value | Reject | None:
    node, keys, cached = match.root, match.node(_KEYS), match.node(_VALUES)
    if match[q].rank != 4 or any(each.attribute("axis") not in (2, -2) for each in (keys, cached)):
        return None
    if node.attribute("is_causal", 0):
        return Reject("the causal mask does not count from the end of the cache", match[q])
    if not _only_attended(keys, node) or not _only_attended(cached, node):
        return Reject("keys and values have other readers", keys.output, cached.output)
    made = match.build.node(
        "Attention",
        [match[q], match[k], match[v], match.get(mask), match[past_key], match[past_value]],
        node.attributes,
        outputs=3,
        type=node.output.type,
    )
    for present, old in zip(made.outputs[1:], (keys, cached)):
        present.type = old.output.type
        _hand_over(old.output, present, node)
    return made.output


def _only_attended(concat: Node, reader: Node) -> bool:
    """True when only `reader`, and graph outputs, read the result."""
    return all(use.node is reader for use in concat.output.uses)


def _hand_over(old: Value, new: Value, reader: Node) -> None:
    """Make `new` the graph output that `old` is; `reader` goes on to read `old`."""
    graph = reader.graph
    assert graph is not None
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.set_output(index, new)
