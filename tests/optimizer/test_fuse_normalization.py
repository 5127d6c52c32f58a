# SPDX-License-Identifier: Apache-2.0
"""Formulas of normalizations, as exporters write them."""

from __future__ import annotations

import pytest

from bascule.optimizer.fuse_group_normalization import (
    fuse_group_normalization,
    fuse_group_normalization_bias,
    fuse_group_normalization_scale,
    fuse_instance_normalization,
)
from bascule.optimizer.fuse_layer_normalization import (
    fuse_layer_normalization,
    fuse_layer_normalization_bias,
    fuse_layer_normalization_casts,
    fuse_layer_normalization_channels,
    fuse_layer_normalization_scale,
)
from bascule.optimizer.fuse_rms_normalization import (
    fuse_rms_normalization,
    fuse_rms_normalization_casts,
    fuse_rms_normalization_scale,
)
from bascule.optimizer.fuse_skip_layer_normalization import fuse_skip_layer_normalization
from tests.optimizer.fusing import assert_fused, assert_kept, fuse, ops

LAYER = (
    fuse_layer_normalization,
    fuse_layer_normalization_scale,
    fuse_layer_normalization_bias,
    fuse_layer_normalization_channels,
    fuse_layer_normalization_casts,
)
RMS = (fuse_rms_normalization, fuse_rms_normalization_scale, fuse_rms_normalization_casts)
GROUP = (
    fuse_instance_normalization,
    fuse_group_normalization,
    fuse_group_normalization_scale,
    fuse_group_normalization_bias,
)

_CONSTANTS = """
    int64[1] axes = {-1}, int64[1] last = {2}, int64[1] first = {1}, int64[2] both = {1, 2},
    int64[2] spatial = {2, 3}, float eps = {1e-6}, float two = {2}, float one = {1},
    float minus = {-0.5}, float[4] w = {1, 2, 3, 4}, float[4] b = {4, 3, 2, 1},
    float[1,1,4] w3 = {1, 2, 3, 4}, float[1,1,4] b3 = {4, 3, 2, 1},
    float[4,1,1] wc = {1, 2, 3, 4}, float[4,1,1] bc = {4, 3, 2, 1}
"""
_CENTERED = "m = ReduceMean(x, axes) c = Sub(x, m) "
_VARIANCE = "q = Mul(c, c) v = ReduceMean(q, axes) s = Add(v, eps) "


def graph(body: str, shape: str = "2,3,4", dtype: str = "float") -> str:
    return f"g ({dtype}[{shape}] x) => ({dtype}[{shape}] y) <{_CONSTANTS}> {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [
        _CENTERED + _VARIANCE + "d = Sqrt(s) n = Div(c, d) t = Mul(n, w) y = Add(t, b)",
        _CENTERED + _VARIANCE + "d = Sqrt(s) r = Reciprocal(d) n = Mul(c, r) t = Mul(w, n)"
        " y = Add(b, t)",
        _CENTERED + _VARIANCE + "d = Sqrt(s) r = Div(one, d) n = Mul(c, r) t = Mul(n, w)"
        " y = Add(t, b)",
        _CENTERED + _VARIANCE + "r = Pow(s, minus) n = Mul(c, r) t = Mul(n, w) y = Add(t, b)",
        # twice the same difference
        "m = ReduceMean(x, axes) c = Sub(x, m) m2 = ReduceMean(x, last) c2 = Sub(x, m2)"
        " q = Pow(c2, two) v = ReduceMean(q, axes) s = Add(v, eps) d = Sqrt(s) n = Div(c, d)"
        " t = Mul(n, w) y = Add(t, b)",
        # Keras: x * inv + (beta - mean * inv)
        _CENTERED + _VARIANCE + "d = Sqrt(s) r = Reciprocal(d) i = Mul(r, w3) p = Mul(x, i)"
        " k = Mul(m, i) z = Sub(b3, k) y = Add(p, z)",
        # Keras 3: (-mean * inv + beta) and the mean of squares
        "m = ReduceMean(x, axes) q = Mul(x, x) e = ReduceMean(q, axes) mm = Mul(m, m)"
        " v = Sub(e, mm) s = Add(v, eps) d = Sqrt(s) r = Reciprocal(d) i = Mul(r, w3)"
        " k = Neg(m) l = Mul(k, i) z = Add(l, b3) p = Mul(x, i) y = Add(p, z)",
    ],
)
def test_layer_normalization(body: str) -> None:
    assert_fused(graph(body), *LAYER, to={"LayerNormalization": 1})


def test_layer_normalization_over_two_axes() -> None:
    body = "m = ReduceMean(x, both) c = Sub(x, m) q = Mul(c, c) v = ReduceMean(q, both)"
    model = assert_fused(
        graph(body + " s = Add(v, eps) d = Sqrt(s) y = Div(c, d)"),
        *LAYER,
        to={"LayerNormalization": 1},
    )
    assert next(iter(model.graph)).attribute("axis") == -2


def test_layer_normalization_over_channels() -> None:
    body = "m = ReduceMean(x, first) c = Sub(x, m) q = Mul(c, c) v = ReduceMean(q, first)"
    body += " s = Add(v, eps) d = Sqrt(s) n = Div(c, d) t = Mul(wc, n) y = Add(t, bc)"
    assert_fused(graph(body, "2,4,3,3"), *LAYER, to={"LayerNormalization": 1, "Transpose": 2})


def test_layer_normalization_in_float16_computes_in_float32() -> None:
    body = "f = Cast<to = 1>(x) m = ReduceMean(f, axes) c = Sub(f, m) "
    body += _VARIANCE + "d = Sqrt(s) n = Div(c, d) y = Cast<to = 10>(n)"
    assert_fused(graph(body, dtype="float16"), *LAYER, to={"LayerNormalization": 1})


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean(x, first) c = Sub(x, m) " + _VARIANCE + "d = Sqrt(s) y = Div(c, d)",
        "m = ReduceMean<keepdims = 0>(x, both) u = Unsqueeze(m, both) c = Sub(x, u) "
        + _VARIANCE
        + "d = Sqrt(s) y = Div(c, d)",
    ],
)
def test_other_means_are_no_layer_normalization(body: str) -> None:
    assert_kept(graph(body), *LAYER)


def test_rows_of_a_damaged_model_are_not_made_a_constant() -> None:
    """A scale of ones would take 8 GiB."""
    text = """g (float[1,2147483652] x) => (float[1,2147483652] y)
        <int64[1] axes = {-1}, float eps = {1e-6}> {
        q = Mul(x, x) v = ReduceMean(q, axes) s = Add(v, eps) d = Sqrt(s) y = Div(x, d) }"""
    assert_kept(text, *RMS)


def test_a_column_is_no_scale_of_a_layer_normalization() -> None:
    body = "n = LayerNormalization(x, one_row) y = Mul(n, column)"
    text = graph(body).replace(
        _CONSTANTS, "float[4] one_row = {1, 1, 1, 1}, float[3,1] column = {1, 2, 3}"
    )
    assert_kept(text, *LAYER)


@pytest.mark.parametrize(
    "body",
    [
        "d = Sqrt(s) r = Reciprocal(d) n = Mul(x, r) y = Mul(w, n)",
        "d = Sqrt(s) r = Div(one, d) n = Mul(x, r) y = Mul(n, w)",
        "d = Sqrt(s) n = Div(x, d) y = Mul(n, w)",
        "r = Pow(s, minus) n = Mul(x, r) y = Mul(n, w)",
    ],
)
@pytest.mark.parametrize("square", ["Pow(x, two)", "Mul(x, x)"])
def test_rms_normalization(body: str, square: str) -> None:
    start = f"q = {square} v = ReduceMean(q, axes) s = Add(v, eps) "
    assert_fused(graph(start + body), *RMS, to={"RMSNormalization": 1})


def test_rms_normalization_of_llama_in_float16() -> None:
    body = "f = Cast<to = 1>(x) q = Pow(f, two) v = ReduceMean(q, axes) s = Add(v, eps) d = Sqrt(s)"
    body += " r = Reciprocal(d) n = Mul(f, r) y = Cast<to = 10>(n)"
    assert_fused(graph(body, dtype="float16"), *RMS, to={"RMSNormalization": 1})


def test_instance_normalization() -> None:
    body = "m = ReduceMean(x, spatial) c = Sub(x, m) q = Mul(c, c) v = ReduceMean(q, spatial)"
    body += " s = Add(v, eps) d = Sqrt(s) n = Div(c, d) t = Mul(n, wc) y = Add(t, bc)"
    assert_fused(graph(body, "2,4,3,3"), *GROUP, to={"InstanceNormalization": 1})


def test_group_normalization() -> None:
    text = """g (float[N,4,3,3] x) => (float[N,4,3,3] y)
    <int64[3] split = {0, 2, -1}, int64[4] shape = {-1, 4, 3, 3}, float[2] ones = {1, 1},
     float[2] zeros = {0, 0}, float[4,1,1] w = {1, 2, 3, 4}, float[1,4,1,1] b = {4, 3, 2, 1}> {
        r = Reshape(x, split) i = InstanceNormalization(r, ones, zeros) n = Reshape(i, shape)
        t = Mul(n, w) y = Add(t, b)
    }"""
    assert ops(fuse(text, *GROUP).graph)["GroupNormalization"] <= 1  # N is not known to stay
    assert_fused(text.replace("[N,", "[2,"), *GROUP, to={"GroupNormalization": 1})


_SKIP = """g (float[B,3,4] x, float[B,3,4] s) => (float[B,3,4] y, float[B,3,4] z)
<float[4] w = {1, 2, 3, 4}> { t = Add(x, s) NEXT }"""


def test_skip_normalization_keeps_the_sum_for_its_readers() -> None:
    for name in ("LayerNormalization", "RMSNormalization"):
        text = _SKIP.replace("NEXT", f"z = Relu(t) y = {name}(t, w)")
        assert_fused(text, fuse_skip_layer_normalization, to={f"bascule.Skip{name}": 1, "Relu": 1})


def test_skip_may_repeat_over_the_batch() -> None:
    text = _SKIP.replace("NEXT", "z = Neg(t) y = LayerNormalization(t, w)")
    text = text.replace("float[B,3,4] s)", "float[1,3,4] s)")
    assert_fused(
        text,
        fuse_skip_layer_normalization,
        to={"bascule.SkipLayerNormalization": 1, "Neg": 1},
    )


def test_skip_that_repeats_inside_is_kept() -> None:
    text = _SKIP.replace("NEXT", "z = Neg(t) y = LayerNormalization(t, w)")
    assert_kept(text.replace("float[B,3,4] s)", "float[B,1,4] s)"), fuse_skip_layer_normalization)
    text = _SKIP.replace("NEXT", "z = Neg(t) y = LayerNormalization<axis = 1>(t, w)")
    assert_kept(
        text.replace("float[4] w = {1, 2, 3, 4}", "float[1] w = {1}"), fuse_skip_layer_normalization
    )
