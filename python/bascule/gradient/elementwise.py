# SPDX-License-Identifier: Apache-2.0
"""Functions of one tensor, element by element."""

from __future__ import annotations

import math

from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Gradients, elementwise, gradient, no_gradient
from bascule.ir.graph import Node

no_gradient("Ceil", "Floor", "Round", "Sign")


@gradient("Identity", "Cast", "CastLike", inputs=1)
def identity(node: Node, dy: Term, build: Builder) -> Gradients:
    return [dy]


@elementwise("Neg")
def neg(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return -dy


@elementwise("Abs")
def abs_(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * build.Sign(x)


@elementwise("Exp")
def exp(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * y


@elementwise("Log")
def log(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy / x


@elementwise("Sqrt")
def sqrt(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * 0.5 / y


@elementwise("Reciprocal")
def reciprocal(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return -dy * (y * y)


@elementwise("Erf")
def erf(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * (build.Exp(-x * x) * (2 / math.sqrt(math.pi)))


# --- trigonometric and hyperbolic functions


@elementwise("Sin")
def sin(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * build.Cos(x)


@elementwise("Cos")
def cos(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return -dy * build.Sin(x)


@elementwise("Tan")
def tan(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * (y * y + 1)


@elementwise("Asin")
def asin(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy / build.Sqrt(1 - x * x)


@elementwise("Acos")
def acos(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return -dy / build.Sqrt(1 - x * x)


@elementwise("Atan")
def atan(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy / (x * x + 1)


@elementwise("Sinh")
def sinh(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * build.Cosh(x)


@elementwise("Cosh")
def cosh(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * build.Sinh(x)


@elementwise("Tanh")
def tanh(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy * (1 - y * y)


@elementwise("Asinh")
def asinh(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy / build.Sqrt(x * x + 1)


@elementwise("Acosh")
def acosh(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy / (build.Sqrt(x - 1) * build.Sqrt(x + 1))


@elementwise("Atanh")
def atanh(dy: Term, x: Term, y: Term, build: Builder) -> Term:
    return dy / (1 - x * x)
