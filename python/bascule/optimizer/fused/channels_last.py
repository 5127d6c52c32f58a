# SPDX-License-Identifier: Apache-2.0
"""Standard operators on tensors whose channels are the last axis."""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.fused.body import Body


def to_channels_first(body: Body, x: Value, rank: int) -> Value:
    """``[N, spatial..., C]`` as ``[N, C, spatial...]``."""
    return body.call("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])


def to_channels_last(body: Body, x: Value, rank: int) -> Value:
    """``[N, C, spatial...]`` as ``[N, spatial..., C]``."""
    return body.call("Transpose", x, perm=[0, *range(2, rank), 1])


def define_channels_last(node: Node) -> Body | None:
    """The standard operator of the same name, between transposes when channels are last."""
    names = ("X", "scale", "bias")
    body = Body(node, *names)
    attributes = {k: v for k, v in node.attributes.items() if k != "channels_last"}
    x, others = body.input("X"), [body.optional(name) for name in names[1 : len(node.inputs)]]
    if not node.attribute("channels_last", 0):
        return body.output(body.call(node.op_type, x, *others, **attributes))
    rank = x.rank
    if rank is None:
        return None
    y = body.call(node.op_type, to_channels_first(body, x, rank), *others, **attributes)
    return body.output(to_channels_last(body, y, rank))
