# SPDX-License-Identifier: Apache-2.0
"""Activation functions. Where one has a kink, its derivative there is that of one side.

What is masked out is selected away, not multiplied by zero: it may be infinite.
"""

from __future__ import annotations

import math

from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Gradients, elementwise, gradient
from bascule.ir.graph import Node


@elementwise("Relu")
def relu(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return build.Where(x > 0, dy, 0)


@elementwise("LeakyRelu")
def leaky_relu(dy: Term, x: Term, y: Term, build: Builder, alpha: float = 0.01) -> Term:
    return build.Where(x < 0, dy * alpha, dy)


@gradient("PRelu", broadcasts=True)
def prelu(node: Node, dy: Term, build: Builder) -> Gradients:
    x, slope = build.inputs(node)
    negative = x < 0
    return [build.Where(negative, dy * slope, dy), build.Where(negative, dy * x, 0)]


@elementwise("ThresholdedRelu")
def thresholded_relu(dy: Term, x: Term, y: Term, build: Builder, alpha: float = 1.0) -> Term:
    return build.Where(x > alpha, dy, 0)


@elementwise("Shrink")
def shrink(
    dy: Term, x: Term, y: Term, build: Builder, bias: float = 0.0, lambd: float = 0.5
) -> Term:
    return build.Where(build.Or(x < -lambd, x > lambd), dy, 0)


@elementwise("Elu")
def elu(dy: Term, x: Term, y: Term, build: Builder, alpha: float = 1.0) -> Term:
    return build.Where(x > 0, dy, dy * (y + alpha))


@elementwise("Selu")
def selu(
    dy: Term,
    x: Term,
    y: Term,
    build: Builder,
    alpha: float = 1.6732631921768188,
    gamma: float = 1.0507010221481323,
) -> Term:
    return build.Where(x > 0, dy * gamma, dy * (y + gamma * alpha))


@elementwise("Celu")
def celu(dy: Term, x: Term, y: Term, build: Builder, alpha: float = 1.0) -> Term:
    return build.Where(x > 0, dy, dy * (y * (1 / alpha) + 1))


@elementwise("Sigmoid")
def sigmoid(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * (y * (1 - y))


@elementwise("HardSigmoid")
def hard_sigmoid(
    dy: Term,
    x: Term,
    y: Term,
    build: Builder,
    alpha: float = 0.20000000298023224,
    beta: float = 0.5,
) -> Term:
    return build.Where((y > 0) & (y < 1), dy * alpha, 0)


@elementwise("HardSwish")
def hard_swish(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    inside = build.Where(x < 3, dy * (x * (1 / 3) + 0.5), dy)
    return build.Where(x > -3, inside, 0)


@elementwise("Swish")
def swish(dy: Term, x: Term, y: Term, build: Builder, alpha: float = 1.0) -> Term:
    gate = build.Sigmoid(x * alpha)
    return dy * (gate + y * (1 - gate) * alpha)


@elementwise("Mish")
def mish(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    gate = build.Tanh(build.Softplus(x))
    return dy * (gate + x * build.Sigmoid(x) * (1 - gate * gate))


@elementwise("Softplus")
def softplus(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * build.Sigmoid(x)


@elementwise("Softsign")
def softsign(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    size = build.Abs(x) + 1
    return dy / (size * size)


@elementwise("Gelu")
def gelu(dy: Term, x: Term, y: Term, build: Builder, approximate: str = "none") -> Term:
    if approximate == "tanh":
        root, cubic = math.sqrt(2 / math.pi), 0.044715
        bent = build.Tanh((x + x * x * x * cubic) * root)
        slope = (x * x * (3 * cubic) + 1) * root
        return dy * ((bent + 1) * 0.5 + x * 0.5 * (1 - bent * bent) * slope)
    share = (build.Erf(x * math.sqrt(0.5)) + 1) * 0.5
    density = build.Exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return dy * (share + x * density)
