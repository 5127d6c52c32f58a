# SPDX-License-Identifier: Apache-2.0
"""Functions of several tensors, element by element, that broadcast their shapes."""

from __future__ import annotations

from bascule.gradient.build import Builder, Term, known_constant
from bascule.gradient.registry import Gradients, gradient
from bascule.ir.graph import Node


@gradient("Add", broadcasts=True)
def add(node: Node, dy: Term, build: Builder) -> Gradients:
    return [dy, dy]


@gradient("Sub", broadcasts=True)
def sub(node: Node, dy: Term, build: Builder) -> Gradients:
    return [dy, -dy]


@gradient("Mul", broadcasts=True)
def mul(node: Node, dy: Term, build: Builder) -> Gradients:
    a, b = build.inputs(node)
    return [dy * b, dy * a]


@gradient("Div", broadcasts=True)
def div(node: Node, dy: Term, build: Builder) -> Gradients:
    _, b = build.inputs(node)
    quotient = dy / b
    return [quotient, -quotient * build(node.output)]


@gradient("Mod", broadcasts=True)
def mod(node: Node, dy: Term, build: Builder) -> Gradients:
    """``y = a - n * b``, with a whole number n."""
    a, b = build.inputs(node)
    return [dy, -dy * build.Round((a - build(node.output)) / b)]


@gradient("Pow", broadcasts=True)
def pow_(node: Node, dy: Term, build: Builder) -> Gradients:
    x, exponent = build.inputs(node)
    y = build(node.output)
    power = build.cast(exponent, x.dtype)
    by_exponent = build.Where(build.Equal(x, 0), 0, y * build.Log(x))
    return [dy * _power_slope(build, x, power), dy * by_exponent]


def _power_slope(build: Builder, x: Term, power: Term) -> Term:
    """``power * x ** (power - 1)``, zero for the zeroth power of zero."""
    array = known_constant(power.value)
    if array is None or array.size != 1:
        zeroth = build.Equal(power, 0)
        return power * build.Pow(x, build.Where(zeroth, 1, power - 1))
    number = float(array.reshape(())[()])
    if number == 1 or number == 0:
        return build.expand_like(build.number(number, x.dtype), x)
    lower = x if number == 2 else build.Pow(x, build.number(number - 1, x.dtype))
    return lower * number


@gradient("Sum", broadcasts=True)
def sum_(node: Node, dy: Term, build: Builder) -> Gradients:
    return [dy] * len(node.inputs)


@gradient("Mean", broadcasts=True)
def mean(node: Node, dy: Term, build: Builder) -> Gradients:
    return [dy * (1 / len(node.inputs))] * len(node.inputs)


@gradient("Max", "Min", broadcasts=True)
def extremum(node: Node, dy: Term, build: Builder) -> Gradients:
    """Inputs that are equal share the gradient."""
    y = build(node.output)
    chosen = [build.Equal(x, y) for x in build.inputs(node)]
    if len(chosen) == 1:
        return [dy]
    share = dy / build.Sum(*(build.cast(each, dy.dtype) for each in chosen))
    return [build.Where(each, share, 0) for each in chosen]


@gradient("Clip", broadcasts=True)
def clip(node: Node, dy: Term, build: Builder) -> Gradients:
    """At the bounds x still counts. If the bounds are crossed, the result is the upper one."""
    x = build(node.inputs[0])  # type: ignore[arg-type]
    lower, upper = build.optional(node.input(1)), build.optional(node.input(2))
    by_lower = by_upper = None
    if upper is not None:
        x_or_lower = x if lower is None else build.Max(x, lower)
        above = x_or_lower > upper
        by_upper = build.Where(above, dy, 0)
        dy = build.Where(above, 0, dy)
    if lower is not None:
        below = x < lower
        by_lower = build.Where(below, dy, 0)
        dy = build.Where(below, 0, dy)
    return [dy, by_lower, by_upper]


@gradient("Where", broadcasts=True)
def where(node: Node, dy: Term, build: Builder) -> Gradients:
    condition = build.inputs(node)[0]
    return [None, build.Where(condition, dy, 0), build.Where(condition, 0, dy)]
