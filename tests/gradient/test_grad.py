# SPDX-License-Identifier: Apache-2.0
"""bascule.grad: names, several of them, what is shared and what is not used, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import bascule
from bascule.errors import InvalidArgument, NotImplemented
from tests.gradient.differences import Array, normal


def parse(text: str, opset: int = 24) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')


def run(data: bytes, **feeds: Any) -> list[Array]:
    return bascule.InferenceSession(data).run(None, feeds)


SQUARE = parse(
    "g (double[3] x, double[3] u) => (double y) { t = Mul(x, x) y = ReduceSum<keepdims=0>(t) }"
)
CHAIN = parse(
    "g (double[2,3] x, double[3] b) => (double[2,3] y, double z) {"
    "  h = Add(x, b) t = Tanh(h) y = Mul(t, h) z = ReduceSum<keepdims=0>(t) }"
)


def test_outputs_have_names_types_and_shapes() -> None:
    session = bascule.InferenceSession(bascule.grad(CHAIN, ["b", "x"], "z"))
    assert [arg.name for arg in session.get_inputs()] == ["x", "b"]
    assert [(arg.name, arg.type, arg.shape) for arg in session.get_outputs()] == [
        ("b_grad", "tensor(double)", [3]),
        ("x_grad", "tensor(double)", [2, 3]),
    ]


def test_the_result_is_standard_and_plain() -> None:
    proto = onnx.load_from_string(bascule.grad(CHAIN, "x", "y"))
    onnx.checker.check_model(proto)
    assert [(each.domain, each.version) for each in proto.opset_import] == [
        ("", onnx.defs.onnx_opset_version())
    ]
    assert not proto.functions


def test_original_outputs_come_first() -> None:
    data = bascule.grad(CHAIN, "x", "z", keep_outputs=True)
    session = bascule.InferenceSession(data)
    assert [arg.name for arg in session.get_outputs()] == ["y", "z", "x_grad"]
    feeds = {"x": normal(2, 3), "b": normal(3)}
    expected = run(CHAIN.SerializeToString(), **feeds)
    for actual, one in zip(session.run(None, feeds), expected):
        np.testing.assert_allclose(actual, one, rtol=1e-14)


def test_a_tensor_is_summed_and_several_values_are_added() -> None:
    x, b = normal(2, 3), normal(3)
    h, t = x + b, np.tanh(x + b)
    by_y, by_z = t + h * (1 - t * t), 1 - t * t
    np.testing.assert_allclose(run(bascule.grad(CHAIN, "x", "y"), x=x, b=b)[0], by_y, rtol=1e-12)
    both = run(bascule.grad(CHAIN, "x", ["y", "z"]), x=x, b=b)[0]
    np.testing.assert_allclose(both, by_y + by_z, rtol=1e-12)


def test_with_respect_to_a_value_in_between_and_what_it_depends_on() -> None:
    x, b = normal(2, 3), normal(3)
    t = np.tanh(x + b)
    of_t, of_b = run(bascule.grad(CHAIN, ["t", "b"], "y"), x=x, b=b)
    np.testing.assert_allclose(of_t, x + b, rtol=1e-12)
    np.testing.assert_allclose(of_b, (t + (x + b) * (1 - t * t)).sum(0), rtol=1e-12)


def test_of_a_value_with_respect_to_itself() -> None:
    (found,) = run(bascule.grad(SQUARE, "y", "y"), x=normal(3), u=normal(3))
    assert found == 1 and found.shape == ()
    (found,) = run(bascule.grad(CHAIN, "x", ["x", "x"]), x=normal(2, 3), b=normal(3))
    assert np.array_equal(found, np.full((2, 3), 2.0))


def test_one_gradient_for_several_names() -> None:
    data = bascule.grad(
        parse("g (double[2] a, double[2] b) => (double[2] y) { y = Add(a, b) }"),
        ["a", "b", "a"],
        "y",
    )
    for found in run(data, a=normal(2), b=normal(2)):
        assert np.array_equal(found, np.ones(2))


def test_initializers_in_files(tmp_path: Path) -> None:
    proto = parse("g (double[2,3] x) => (double[2,2] y) { y = MatMul(x, w) }")
    w = normal(3, 2)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(
        proto,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    x = normal(2, 3)
    dx, dw = run(bascule.grad(tmp_path / "m.onnx", ["x", "w"], "y"), x=x)
    np.testing.assert_allclose(dx, np.ones((2, 2)) @ w.T)
    np.testing.assert_allclose(dw, x.T @ np.ones((2, 2)))


def test_names_that_are_taken() -> None:
    proto = parse("g (double[2] x) => (double[2] x_grad) { x_grad = Mul(x, x) }")
    session = bascule.InferenceSession(bascule.grad(proto, "x", "x_grad", keep_outputs=True))
    first, second = (arg.name for arg in session.get_outputs())
    assert first == "x_grad" and second.startswith("x_grad")
    x = normal(2)
    np.testing.assert_allclose(session.run(None, {"x": x})[1], 2 * x)


def test_old_models_and_functions() -> None:
    """What is differentiated is the newest form, with functions inlined."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 9, "local" : 1]>\n'
        "g (double[2,3] x) => (double[2,1] y) { s = local.square(x)"
        " y = ReduceSum<axes = [1]>(s) }\n"
        '<domain: "local", opset_import: ["" : 9]> square (x) => (y) { y = Mul(x, x) }'
    )
    x = normal(2, 3)
    np.testing.assert_allclose(run(bascule.grad(proto, "x", "y"), x=x)[0], 2 * x)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_other_types(dtype: str) -> None:
    """The gradient has the type of x, also through casts and with numbers in formulas."""
    import ml_dtypes

    kind = {"float32": "float"}.get(dtype, dtype)
    proto = parse(
        f"g ({kind}[2,3] x) => (float[2,3] y) {{ g = Gelu(x) f = Cast<to = 1>(g) y = Mul(f, f) }}"
    )
    numpy_type = getattr(ml_dtypes, dtype) if dtype == "bfloat16" else np.dtype(dtype)
    x = normal(2, 3).astype(numpy_type)
    (found,) = run(bascule.grad(proto, "x", "y"), x=x)
    assert found.dtype == x.dtype
    wide = parse("g (double[2,3] x) => (double[2,3] y) { g = Gelu(x) y = Mul(g, g) }")
    (expected,) = run(bascule.grad(wide, "x", "y"), x=x.astype(np.float64))
    tolerance = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-6}[dtype]
    np.testing.assert_allclose(found.astype(np.float64), expected, tolerance, tolerance)


def test_empty_tensors() -> None:
    proto = parse(
        "g (double[N,3] x, double[3,2] w) => (double y) {"
        "  h = MatMul(x, w) t = Softmax(h) s = Mul(t, h) y = ReduceSum<keepdims=0>(s) }"
    )
    dx, dw = run(bascule.grad(proto, ["x", "w"], "y"), x=np.zeros((0, 3)), w=normal(3, 2))
    assert dx.shape == (0, 3)
    assert np.array_equal(dw, np.zeros((3, 2)))


def test_integers_and_comparisons_have_no_gradient() -> None:
    proto = parse(
        "g (double[3] x) => (double[3] y) {"
        "  n = Cast<to = 7>(x) f = Cast<to = 11>(n) s = Mul(f, x) z = Sub(x, x)"
        "  c = Greater(x, z) y = Where(c, s, z) }"
    )
    x = np.array([1.7, -2.2, 3.4])
    np.testing.assert_allclose(run(bascule.grad(proto, "x", "y"), x=x)[0], [1, 0, 3])


def test_what_is_not_used_has_a_gradient_of_zeros_if_that_is_allowed() -> None:
    with pytest.raises(InvalidArgument, match="'y' does not depend on 'u'"):
        bascule.grad(SQUARE, ["x", "u"], "y")
    x = normal(3)
    dx, du = run(bascule.grad(SQUARE, ["x", "u"], "y", allow_unused=True), x=x, u=normal(3))
    np.testing.assert_allclose(dx, 2 * x)
    assert np.array_equal(du, np.zeros(3))


def test_dependence_by_integers_is_none() -> None:
    proto = parse(
        "g (double[N,3] x, double[4] w) => (double[M] y) {"
        "  s = Shape(x) f = Cast<to = 11>(s) t = ReduceSum<keepdims=0>(f) y = Mul(w, t) }"
    )
    with pytest.raises(InvalidArgument, match="'y' does not depend on 'x'"):
        bascule.grad(proto, "x", "y")
    proto = parse(
        "g (double[3] x, double[3] w) => (double[3] y) {"
        "  r = Relu(x) c = Greater(r, w) y = Where(c, w, w) }"
    )
    with pytest.raises(InvalidArgument, match="'y' does not depend on 'x'"):
        bascule.grad(proto, ["w", "x"], "y")


@pytest.mark.parametrize(
    "wrt, of, problem",
    [
        (
            "nothing",
            "y",
            "'wrt' names 'nothing', which is no value of the model; its inputs are x, u",
        ),
        (["x"], "loss", "'of' names 'loss', which is no value of the model; .* its outputs y"),
        ([], "y", "'wrt' names no value"),
        ("x", [], "'of' names no value"),
    ],
)
def test_wrong_names(wrt: Any, of: Any, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        bascule.grad(SQUARE, wrt, of)


def test_integers_cannot_be_differentiated() -> None:
    proto = parse("g (int64[3] x) => (int64[3] y) { y = Mul(x, x) }")
    with pytest.raises(InvalidArgument, match=r"'y' of type tensor\(int64\) cannot be different"):
        bascule.grad(proto, "x", "y", allow_unused=True)


def test_every_node_without_a_rule_is_reported() -> None:
    proto = parse(
        "g (double[2,3,3] x, double[2] w) => (double y) {"
        "  [first] a = Det(x) b = Mul(a, w) [second] c = CumProd(b, n) [third] d = Det(x)"
        "  e = Add(c, d) y = ReduceSum<keepdims=0>(e) }",
        26,
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "n"))
    with pytest.raises(NotImplemented) as caught:
        bascule.grad(proto, "x", "y")
    text = str(caught.value)
    assert "because of 3 nodes" in text
    assert "Det 'first': it has no rule ('y' depends by it on 'x')" in text
    assert "CumProd 'second': it has no rule" in text
    assert "Det 'third': it has no rule" in text
    # Only the last is between w and y.
    with pytest.raises(NotImplemented, match="because of a node:\n  CumProd 'second'"):
        bascule.grad(proto, "w", "y")


def test_an_input_or_output_that_a_rule_does_not_know() -> None:
    proto = parse("g (double[4,3] x, float r, bool t) => (double[4,3] y) { y = Dropout(x, r, t) }")
    with pytest.raises(NotImplemented, match="does not differentiate it with respect to 'r'"):
        bascule.grad(proto, "r", "y")
    proto = parse(
        "g (double[4,3] x, double[3] s) => (double[3] m) {"
        "  y, m, v = BatchNormalization<training_mode = 1>(x, s, s, s, s) }"
    )
    with pytest.raises(NotImplemented, match="does not differentiate its output 'm'"):
        bascule.grad(proto, "x", "m")


def test_a_definition_helps_where_a_rule_does_not() -> None:
    proto = parse(
        "g (double[4,3] x, double[3] s) => (float[4,1] m) { y, m = LayerNormalization(x, s) }"
    )
    found = run(bascule.grad(proto, "x", "m"), x=normal(4, 3), s=normal(3))[0]
    np.testing.assert_allclose(found, np.full((4, 3), 1 / 3), rtol=1e-6)


def test_arguments_of_the_wrong_kind() -> None:
    with pytest.raises(TypeError):
        bascule.grad(3, "x", "y")  # type: ignore[arg-type]
