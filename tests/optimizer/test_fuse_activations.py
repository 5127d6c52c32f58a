# SPDX-License-Identifier: Apache-2.0
"""Formulas of activations, as exporters write them."""

from __future__ import annotations

import pytest

from bascule.optimizer.fuse_gelu import fuse_gelu, fuse_gelu_tanh
from bascule.optimizer.fuse_hard_swish import fuse_hard_sigmoid, fuse_hard_swish
from bascule.optimizer.fuse_mish import fuse_mish
from bascule.optimizer.fuse_swish import fuse_swish, fuse_swish_alpha
from tests.optimizer.fusing import assert_fused, assert_kept

_CONSTANTS = """<
    float one = {1}, float two = {2}, float three = {3}, float half = {0.5},
    float root = {1.41421354},
    float inverse = {0.70710678}, float kappa = {0.044715}, float beta = {0.7978846},
    float zero = {0}, float six = {6}, float sixth = {0.16666667}, float quick = {1.702},
    float[1] vector = {0.5}
>"""


def graph(body: str, shape: str = "2,3") -> str:
    return f"g (float[{shape}] x) => (float[{shape}] y) {_CONSTANTS} {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [
        "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
        "a = Mul(x, inverse) b = Erf(a) c = Add(one, b) d = Mul(half, x) y = Mul(d, c)",
        "a = Mul(inverse, x) b = Erf(a) c = Add(one, b) d = Mul(c, half) y = Mul(x, d)",
        "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, vector)",
    ],
)
def test_gelu(body: str) -> None:
    model = assert_fused(graph(body), fuse_gelu, to={"Gelu": 1})
    assert next(iter(model.graph)).attribute("approximate") == "none"


@pytest.mark.parametrize(
    "body",
    [
        # torch's two exporters, transformers' NewGELU, Keras, and the factored forms
        """h = Mul(x, half) c = Pow(x, three) k = Mul(c, kappa) s = Add(x, k) i = Mul(s, beta)
           t = Tanh(i) u = Add(t, one) y = Mul(h, u)""",
        """q = Mul(x, x) c = Mul(x, q) k = Mul(kappa, c) s = Add(x, k) i = Mul(beta, s)
           t = Tanh(i) u = Add(one, t) m = Mul(x, u) y = Mul(half, m)""",
        """q = Mul(x, x) c = Mul(q, x) k = Mul(kappa, c) s = Add(k, x) i = Mul(s, beta)
           t = Tanh(i) u = Add(t, one) m = Mul(u, half) y = Mul(x, m)""",
        """q = Mul(x, x) k = Mul(q, kappa) l = Add(k, one) b = Mul(x, beta) i = Mul(b, l)
           t = Tanh(i) u = Add(t, one) m = Mul(x, u) y = Mul(m, half)""",
        """q = Pow(x, two) k = Mul(q, kappa) l = Add(k, one) b = Mul(x, l) i = Mul(b, beta)
           t = Tanh(i) u = Add(t, one) m = Mul(x, half) y = Mul(m, u)""",
    ],
)
def test_gelu_tanh(body: str) -> None:
    model = assert_fused(graph(body), fuse_gelu_tanh, to={"Gelu": 1})
    assert next(iter(model.graph)).attribute("approximate") == "tanh"


def test_gelu_of_another_constant_is_kept() -> None:
    body = "a = Mul(x, half) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"
    assert_kept(graph(body), fuse_gelu)


def test_gelu_whose_inside_is_an_output_is_kept() -> None:
    text = graph("a = Div(x, root) e = Erf(a) c = Add(e, one) d = Mul(x, c) y = Mul(d, half)")
    assert_kept(text.replace("=> (", "=> (float[2,3] e, "), fuse_gelu)


def test_swish() -> None:
    assert_fused(graph("s = Sigmoid(x) y = Mul(s, x)"), fuse_swish, to={"Swish": 1})
    model = assert_fused(
        graph("a = Mul(quick, x) s = Sigmoid(a) y = Mul(x, s)"), fuse_swish_alpha, to={"Swish": 1}
    )
    assert next(iter(model.graph)).attribute("alpha") == pytest.approx(1.702)


@pytest.mark.parametrize(
    "body",
    [
        "s = HardSigmoid<alpha = 0.16666667>(x) y = Mul(x, s)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Div(c, six) y = Mul(x, m)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(c, sixth) y = Mul(m, x)",
        "a = Add(x, three) r = Relu(a) c = Min(r, six) m = Mul(x, sixth) y = Mul(m, c)",
    ],
)
def test_hard_swish(body: str) -> None:
    assert_fused(graph(body), fuse_hard_swish, fuse_hard_sigmoid, to={"HardSwish": 1})


def test_hard_sigmoid() -> None:
    body = "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)"
    assert_fused(graph(body), fuse_hard_swish, fuse_hard_sigmoid, to={"HardSigmoid": 1})
    assert_kept(graph(body.replace("six) y", "three) y")), fuse_hard_swish, fuse_hard_sigmoid)


def test_mish() -> None:
    assert_fused(graph("p = Softplus(x) t = Tanh(p) y = Mul(t, x)"), fuse_mish, to={"Mish": 1})
    body = "e = Exp(x) a = Add(e, one) p = Log(a) t = Tanh(p) y = Mul(x, t)"
    assert_fused(graph(body), fuse_mish, to={"Mish": 1})
