# SPDX-License-Identifier: Apache-2.0
"""A product whose columns are several results."""

from __future__ import annotations

from bascule.ir.graph import Node
from bascule.optimizer.fused.body import Body


def define_split_matmul(node: Node) -> Body:
    """The columns of ``A @ B + bias`` in equal parts."""
    body = Body(node, "A", "B", "bias")
    y = body.call("MatMul", body.input("A"), body.input("B"))
    bias = body.optional("bias")
    if bias is not None:
        y = body.call("Add", y, bias)
    count = len(node.outputs)
    split = Node("Split", [y], count, {"axis": -1, "num_outputs": count})
    return body.output(*body.graph.append(split).outputs)
