# SPDX-License-Identifier: Apache-2.0
"""Fuse the Add of a value of the same shape into the MatMul or Conv before it.

Before:
    g (float[2,8] x, float[8,8] w) => (float[2,8] y) { t = MatMul(x, w) y = Add(x, t) }
After:
    g (float[2,8] x, float[8,8] w) => (float[2,8] y) { y = bascule.MatMul(x, w, , x) }
Rejects, "the shapes are not known to be equal":
    g (float[2,8] x, float[8,8] w, float[1,8] r) => (float[2,8] y) {
        t = MatMul(x, w)
        y = Add(t, r)
    }
"""

from __future__ import annotations

from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.optimizer.pattern import op, values
from bascule.optimizer.rewrite import Match, Reject, rule

left, right = values("left", "right")


@rule(op.Add(left, right))
def fuse_residual_add(match: Match) -> Value | Reject | None:
    candidates = [
        (value.producer, other)
        for value, other in zip(match.root.inputs, reversed(match.root.inputs))
        if value is not None and other is not None and _takes_residual(value, match.root)
    ]
    if not candidates:
        return None
    if len(candidates) == 2:
        # The later product then reads what the earlier one wrote; it would have to wait anyway.
        candidates.sort(key=lambda each: _is_before(each[0], each[1].producer))
    producer, residual = candidates[0]
    assert producer is not None
    y = producer.output
    if y.shape is None or residual.shape != y.shape or None in y.shape:
        return Reject("the shapes are not known to be equal", *match.root.inputs)  # type: ignore[arg-type]
    inputs = [*producer.inputs, None, None][:3]
    return match.build.node(
        producer.op_type, [*inputs, residual], producer.attributes, domain=FUSED_DOMAIN, type=y.type
    ).output


def _takes_residual(value: Value, reader: Node) -> bool:
    node = value.producer
    return (
        node is not None
        and node.graph is reader.graph
        and (node.is_op("MatMul", "Conv") or node.is_op("MatMul", "Conv", domain=FUSED_DOMAIN))
        and not node.attribute("activation", "")
        and node.input(3) is None
        and value.only_use() is reader
        and value.dtype is not None
        and value.dtype.is_float
    )


def _is_before(node: Node | None, other: Node | None) -> bool:
    """True when `node` comes before `other` in their graph."""
    assert node is not None and other is not None and node.graph is not None
    return next(each for each in node.graph if each is node or each is other) is node
