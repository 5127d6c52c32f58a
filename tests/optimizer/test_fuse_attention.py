# SPDX-License-Identifier: Apache-2.0
"""Attention as exporters write it."""

from __future__ import annotations

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.optimizer.eliminate_common_subexpressions import eliminate_common_subexpressions
from bascule.optimizer.eliminate_identity import eliminate_identity
from bascule.optimizer.fuse_attention import fuse_attention, fuse_attention_groups
from bascule.optimizer.fuse_attention_cache import fuse_attention_cache
from bascule.optimizer.fuse_attention_heads import fuse_attention_heads, fuse_attention_rows
from bascule.optimizer.fuse_rotary_embedding import (
    fuse_rotary_embedding,
    fuse_rotary_embedding_part,
)
from tests.optimizer.fusing import assert_fused, assert_kept, fuse, ops

ATTENTION = (fuse_attention, fuse_attention_groups, fuse_attention_rows, fuse_attention_heads)
FUSED = {"Attention": 1}

_CONSTANTS = """<float c = {0.35}, float root = {0.6}, float cap = {5}, float zero = {0},
    float low = {-3.4028235e38}, float infinity = {-inf}, float[1,1,3,3] triangle =
    {0, -3.4028235e38, -3.4028235e38, 0, 0, -3.4028235e38, 0, 0, 0},
    bool[3,3] lower = {1, 0, 0, 1, 1, 0, 1, 1, 1}, bool one = {1}, int64[2] square = {3, 3},
    int64[3] flat = {-1, 3, 4}, int64[4] swapped = {2, 2, 4, 3}, int64[1] two = {2},
    int64[5] groups = {2, 1, 2, 3, 4}, int64[4] all = {2, 2, 3, 4}>"""


def graph(body: str, inputs: str = "", k: str = "2,2,3,4") -> str:
    return f"""g (float[2,2,3,4] q, float[{k}] k, float[{k}] v{inputs}) => (float[2,2,3,4] y)
    {_CONSTANTS} {{ {body} y = MatMul(p, v) }}"""


def attention(text: str) -> Node:
    model = fuse(text, *ATTENTION)
    found = [node for node in model.graph if node.is_op("Attention")]
    assert len(found) == 1 and not ops(model.graph).keys() & {"Softmax", "MatMul"}
    return found[0]


_KT = "kt = Transpose<perm = [0, 1, 3, 2]>(k) "


@pytest.mark.parametrize(
    ("body", "scale"),
    [
        (_KT + "t = MatMul(q, kt) s = Mul(t, c) p = Softmax(s)", 0.35),
        (_KT + "t = MatMul(q, kt) s = Div(t, cap) p = Softmax(s)", 0.2),
        (_KT + "a = Mul(q, c) s = MatMul(a, kt) p = Softmax(s)", 0.35),
        (_KT + "a = Mul(q, root) b = Mul(kt, root) s = MatMul(a, b) p = Softmax(s)", 0.36),
        (
            "b = Mul(root, k) kt = Transpose<perm = [0, 1, 3, 2]>(b) a = Mul(q, root)"
            " s = MatMul(a, kt) p = Softmax(s)",
            0.36,
        ),
        (_KT + "s = MatMul(q, kt) p = Softmax(s)", 1.0),
        (
            "f = Reshape(k, flat) ft = Transpose<perm = [0, 2, 1]>(f) kt = Reshape(ft, swapped)"
            " s = MatMul(q, kt) p = Softmax(s)",
            1.0,
        ),
        (_KT + "s = MatMul(q, kt) r = Softmax(s) n = IsNaN(r) p = Where(n, zero, r)", 1.0),
    ],
)
def test_scale_and_key(body: str, scale: float) -> None:
    node = attention(graph(body))
    assert node.attribute("scale") == pytest.approx(scale)


@pytest.mark.parametrize("mask", ["2,1,1,3", "1,1,3,3", "2,2,3,3", "3,3"])
def test_additive_mask(mask: str) -> None:
    body = _KT + "t = MatMul(q, kt) u = Mul(t, c) s = Add(mask, u) p = Softmax(s)"
    assert attention(graph(body, f", float[{mask}] mask")).input(3) is not None


def test_two_masks_are_added() -> None:
    body = _KT + "t = MatMul(q, kt) u = Add(t, mask) s = Add(u, bias) p = Softmax(s)"
    assert attention(graph(body, ", float[3,3] mask, float[1,2,3,3] bias")).input(3) is not None


def test_a_mask_of_one_column_reaches_over_all() -> None:
    body = _KT + "t = MatMul(q, kt) s = Add(t, mask) p = Softmax(s)"
    model = fuse(graph(body, ", float[2,1,3,1] mask"), *ATTENTION)
    assert ops(model.graph) == {"Attention": 1, "Expand": 1}


@pytest.mark.parametrize(
    "body",
    [
        "s = Add(t, triangle)",
        "s = Where(lower, t, low)",
        "o = Expand(one, square) l = Trilu<upper = 0>(o) m = Where(l, zero, low) s = Add(t, m)",
    ],
)
def test_causal(body: str) -> None:
    node = attention(graph(_KT + f"t = MatMul(q, kt) {body} p = Softmax(s)"))
    assert node.attribute("is_causal") == 1 and node.input(3) is None


@pytest.mark.parametrize("number", ["low", "infinity"])
@pytest.mark.parametrize("order", ["t, {}", "{}, t"])
def test_boolean_mask(number: str, order: str) -> None:
    body = f"t = MatMul(q, kt) s = Where(mask, {order.format(number)})"
    mask = np.ones((2, 1, 3, 3), bool)
    mask[0, 0, 1, 2] = mask[1, 0, 0, 0] = False
    text = graph(_KT + body + " p = Softmax(s)", ", bool[2,1,3,3] mask")
    feeds = {"mask": mask if order.startswith("t") else ~mask}
    model = fuse(text, *ATTENTION, feeds=feeds)
    node = next(node for node in model.graph if node.is_op("Attention"))
    given = node.input(3)
    assert given is not None
    assert given.dtype == (DataType.BOOL if number == "infinity" else DataType.FLOAT)


def test_softcap() -> None:
    body = _KT + "t = MatMul(q, kt) u = Mul(t, c) a = Div(u, cap) b = Tanh(a) s = Mul(b, cap)"
    node = attention(graph(body + " p = Softmax(s)"))
    assert node.attribute("softcap") == 5 and node.attribute("scale") == pytest.approx(0.35)


def test_grouped_heads() -> None:
    body = """u = Unsqueeze(k, two) e = Expand(u, groups) kk = Reshape(e, all)
        uv = Unsqueeze(v, two) ev = Expand(uv, groups) vv = Reshape(ev, all)
        kt = Transpose<perm = [0, 1, 3, 2]>(kk) s = MatMul(q, kt) p = Softmax(s)"""
    text = graph(body, k="2,1,3,4").replace("MatMul(p, v)", "MatMul(p, vv)")
    assert_fused(text, *ATTENTION, to=FUSED)


def test_rank_three() -> None:
    text = """g (float[2,3,4] q, float[2,5,4] k, float[2,5,6] v, float[2,3,5] m) => (float[2,3,6] y)
        { kt = Transpose<perm = [0, 2, 1]>(k) t = MatMul(q, kt) s = Add(t, m) p = Softmax(s)
          y = MatMul(p, v) }"""
    assert_fused(text, *ATTENTION, to={"Attention": 1, "Unsqueeze": 1})


@pytest.mark.parametrize(
    "body",
    [
        _KT + "s = MatMul(q, kt) p = Softmax<axis = 2>(s)",
        _KT + "t = MatMul(q, kt) u = Add(t, triangle) s = Mul(u, c) p = Softmax(s)",
        _KT + "t = MatMul(q, kt) s = Where(lower, t, c) p = Softmax(s)",
        _KT + "t = MatMul(q, kt) s = Relu(t) p = Softmax(s)",
    ],
)
def test_other_formulas_are_kept(body: str) -> None:
    assert_kept(graph(body), *ATTENTION)


def test_scores_that_are_an_output_are_kept() -> None:
    text = graph(_KT + "s = MatMul(q, kt) p = Softmax(s)")
    assert_kept(
        text.replace("(float[2,2,3,4] y)", "(float[2,2,3,4] y, float[2,2,3,3] p)"), *ATTENTION
    )


_HEADS = """g (float[B,S,8] q, float[B,T,8] k, float[B,T,8] v) => (float[B,S,8] y)
<int64[4] split = {0, 0, 2, 4}, int64[3] join = {0, 0, 8}> {
    q4 = Reshape(q, split) qh = Transpose<perm = [0, 2, 1, 3]>(q4)
    k4 = Reshape(k, split) kh = Transpose<perm = [0, 2, 3, 1]>(k4)
    v4 = Reshape(v, split) vh = Transpose<perm = [0, 2, 1, 3]>(v4)
    s = MatMul(qh, kh) p = Softmax(s) o = MatMul(p, vh)
    t = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(t, join)
}"""


def test_heads_with_symbolic_sizes() -> None:
    model = assert_fused(_HEADS, *ATTENTION, to=FUSED)
    node = next(iter(model.graph))
    assert (node.attribute("q_num_heads"), node.attribute("kv_num_heads")) == (2, 2)


def test_cache_and_heads() -> None:
    text = _HEADS.replace(
        "float[B,T,8] v)", "float[B,T,8] v, float[B,2,P,4] pk, float[B,2,P,4] pv)"
    )
    text = text.replace(
        "(float[B,S,8] y)", "(float[B,S,8] y, float[B,2,L,4] nk, float[B,2,L,4] nv)"
    )
    text = text.replace(
        "kh = Transpose<perm = [0, 2, 3, 1]>(k4)",
        """k5 = Transpose<perm = [0, 2, 1, 3]>(k4)
        nk = Concat<axis = 2>(pk, k5) kh = Transpose<perm = [0, 1, 3, 2]>(nk)""",
    )
    text = text.replace("s = MatMul", "nv = Concat<axis = 2>(pv, vh) s = MatMul").replace(
        "(p, vh)", "(p, nv)"
    )
    model = assert_fused(text, *ATTENTION, fuse_attention_cache, to=FUSED)
    assert [value.name for value in model.graph.outputs] == ["y", "nk", "nv"]


_ROTARY = """g (float[2,3,S,4] x, float[1,S,2] angles) => (float[2,3,S,4] y)
<int64[1] zero = {0}, int64[1] half = {2}, int64[1] end = {9223372036854775807},
 int64[1] last = {3}, int64[1] one = {1}, float scaling = {1.5}> {
    both = Concat<axis = -1>(angles, angles) c = Cos(both) c2 = Mul(c, scaling)
    cos = Unsqueeze(c2, one) s = Sin(both) sin = Unsqueeze(s, one)
    straight = Mul(x, cos) x1 = Slice(x, zero, half, last, one) x2 = Slice(x, half, end, last, one)
    minus = Neg(x2) turned = Concat<axis = -1>(minus, x1) across = Mul(turned, sin)
    y = Add(straight, across)
}"""


def test_rotary_embedding_of_a_batch() -> None:
    model = fuse(_ROTARY, fuse_rotary_embedding)
    found = ops(model.graph)
    assert found["RotaryEmbedding"] == 1 and found["Slice"] == 0


def test_rotary_embedding_of_other_parts_is_kept() -> None:
    assert_kept(_ROTARY.replace("(minus, x1)", "(x1, minus)"), fuse_rotary_embedding)
    assert_kept(
        _ROTARY.replace(
            "Concat<axis = -1>(angles, angles)", "Concat<axis = -1>(angles, more)"
        ).replace("angles)", "angles, float[1,S,2] more)", 1),
        fuse_rotary_embedding,
    )


def test_rotary_embedding_of_the_first_columns() -> None:
    text = """g (float[1,3,5,6] x, float[1,5,2] c, float[1,5,2] s) => (float[1,3,5,6] y)
    <int64[1] zero = {0}, int64[1] part = {4}, int64[1] end = {6}, int64[1] last = {-1}> {
        turning = Slice(x, zero, part, last) rest = Slice(x, part, end, last)
        turned = RotaryEmbedding(turning, c, s) y = Concat<axis = -1>(turned, rest)
    }"""
    model = assert_fused(text, fuse_rotary_embedding_part, to={"RotaryEmbedding": 1})
    assert next(iter(model.graph)).attribute("rotary_embedding_dim") == 4


@pytest.mark.parametrize(
    "take",
    [
        "q = Gather(h, zero) k = Gather(h, one) v = Gather(h, two)",
        """q1, k1, v1 = Split<axis = 0, num_outputs = 3>(h) q = Squeeze(q1, first)
        k = Squeeze(k1, first) v = Squeeze(v1, first)""",
        """q1 = Slice(h, first, second, first) k1 = Slice(h, second, third, first)
        v1 = Slice(h, third, end, first) q = Squeeze(q1, first) k = Squeeze(k1, first)
        v = Squeeze(v1, first)""",
    ],
)
def test_packed_query_key_and_value(take: str) -> None:
    text = f"""g (float[B,S,24] x) => (float[B,S,8] y)
    <int64[5] split = {{0, 0, 3, 2, 4}}, int64[3] join = {{0, 0, 8}}, int64 zero = {{0}},
     int64 one = {{1}}, int64 two = {{2}}, int64[1] first = {{0}}, int64[1] second = {{1}},
     int64[1] third = {{2}}, int64[1] end = {{3}}, float scale = {{0.5}}> {{
        r = Reshape(x, split) h = Transpose<perm = [2, 0, 3, 1, 4]>(r) {take}
        c = Mul(q, scale) kt = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(c, kt) p = Softmax(s)
        o = MatMul(p, v) t = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(t, join)
    }}"""
    model = fuse(text, *ATTENTION, eliminate_common_subexpressions)
    assert ops(model.graph) == {"Split": 1, "Attention": 1}


def test_scale_before_a_transpose() -> None:
    text = _HEADS.replace(
        "qh = Transpose<perm = [0, 2, 1, 3]>(q4)",
        "qs = Mul(q4, c) qh = Transpose<perm = [0, 2, 1, 3]>(qs)",
    )
    text = text.replace("int64[4] split", "float c = {0.5}, int64[4] split")
    node = next(iter(assert_fused(text, *ATTENTION, to=FUSED).graph))
    assert node.attribute("scale") == 0.5


def test_keys_with_heads_behind_the_sequence() -> None:
    """torch's MultiheadAttention: the sequence comes first, batch and heads are one axis."""
    text = """g (float[3,4,2] q, float[5,4,2] k, float[5,4,2] v) => (float[4,3,2] y) {
        a = Transpose<perm = [1, 0, 2]>(q) b = Transpose<perm = [1, 2, 0]>(k)
        c = Transpose<perm = [1, 0, 2]>(v) s = MatMul(a, b) p = Softmax(s) y = MatMul(p, c)
    }"""
    assert_fused(text, *ATTENTION, to={"Transpose": 3, "Attention": 1})


@pytest.mark.parametrize("mask", ["", "1,3,3", "4,3,3"])
def test_batch_and_heads_as_one_axis(mask: str) -> None:
    add = "s = Add(t, m)" if mask else "s = Identity(t)"
    text = f"""g (float[2,2,3,4] q, float[2,2,3,4] k, float[2,2,3,4] v, float[{mask or 1}] m)
        => (float[2,2,3,4] y) <int64[3] joined = {{4, 3, 4}}, int64[4] parted = {{2, 2, 3, 4}}> {{
        a = Reshape(q, joined) b = Reshape(k, joined) c = Reshape(v, joined)
        bt = Transpose<perm = [0, 2, 1]>(b) t = MatMul(a, bt) {add} p = Softmax(s)
        o = MatMul(p, c) y = Reshape(o, parted)
    }}"""
    found = ops(fuse(text, eliminate_identity, *ATTENTION).graph)
    assert found["Attention"] == 1
    assert found["Reshape"] == (4 if mask.startswith("4") else 0)
