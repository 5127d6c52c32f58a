# SPDX-License-Identifier: Apache-2.0
"""The matcher: operands, constants, attributes, and who else reads a value."""

from __future__ import annotations

import math

import pytest

from bascule.ir.graph import Graph, Node
from bascule.optimizer.pattern import (
    Operation,
    any_of,
    const,
    constants,
    find_matches,
    op,
    optional,
    shared,
    values,
)
from tests.optimizer.graphs import parse

x, y = values("x", "y")
(c,) = constants("c")


def graph(body: str, inputs: str = "float[2,3] a, float[2,3] b", constants: str = "") -> Graph:
    model = parse(f"g ({inputs}) => (float[2,3] out) {constants} {{ {body} }}")
    return model.graph


def last(body: str, **keywords: str) -> Node:
    return graph(body, **keywords).nodes[-1]


def matches(pattern: Operation, node: Node) -> list[dict[str, str]]:
    found = []
    for bindings in find_matches(pattern, node):
        named = {str(k): v.name for k, v in bindings.items() if k in (x, y, c)}
        found.append(named)
    return found


def test_operands_in_order() -> None:
    assert matches(op.Sub(x, y), last("out = Sub(a, b)")) == [{"x": "a", "y": "b"}]


def test_commutative_operands_in_both_orders() -> None:
    found = matches(op.Add(x, y), last("out = Add(a, b)"))
    assert found == [{"x": "a", "y": "b"}, {"x": "b", "y": "a"}]
    assert matches(op.Add(op.Neg(x), y), last("t = Neg(a) out = Add(b, t)")) == [
        {"x": "a", "y": "b"}
    ]


def test_one_variable_is_one_value() -> None:
    assert matches(op.Mul(x, x), last("out = Mul(a, a)"))
    assert not matches(op.Mul(x, x), last("out = Mul(a, b)"))
    node = last("t = Neg(a) u = Exp(a) out = Mul(t, u)")
    assert matches(op.Mul(op.Neg(x), op.Exp(x)), node)


def test_backtracks_into_the_other_order() -> None:
    node = last("t = Add(a, b) out = Mul(t, b)")
    assert matches(op.Mul(op.Add(x, y), x), node) == [{"x": "b", "y": "a"}]


def test_inner_value_may_have_no_other_reader() -> None:
    pattern = op.Exp(op.Neg(x))
    node = graph("t = Neg(a) u = Exp(t) out = Add(t, u)").nodes[1]
    assert not matches(pattern, node)
    assert matches(op.Exp(shared(op.Neg(x))), node)


def test_inner_value_may_not_be_an_output() -> None:
    model = parse("g (float[2] a) => (float[2] t, float[2] u) { t = Neg(a) u = Exp(t) }")
    assert not matches(op.Exp(op.Neg(x)), model.graph.nodes[1])


def test_value_read_twice_inside_the_match() -> None:
    inner = op.Neg(x)
    assert matches(op.Mul(inner, op.Exp(inner)), last("t = Neg(a) u = Exp(t) out = Mul(t, u)"))


@pytest.mark.parametrize(
    ("number", "constant", "found"),
    [
        (2, "float k = {2}", True),
        (2, "float k = {2.000001}", False),
        (0.1, "float k = {0.1}", True),
        (math.sqrt(2), "float k = {1.41421}", True),
        (math.sqrt(2), "float k = {1.414}", False),
        (0.0, "float k = {-0.0}", False),
        (2, "float[1] k = {2}", True),
        (2, "float[1,1,1] k = {2}", False),
        (2, "float[3] k = {2, 2, 2}", False),
    ],
)
def test_numbers(number: float, constant: str, found: bool) -> None:
    node = last("out = Mul(a, k)", constants=f"<{constant}>")
    assert bool(matches(op.Mul(x, number), node)) is found


def test_uniform_constant() -> None:
    node = last("out = Mul(a, k)", constants="<float[3] k = {2, 2, 2}>")
    assert matches(op.Mul(x, const(2, uniform=True)), node)
    node = last("out = Mul(a, k)", constants="<float[3] k = {2, 2, 3}>")
    assert not matches(op.Mul(x, const(2, uniform=True)), node)


def test_default_of_an_input_is_not_constant() -> None:
    node = last("out = Mul(a, b)", constants="<float[2,3] b = {1, 1, 1, 1, 1, 1}>")
    assert not matches(op.Mul(x, c), node)


def test_attributes() -> None:
    node = last("out = Softmax(a)")
    assert matches(op.Softmax(x, axis=-1), node), "a missing attribute has its default"
    assert not matches(op.Softmax(x, axis=1), node)
    assert matches(op.Softmax(x, axis=lambda axis: axis < 0), node)


def test_number_of_inputs() -> None:
    node = last("out = Clip(a, low)", constants="<float low = {0}>")
    assert not matches(op.Clip(x), node)
    assert matches(op.Clip(x, c), node)
    assert matches(op.Clip(x, ...), node)
    assert matches(op.Clip(x, c, optional(y)), node)
    assert matches(op.Clip(x, c, None), node)
    assert not matches(op.Clip(x, c, y), node)


def test_alternatives() -> None:
    pattern = op.Exp(any_of(op.Neg(x), op.Abs(x)))
    assert matches(pattern, last("t = Abs(a) out = Exp(t)"))
    assert not matches(pattern, last("t = Relu(a) out = Exp(t)"))
    assert matches(op["Exp", "Log"](x), last("out = Log(a)"))


def test_outputs() -> None:
    text = "g (float[2,4] a) => (float[2,2] out) {{ s, t = Split<axis=1,num_outputs=2>(a) {} }}"
    split = op.Split(x, ..., outputs=2)
    node = parse(text.format("out = Sub(t, s)")).graph.nodes[-1]
    assert matches(op.Sub(split[1], split[0]), node)
    assert not matches(op.Sub(split[0], split[1]), node)
    assert not matches(op.Sub(op.Split(x, ...)[0], op.Split(x, ...)[1]), node)


def test_does_not_reach_out_of_a_body() -> None:
    model = parse(
        """g (float[2] a, bool k) => (float[2] out) {
            t = Neg(a)
            out = If(k) <
                then_branch = p () => (float[2] u) { u = Exp(t) },
                else_branch = q () => (float[2] v) { w = Neg(a) v = Exp(w) }
            >
        }"""
    )
    branches = model.graph.nodes[-1].attributes
    assert not matches(op.Exp(op.Neg(x)), branches["then_branch"].nodes[-1])
    assert matches(op.Exp(op.Neg(x)), branches["else_branch"].nodes[-1])
