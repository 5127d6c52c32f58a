# SPDX-License-Identifier: Apache-2.0
"""Gradient nodes in a model: what their names and inputs mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import bascule
from bascule.errors import InvalidGraph, NotImplemented
from tests.gradient.differences import Array, normal

TRAINING = "ai.onnx.preview.training"


def parse(text: str, functions: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 24, "{TRAINING}" : 1, "local" : 1]>\n'
        f"{text.replace('Gradient', f'{TRAINING}.Gradient')}\n"
        f"{functions.replace('Gradient', f'{TRAINING}.Gradient')}"
    )


def run(proto: onnx.ModelProto, level: str = "ORT_ENABLE_ALL", **feeds: Any) -> list[Array]:
    options = bascule.SessionOptions()
    options.graph_optimization_level = getattr(bascule.GraphOptimizationLevel, level)
    return bascule.InferenceSession(proto.SerializeToString(), options).run(None, feeds)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_at_the_values_of_the_graph(level: str) -> None:
    proto = parse(
        "g (double[2,3] x, double[3] w) => (double[2,3] y, double[3] dw, double[2,3] dx) {"
        '  h = Mul(x, w) y = Tanh(h) dw, dx = Gradient<xs = ["w", "x"], y = "y">(w, x) }'
    )
    x, w = normal(2, 3), normal(3)
    y, dw, dx = run(proto, level, x=x, w=w)
    slope = 1 - np.tanh(x * w) ** 2
    np.testing.assert_allclose(y, np.tanh(x * w))
    np.testing.assert_allclose(dx, slope * w)
    np.testing.assert_allclose(dw, (slope * x).sum(0))


def test_at_other_values() -> None:
    """Of another shape too; w, which is not among the inputs, stays what it is."""
    proto = parse(
        "g (double[2,3] x, double[N,3] other, double[3] w) => (double[2,3] y, double[N,3] dx) {"
        "  h = Mul(x, w) y = Mul(h, h)"
        '  dx = Gradient<xs = ["x"], y = "y">(other) }'
    )
    x, other, w = normal(2, 3), normal(5, 3), normal(3)
    y, dx = run(proto, x=x, other=other, w=w)
    np.testing.assert_allclose(y, (x * w) ** 2)
    np.testing.assert_allclose(dx, 2 * other * w * w)


def test_values_that_are_held_fixed() -> None:
    """zs may be integers, and other ones than in the graph."""
    proto = parse(
        "g (double[4,2] x, int64[3] i, int64[2] j) => (double[4,2] dx) {"
        "  t = Gather(x, i) y = Mul(t, t)"
        '  dx = Gradient<xs = ["x"], zs = ["i"], y = "y">(x, j) }'
    )
    x = normal(4, 2)
    (dx,) = run(proto, x=x, i=np.array([0, 1, 2]), j=np.array([3, 3]))
    expected = np.zeros_like(x)
    expected[3] = 4 * x[3]
    np.testing.assert_allclose(dx, expected)


def test_one_value_for_two_variables() -> None:
    proto = parse(
        "g (double[2] a, double[2] b, double[2] v) => (double[2] da, double[2] db) {"
        '  s = Mul(a, a) y = Mul(s, b) da, db = Gradient<xs = ["a", "b"], y = "y">(v, v) }'
    )
    v = normal(2)
    da, db = run(proto, a=normal(2), b=normal(2), v=v)
    np.testing.assert_allclose(da, 2 * v * v)
    np.testing.assert_allclose(db, v * v)


def test_exchanged_values() -> None:
    proto = parse(
        "g (double[2] a, double[2] b) => (double[2] da, double[2] db) {"
        '  s = Mul(a, a) y = Mul(s, b) da, db = Gradient<xs = ["a", "b"], y = "y">(b, a) }'
    )
    a, b = normal(2), normal(2) * 3
    da, db = run(proto, a=a, b=b)
    np.testing.assert_allclose(da, 2 * b * a)
    np.testing.assert_allclose(db, b * b)


def test_variables_in_between_are_independent() -> None:
    proto = parse(
        "g (double[2] w, double[2] z, double[2] v) => (double[2] dh, double[2] dz, double[2] at) {"
        "  h = Mul(w, z) y = Mul(h, z)"
        '  dh, dz = Gradient<xs = ["h", "z"], y = "y">(h, z)'
        '  , at = Gradient<xs = ["h", "z"], y = "y">(v, z) }'
    )
    w, z, v = normal(2), normal(2) * 2, normal(2) * 3
    dh, dz, at = run(proto, w=w, z=z, v=v)
    np.testing.assert_allclose(dh, z)
    np.testing.assert_allclose(dz, w * z)
    np.testing.assert_allclose(at, v)


def test_not_used_and_itself() -> None:
    proto = parse(
        "g (double[2] x, double[N] u) => (double[N] du, double[2] dx) {"
        '  y = Exp(x) du = Gradient<xs = ["u"], zs = ["x"], y = "y">(u, x)'
        '  dx = Gradient<xs = ["x"], y = "x">(x) }'
    )
    du, dx = run(proto, x=normal(2), u=normal(3))
    assert np.array_equal(du, np.zeros(3))
    assert np.array_equal(dx, np.ones(2))


def test_a_gradient_of_a_gradient() -> None:
    proto = parse(
        "g (double[3] x, double[3] w) => (double[3] dw, double[3] dwdx, double[3] dww) {"
        '  h = Mul(x, w) y = Exp(h) dx, dw = Gradient<xs = ["x", "w"], y = "y">(x, w)'
        '  dwdx, dww = Gradient<xs = ["x", "w"], y = "dw">(x, w) }'
    )
    x, w = normal(3), normal(3) / 2
    dw, dwdx, dww = run(proto, x=x, w=w)
    e = np.exp(x * w)
    np.testing.assert_allclose(dw, x * e)
    np.testing.assert_allclose(dwdx, e + x * w * e)
    np.testing.assert_allclose(dww, x * x * e)


def test_in_a_nested_graph() -> None:
    proto = parse(
        "g (bool c, double[2] x) => (double[2] dx) { y = Exp(x) dx = If(c) <"
        '  then_branch = t () => (double[2] a) { a = Gradient<xs = ["x"], y = "y">(x) },'
        "  else_branch = e () => (double[2] b) { s = Mul(y, y)"
        '    b = Gradient<xs = ["x"], y = "s">(y) }'
        "> }"
    )
    x = normal(2)
    np.testing.assert_allclose(run(proto, c=np.array(True), x=x)[0], np.exp(x))
    at_y = 2 * np.exp(2 * np.exp(x))
    np.testing.assert_allclose(run(proto, c=np.array(False), x=x)[0], at_y)


def test_in_a_function() -> None:
    function = (
        f'<domain: "local", opset_import: ["" : 24, "{TRAINING}" : 1]>\n'
        'slope (x, w) => (d) { h = Mul(x, w) y = Mul(h, h) d = Gradient<xs = ["x"], y = "y">(x) }'
    )
    proto = parse(
        "g (double[2] x, double[2] w) => (double[2] a, double[2] b) {"
        "  a = local.slope(x, w) b = local.slope(w, x) }",
        function,
    )
    x, w = normal(2), normal(2) * 2
    a, b = run(proto, x=x, w=w)
    np.testing.assert_allclose(a, 2 * x * w * w)
    np.testing.assert_allclose(b, 2 * w * x * x)


def test_an_old_model() -> None:
    """Names stay those of the file where operators are rewritten."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 8, "{TRAINING}" : 1]>\n'
        "g (double[2,3] x) => (double[2,3] dx) {"
        "  s = Softmax(x) y = Mul(s, x)"
        f'  dx = {TRAINING}.Gradient<xs = ["x"], y = "y">(x) }}'
    )
    x = normal(2, 3)
    s = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    expected = s + s * (x - (s * x).sum(1, keepdims=True))
    np.testing.assert_allclose(run(proto, x=x)[0], expected)


@pytest.mark.parametrize(
    "node, problem",
    [
        (
            'd = Gradient<xs = ["q"], y = "y">(x)',
            "attribute 'xs' names 'q', which is no value here",
        ),
        ('d = Gradient<xs = ["x"], zs = ["q"], y = "y">(x, x)', "attribute 'zs' names 'q'"),
        ('d = Gradient<xs = ["x"], y = "q">(x)', "attribute 'y' names 'q', which is no value here"),
        ('d = Gradient<xs = ["x"], y = "y">(x, x)', r"2 inputs are not one for each of \['x'\]"),
        ('d = Gradient<xs = ["x", "x"], y = "y">(x, x)', "'x' stands twice in 'xs' and 'zs'"),
        ('d = Gradient<xs = ["x", "t"], y = "y">(, t)', "the value of 'x' is left out"),
        ('d, e = Gradient<xs = ["x"], y = "y">(x)', "2 outputs are more than 1 xs"),
        (
            'd = Gradient<xs = ["x"], y = "e">(x) e = Exp(d)',
            "differentiates what is computed from it",
        ),
    ],
)
def test_nodes_that_make_no_sense(node: str, problem: str) -> None:
    proto = parse(f"g (double[2] x) => (double[2] d) {{ t = Exp(x) y = Mul(t, x) [it] {node} }}")
    with pytest.raises(InvalidGraph, match=problem):
        run(proto, x=normal(2))


def test_without_a_rule() -> None:
    proto = parse(
        "g (double[2,2] x) => (double[2,2] d) {"
        '  [det] y = Det(x) d = Gradient<xs = ["x"], y = "y">(x) }'
    )
    with pytest.raises(NotImplemented, match="Det 'det': it has no rule"):
        run(proto, x=normal(2, 2))
