# SPDX-License-Identifier: Apache-2.0
"""Regions of elementwise operators."""

from __future__ import annotations

from bascule.optimizer.fuse_elementwise import fuse_elementwise
from tests.optimizer.fusing import assert_fused, assert_kept, fuse, ops

FUSED = {"bascule.Elementwise": 1}


def test_a_region_with_branches_numbers_and_types() -> None:
    text = """g (float[2,3] a, float[3] b, float[2,1] c) => (float[2,3] y)
    <float half = {0.5}, float[1,1] one = {1}> {
        s = Add(a, b) t = Tanh(s) big = Greater(t, half) m = Mul(t, c) n = Sub(s, one)
        w = Where(big, m, n) i = Cast<to = 7>(w) f = Cast<to = 1>(i) y = Max(f, w, a)
    }"""
    model = assert_fused(text, fuse_elementwise, to=FUSED)
    body = next(iter(model.graph)).attribute("body")
    assert len(body.inputs) == 4  # the number is in the body, the array of one element is not
    assert [value.constant is not None for value in body.initializers.values()] == [True]


def test_values_with_later_readers_become_outputs() -> None:
    text = """g (float[2,3] a, float[2,3] b) => (float[2,3] y, float[2,3] s, float[3] r)
    <int64[1] axis = {0}> {
        s = Add(a, b) t = Exp(s) y = Mul(t, b) r = ReduceSum<keepdims = 0>(t, axis)
    }"""
    model = assert_fused(text, fuse_elementwise, to={"bascule.Elementwise": 1, "ReduceSum": 1})
    assert len(next(iter(model.graph)).outputs) == 3
    assert [value.name for value in model.graph.outputs] == ["y", "s", "r"]


def test_a_reader_in_between_parts_the_region() -> None:
    text = """g (float[2,3] a) => (float[2,3] y) <int64[1] axis = {1}> {
        s = Exp(a) r = ReduceSum(s, axis) t = Div(s, r) y = Tanh(t)
    }"""
    found = ops(fuse(text, fuse_elementwise).graph)
    assert found == {"Exp": 1, "ReduceSum": 1, "bascule.Elementwise": 1}


def test_smaller_operands_are_computed_once() -> None:
    text = """g (float[2,3] a, float[2,1] b) => (float[2,3] y)
        { e = Exp(b) f = Neg(e) m = Mul(a, f) y = Abs(m) }"""
    assert_fused(text, fuse_elementwise, to={"bascule.Elementwise": 2})


def test_unknown_sizes_join_where_the_shape_certainly_stays() -> None:
    text = "g (float[N,M] a) => (float[N,M] y) { e = Exp(a) f = Neg(e) y = Mul(f, a) }"
    assert_fused(text, fuse_elementwise, to=FUSED)
    text = "g (float[N] a, float[M] b) => (float[K] y) { e = Exp(b) y = Mul(a, e) }"
    assert_kept(text, fuse_elementwise)


def test_single_nodes_and_integers_are_kept() -> None:
    assert_kept("g (float[2] a) => (float[2] y) { y = Exp(a) }", fuse_elementwise)
    text = "g (int64[2] a, int64[2] b) => (int64[2] y) { s = Add(a, b) y = Mul(s, b) }"
    assert_kept(text, fuse_elementwise)


def test_nested_graphs_are_fused_and_captured_values_kept() -> None:
    text = """g (float[2] a, bool c) => (float[2] y) {
        e = Exp(a) f = Neg(e)
        y = If<then_branch = yes () => (float[2] p) { q = Tanh(e) p = Mul(q, a) },
               else_branch = no () => (float[2] r) { r = Abs(f) }>(c)
    }"""
    model = fuse(text, fuse_elementwise)
    assert ops(model.graph) == {"bascule.Elementwise": 1, "If": 1}
    assert "bascule.Elementwise" in ops(model.graph.nodes[-1].attribute("then_branch"))
