# SPDX-License-Identifier: Apache-2.0
"""Products with what is before and after them."""

from __future__ import annotations

import pytest

from bascule.optimizer.fuse_activation import fuse_activation
from bascule.optimizer.fuse_matmul_bias import fuse_gemm, fuse_matmul_bias
from bascule.optimizer.fuse_matmul_reshape import fuse_matmul_reshape
from bascule.optimizer.fuse_matmul_scale import (
    fuse_matmul_column_scale,
    fuse_matmul_operand_scale,
    fuse_matmul_scale,
)
from bascule.optimizer.fuse_matmul_transpose import (
    fuse_matmul_transpose_left,
    fuse_matmul_transpose_right,
)
from bascule.optimizer.fuse_residual_add import fuse_residual_add
from tests.optimizer.fusing import assert_fused, assert_kept

PRODUCTS = (
    fuse_matmul_scale,
    fuse_matmul_operand_scale,
    fuse_matmul_column_scale,
    fuse_matmul_transpose_left,
    fuse_matmul_transpose_right,
    fuse_matmul_bias,
    fuse_gemm,
    fuse_matmul_reshape,
)
FUSED = {"bascule.MatMul": 1}

_WEIGHTS = """<float[3,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[4] b = {1, 2, 3, 4},
    float[1,4] b2 = {1, 2, 3, 4}, float one = {3}, float half = {0.5}, float[1] vector = {2},
    int64[2] rows = {-1, 3}, int64[3] back = {2, 5, 4}, int64[3] other = {5, 2, 4},
    float zero = {0}, float six = {6}>"""


def graph(body: str, x: str = "2,5,3", y: str = "2,5,4") -> str:
    return f"g (float[{x}] x, float[{x}] z) => (float[{y}] y) {_WEIGHTS} {{ {body} }}"


@pytest.mark.parametrize("addend", ["b", "b2"])
def test_bias(addend: str) -> None:
    assert_fused(graph(f"t = MatMul(x, w) y = Add({addend}, t)"), *PRODUCTS, to=FUSED)


def test_bias_is_no_column_and_no_scalar() -> None:
    assert_kept(graph("t = MatMul(x, w) y = Add(t, one)"), *PRODUCTS)
    text = "g (float[5,3] x, float[3,4] w, float[5,1] c) => (float[5,4] y) "
    assert_kept(text + "{ t = MatMul(x, w) y = Add(t, c) }", *PRODUCTS)
    text = "g (float[3] x, float[3,4] w, float[4] c) => (float[4] y) "
    assert_kept(text + "{ t = MatMul(x, w) y = Add(t, c) }", *PRODUCTS)


def test_a_product_with_two_readers_is_kept() -> None:
    text = graph("t = MatMul(x, w) y = Add(t, b)").replace(
        "(float[2,5,4] y)", "(float[2,5,4] y, float[2,5,4] t)"
    )
    assert_kept(text, *PRODUCTS)


_GEMM = """g (float[{a}] a, float[{b}] b, float[{c}] c) => (float[5,4] y)
    {{ y = Gemm{attributes}({call}) }}"""


@pytest.mark.parametrize(
    ("shapes", "attributes", "call", "op"),
    [
        (("5,3", "3,4", "4"), "", "a, b, c", "bascule.MatMul"),
        (("5,3", "3,4", "5,4"), "", "a, b, c", "bascule.MatMul"),
        (("3,5", "4,3", "4"), "<transA = 1, transB = 1, alpha = 0.5>", "a, b, c", "bascule.MatMul"),
        (("5,3", "3,4", "4"), "", "a, b", "MatMul"),
        (("5,3", "4,3", "4"), "<transB = 1>", "a, b", "bascule.MatMul"),
        (("5,3", "3,4", "5,1"), "", "a, b, c", "Gemm"),
        (("5,3", "3,4", "4"), "<beta = 2.0>", "a, b, c", "Gemm"),
    ],
)
def test_gemm(shapes: tuple[str, str, str], attributes: str, call: str, op: str) -> None:
    a, b, c = shapes
    text = _GEMM.format(a=a, b=b, c=c, attributes=attributes, call=call)
    assert_fused(text, *PRODUCTS, to={op: 1})


def test_gemm_scales_a_constant_bias() -> None:
    text = graph("y = Gemm<beta = 2.0>(x, w, b)", "5,3", "5,4")
    assert_fused(text, *PRODUCTS, to=FUSED)
    assert_fused(text.replace(", b)", ", one)"), *PRODUCTS, to=FUSED)


def test_gemm_leaves_out_what_zero_scales() -> None:
    text = graph("y = Gemm<beta = 0.0>(x, w, b)", "5,3", "5,4")
    assert_fused(text, *PRODUCTS, to={"MatMul": 1})


@pytest.mark.parametrize(
    "body",
    [
        "t = MatMul(x, w) y = Mul(t, half)",
        "t = MatMul(x, w) y = Div(t, vector)",
        "s = Mul(half, x) y = MatMul(s, w)",
        "s = Div(x, one) t = MatMul(s, w) y = Mul(t, half)",
    ],
)
def test_scale(body: str) -> None:
    assert_fused(graph(body), *PRODUCTS, to=FUSED)


def test_factors_of_columns_that_leave_the_range_are_kept() -> None:
    text = graph("t = MatMul(x, w) y = Mul(t, b)")
    assert_fused(text, *PRODUCTS, to={"MatMul": 1})
    assert_kept(text.replace("b = {1,", "b = {3e38,").replace("w = {1,", "w = {9,"), *PRODUCTS)


def test_scale_by_zero_or_a_quotient_is_kept() -> None:
    assert_kept(graph("t = MatMul(x, w) y = Div(t, zero)"), *PRODUCTS)
    assert_kept(graph("s = Div(one, x) y = MatMul(s, w)"), *PRODUCTS)


def test_column_scale_goes_into_the_weight() -> None:
    for body in ("t = MatMul(x, w) y = Mul(b, t)", "t = MatMul(x, w) u = Add(t, b) y = Mul(u, b)"):
        model = assert_fused(
            graph(body), *PRODUCTS, to={"MatMul" if "Add" not in body else "bascule.MatMul": 1}
        )
        assert "Mul" not in [node.op_type for node in model.graph]


def test_column_scale_of_a_shared_weight_is_kept() -> None:
    text = graph("t = MatMul(x, w) y = Mul(t, b) u = MatMul(z, w)")
    assert_kept(text.replace("float[2,5,4] y)", "float[2,5,4] y, float[2,5,4] u)"), *PRODUCTS)


def test_transposes_of_both_operands() -> None:
    text = """g (float[2,3,5] a, float[2,4,3] b) => (float[2,5,4] y) {
        s = Transpose<perm = [0, 2, 1]>(a) t = Transpose<perm = [0, 2, 1]>(b) y = MatMul(s, t)
    }"""
    model = assert_fused(text, *PRODUCTS, to=FUSED)
    node = next(iter(model.graph))
    assert (node.attribute("transA"), node.attribute("transB")) == (1, 1)


def test_joined_rows_are_parted_again() -> None:
    body = "r = Reshape(x, rows) t = MatMul(r, w) u = Add(t, b) y = Reshape(u, back)"
    assert_fused(graph(body), *PRODUCTS, to=FUSED)
    body = "r = Reshape(x, rows) t = MatMul(r, w) u = Add(t, b) y = Reshape(u, other)"
    assert_fused(graph(body, y="5,2,4"), *PRODUCTS, to={"Reshape": 2, "bascule.MatMul": 1})


@pytest.mark.parametrize(
    "activation",
    [
        "Relu(t)",
        "LeakyRelu<alpha = 0.2>(t)",
        "Clip(t, zero, six)",
        "Clip(t, , six)",
        "Gelu(t)",
        'Gelu<approximate = "tanh">(t)',
        "Sigmoid(t)",
        "Tanh(t)",
        "Swish<alpha = 1.702>(t)",
        "HardSwish(t)",
        "HardSigmoid(t)",
        "Elu<alpha = 0.5>(t)",
    ],
)
def test_activation(activation: str) -> None:
    assert_fused(graph(f"t = MatMul(x, w) y = {activation}"), fuse_activation, to=FUSED)
    text = f"""g (float[1,3,5,5] x, float[4,3,2,2] k) => (float[1,4,4,4] y)
        {_WEIGHTS} {{ t = Conv(x, k) y = {activation} }}"""
    assert_fused(text, fuse_activation, to={"bascule.Conv": 1})


def test_activation_after_an_activation_is_kept() -> None:
    text = graph("t = MatMul(x, w) u = Relu(t) y = Tanh(u)")
    assert_fused(text, fuse_activation, to={"bascule.MatMul": 1, "Tanh": 1})


def test_computed_bounds_are_kept() -> None:
    text = "g (float[5,3] x, float[3,4] w, float low) => (float[5,4] y) "
    assert_kept(text + "{ t = MatMul(x, w) y = Clip(t, low) }", fuse_activation)


def test_of_two_products_the_later_takes_the_residual() -> None:
    text = graph("s = MatMul(x, w) t = MatMul(z, w) y = Add(s, t)")
    model = assert_fused(text, fuse_residual_add, to={"MatMul": 1, "bascule.MatMul": 1})
    last = model.graph.nodes[-1]
    assert last.domain == "bascule" and last.input(0) is model.graph.inputs[1]


def test_residual_then_activation() -> None:
    text = """g (float[1,3,5,5] x, float[3,3,1,1] w, float[3] b) => (float[1,3,5,5] y)
        { c = Conv(x, w, b) s = Add(x, c) y = Relu(s) }"""
    model = assert_fused(text, fuse_residual_add, fuse_activation, to={"bascule.Conv": 1})
    node = next(iter(model.graph))
    assert node.attribute("activation") == "Relu" and node.input(3) is model.graph.inputs[0]


def test_a_residual_after_the_activation_is_kept() -> None:
    text = """g (float[5,3] x, float[3,3] w) => (float[5,3] y)
        { t = MatMul(x, w) u = Relu(t) y = Add(u, x) }"""
    assert_fused(text, fuse_residual_add, fuse_activation, to={"bascule.MatMul": 1, "Add": 1})


def test_float64_keeps_what_an_attribute_cannot_hold() -> None:
    text = """g (double[5,3] x, double[3,4] w) => (double[5,4] y) <double c = {NUMBER}>
        { t = MatMul(x, w) y = Mul(t, c) }"""
    assert_kept(text.replace("NUMBER", "0.1"), *PRODUCTS)
    assert_fused(text.replace("NUMBER", "0.125"), *PRODUCTS, to=FUSED)
    clip = text.replace("Mul(t, c)", "Clip(t, c)")
    assert_kept(clip.replace("NUMBER", "0.1"), fuse_activation)
    assert_fused(clip.replace("NUMBER", "0.125"), fuse_activation, to=FUSED)
