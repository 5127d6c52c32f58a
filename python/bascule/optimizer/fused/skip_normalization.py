# SPDX-License-Identifier: Apache-2.0
"""A normalization of the sum of two values, which is an output too."""

from __future__ import annotations

from bascule.ir.graph import Node
from bascule.optimizer.fused.body import Body


def define_skip_layer_normalization(node: Node) -> Body:
    """``sum = X + skip; Y = LayerNormalization(sum)`` over the last axis."""
    body = Body(node, "X", "skip", "scale", "bias")
    total = body.call("Add", body.input("X"), body.input("skip"))
    inputs = [total, body.input("scale")]
    bias = body.optional("bias")
    if bias is not None:
        inputs.append(bias)
    epsilon = float(node.attribute("epsilon", 1e-5))
    return body.output(body.call("LayerNormalization", *inputs, axis=-1, epsilon=epsilon), total)


def define_skip_rms_normalization(node: Node) -> Body:
    """``sum = X + skip; Y = RMSNormalization(sum)`` over the last axis."""
    body = Body(node, "X", "skip", "scale")
    total = body.call("Add", body.input("X"), body.input("skip"))
    epsilon = float(node.attribute("epsilon", 1e-5))
    y = body.call("RMSNormalization", total, body.input("scale"), axis=-1, epsilon=epsilon)
    return body.output(y, total)
