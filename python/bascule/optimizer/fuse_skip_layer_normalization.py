# SPDX-License-Identifier: Apache-2.0
"""Fuse Add and the normalization of the sum; the sum stays an output for its other readers.

Before:
    g (float[2,8] x, float[2,8] s, float[8] w, float[8] b) => (float[2,8] y, float[2,8] t) {
        t = Add(x, s)
        y = LayerNormalization(t, w, b)
    }
After:
    g (float[2,8] x, float[2,8] s, float[8] w, float[8] b) => (float[2,8] y, float[2,8] t) {
        y, t = bascule.SkipLayerNormalization<epsilon = 1e-05>(x, s, w, b)
    }
"""

from __future__ import annotations

from bascule.ir.graph import FUSED_DOMAIN, Value
from bascule.ir.replaced import inherit
from bascule.optimizer.pattern import attribute_of, op, shared, values
from bascule.optimizer.rewrite import Builder, Match, Reject, rule

x, skip = values("x", "skip")

_SUM = shared(op.Add(x, skip))


@rule(op.LayerNormalization(_SUM, ...), op.RMSNormalization(_SUM, ...))
def fuse_skip_layer_normalization(match: Match) -> Value | Reject | None:
    node, add, total = match.root, match.node(_SUM), match[_SUM]
    if total.rank is None or attribute_of(node, "axis") not in (-1, total.rank - 1):
        return None
    if total.dtype is None or any(not output.is_unused for output in node.outputs[1:]):
        return None
    operands = _operands(match[x], match[skip], total)
    if operands is None:
        return Reject("one operand of the sum does not have its shape", match[x], match[skip])
    parameters = node.inputs[1:]
    if any(value is not None and value.producer is not None for value in parameters):
        return Reject("scale or bias are computed", total)
    # In the place of the Add: other readers of the sum may stand before the normalization.
    made = Builder(add).node(
        f"Skip{node.op_type}",
        [*operands, *parameters],
        {"epsilon": float(attribute_of(node, "epsilon"))},
        outputs=2,
        domain=FUSED_DOMAIN,
        type=total.type,
    )
    made.name = node.name
    inherit([made], [node])
    made.outputs[1].type = total.type
    total.replace_uses(made.outputs[1])
    assert add.graph is not None
    add.graph.remove(add)
    return made.outputs[0]


def _operands(first: Value, second: Value, total: Value) -> tuple[Value, Value] | None:
    """The operands, first one of the shape of the sum; the other may repeat on leading axes."""
    if total.shape is None or None in total.shape:
        return None
    for value, other in ((first, second), (second, first)):
        shape = other.shape
        if value.shape != total.shape or shape is None:
            continue
        kept = len(shape)
        while kept and shape[len(shape) - kept] == 1:
            kept -= 1
        if kept and shape[len(shape) - kept :] == total.shape[len(total.shape) - kept :]:
            return value, other
    return None
