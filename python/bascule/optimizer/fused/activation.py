# SPDX-License-Identifier: Apache-2.0
"""The activation at the end of a fused MatMul or convolution."""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.fused.body import Body

PLAIN = frozenset(("Relu", "Sigmoid", "Tanh", "HardSwish"))
"""Activations without parameters that are operators of the same name."""

WITH_ALPHA = frozenset(("LeakyRelu", "Swish", "Elu"))
"""Activations that are operators with one parameter, alpha."""


def activate(body: Body, node: Node, x: Value, prefix: str = "") -> Value:
    """Append the activation that the attributes of `node` ask for, whose names begin so."""
    name = node.attribute(f"{prefix}activation", "")
    alpha = float(node.attribute(f"{prefix}activation_alpha", 0.0))
    beta = float(node.attribute(f"{prefix}activation_beta", 0.0))
    if not name:
        return x
    if name in PLAIN:
        return body.call(name, x)
    if name in WITH_ALPHA:
        return body.call(name, x, alpha=alpha)
    if name == "HardSigmoid":
        return body.call(name, x, alpha=alpha, beta=beta)
    if name == "Clip":
        return body.call("Clip", x, body.number(alpha, x), body.number(beta, x))
    if name == "Gelu":
        return body.call("Gelu", x, approximate="none")
    if name == "GeluTanh":
        return body.call("Gelu", x, approximate="tanh")
    raise ValueError(f"node '{node.name}' ({node.op_type}): unknown activation '{name}'")
