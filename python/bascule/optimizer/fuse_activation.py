# SPDX-License-Identifier: Apache-2.0
"""Fuse an activation into the MatMul or convolution before it.

Before:
    g (float[2,8] x, float[8,4] w) => (float[2,4] y) { t = MatMul(x, w) y = Relu(t) }
After:
    g (float[2,8] x, float[8,4] w) => (float[2,4] y) {
        y = bascule.MatMul<activation = "Relu">(x, w)
    }
Before:
    g (float[2,8] x, float[8,4] w) => (float[4,2] y) <int64[2] shape = {4, 2}> {
        t = MatMul(x, w)
        r = Reshape(t, shape)
        y = Relu(r)
    }
After:
    g (float[2,8] x, float[8,4] w) => (float[4,2] y) <int64[2] shape = {4, 2}> {
        t = bascule.MatMul<activation = "Relu">(x, w)
        y = Reshape(t, shape)
    }
"""

from __future__ import annotations

import math

from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.optimizer.attribute_precision import fits_attribute
from bascule.optimizer.fused.activation import PLAIN
from bascule.optimizer.pattern import any_of, attribute_of, constant_of, fused, op
from bascule.optimizer.rewrite import Match, Reject, rule

_PRODUCT = any_of(
    op["MatMul", "Conv", "ConvTranspose"](...),
    fused["MatMul", "Conv", "ConvTranspose"](..., activation=lambda name: not name),
)
_ACTIVATIONS = ("Clip", "Elu", "Gelu", "HardSigmoid", "LeakyRelu", "Swish", *sorted(PLAIN))


@rule(op[_ACTIVATIONS](_PRODUCT, ...))
def fuse_activation(match: Match) -> Value | Reject:
    producer, node = match.node(_PRODUCT), match.root
    dtype = node.output.dtype
    if dtype is None or not dtype.is_float:
        return Reject("the product is not of floating point", match[_PRODUCT])
    wanted = _attributes(node)
    if wanted is None:
        return Reject("the bounds are not constant numbers", match[_PRODUCT])
    parameters = [value for value in wanted.values() if isinstance(value, float)]
    if not all(fits_attribute(value, dtype) for value in parameters):
        return Reject("the bounds are more precise than an attribute", match[_PRODUCT])
    attributes = producer.attributes | wanted
    return match.build.node(
        producer.op_type,
        producer.inputs,
        attributes,
        domain=FUSED_DOMAIN,
        type=producer.output.type,
    ).output


_RESHAPED = op.Reshape(_PRODUCT, ...)


@rule(op[_ACTIVATIONS](_RESHAPED, ...))
def fuse_activation_before_reshape(match: Match) -> Value | Reject:
    fused_value = fuse_activation.function(match)
    if isinstance(fused_value, Reject):
        return fused_value
    reshape = match.node(_RESHAPED)
    inputs = [fused_value, *reshape.inputs[1:]]
    return match.build.node(
        "Reshape", inputs, reshape.attributes, type=match.root.output.type
    ).output


def _attributes(node: Node) -> dict[str, object] | None:
    name = node.op_type
    if name == "Gelu":
        tanh = attribute_of(node, "approximate") == "tanh"
        return {"activation": "GeluTanh" if tanh else "Gelu"}
    if name == "Clip":
        low, high = _bound(node, 1, -math.inf), _bound(node, 2, math.inf)
        if low is None or high is None or low > high:
            return None
        return {"activation": "Clip", "activation_alpha": low, "activation_beta": high}
    wanted: dict[str, object] = {"activation": name}
    for parameter in ("alpha", "beta"):
        value = attribute_of(node, parameter)
        if value is not None:
            wanted[f"activation_{parameter}"] = float(value)
    return wanted


def _bound(node: Node, index: int, default: float) -> float | None:
    value = node.input(index)
    if value is None:
        return default
    constant = constant_of(value)
    return float(constant.numpy().reshape(-1)[0]) if constant and constant.size == 1 else None
