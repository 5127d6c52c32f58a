# SPDX-License-Identifier: Apache-2.0
"""What is made for providers that start few large operations, beyond the texts of the passes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bascule.ir.graph import Model
from bascule.optimizer import Level, optimize
from bascule.optimizer.fuse_cache_rows import fuse_cache_rows
from bascule.optimizer.fuse_projections import fuse_projections
from bascule.optimizer.fused import definition
from bascule.optimizer.transpose_weights import transpose_weights
from tests.optimizer.fusing import CONTEXT, assert_fused, assert_kept, ops, run_expanded
from tests.optimizer.graphs import assert_close, feeds_for, parse, run_passes

CALL = "bascule.MatMulNBits<K = 16, N = 2, bits = 4, block_size = 16>"
BYTES = "{" + ", ".join(["137"] * 16) + "}"
CONSTANTS = f"""<uint8[2,1,8] a = {BYTES}, uint8[2,1,8] b = {BYTES},
    float16[2,1] s = {{14336, 13312}}, float16[2,1] t = {{13312, 14336}}>"""


def products(body: str, outputs: str = "float16[3,2] y", x: str = "float16[3,16] x") -> str:
    return f"g ({x}, float16[16] w) => ({outputs}) {CONSTANTS} {{ {body} }}"


def test_a_gate_and_its_factor_are_one_product() -> None:
    body = f"p = {CALL}(x, a, s) q = {CALL}(x, b, t) g = Swish(p)"
    for factors in ("g, q", "q, g"):
        text = products(f"{body} y = Mul({factors})")
        model = assert_fused(text, fuse_projections, to={"bascule.ProjectNBits": 1})
        (node,) = model.graph
        assert (node.attribute("N"), node.attribute("gated")) == (4, 1)


def test_products_of_the_same_rows_are_one() -> None:
    text = products(f"y = {CALL}(x, a, s) z = {CALL}(x, b, t)", "float16[3,2] y, float16[3,2] z")
    assert_fused(text, fuse_projections, to={"bascule.MatMulNBits": 1, "Split": 1})


@pytest.mark.parametrize(
    "text",
    [
        products(
            f"p = {CALL}(x, a, s) q = {CALL}(x, b, t) g = Swish<alpha = 2.0>(p) y = Mul(g, q)"
        ),
        products(f"p = {CALL}(x, a, s) g = Swish(p) y = Mul(g, p)"),
        products(f"n = RMSNormalization<axis = 0>(x, v) y = {CALL}(n, a, s)").replace(
            "float16[16] w", "float16[3,16] v"
        ),
    ],
)
def test_what_is_no_gate_and_no_normalization_of_rows(text: str) -> None:
    model = parse(text, definition)
    run_passes(model, fuse_projections, context=CONTEXT)
    assert "bascule.ProjectNBits" not in ops(model.graph)


def test_a_normalization_that_others_read_is_kept() -> None:
    text = products(
        f"n = RMSNormalization(x, w) y = {CALL}(n, a, s)", "float16[3,2] y, float16[3,16] n"
    )
    assert_kept(text, fuse_projections)


UPDATES = """
    g (float[1,1,4] k, float[1,1,4] v, float[1,1,6,4] pk, float[1,1,6,4] pv, float[1,1,8] q,
       int64[1] first, int64[1] other, int64[1] all) => (float[1,1,8] y) {
        nk = bascule.UpdateCache(pk, k, first, all) nv = bascule.UpdateCache(pv, v, first, all)
        y = bascule.Attention<q_num_heads = 2>(q, nk, nv) }"""


def test_caches_without_rotation() -> None:
    assert_fused(
        UPDATES,
        fuse_cache_rows,
        to={"bascule.CacheRows": 1, "bascule.Attention": 1},
        feeds={"first": np.array([2]), "all": np.array([6])},
    )


def test_caches_that_are_updated_elsewhere_are_kept() -> None:
    assert_kept(UPDATES.replace("(pv, v, first, all)", "(pv, v, other, all)"), fuse_cache_rows)
    assert_kept(
        UPDATES.replace("float[1,1,8] y)", "float[1,1,8] y, float[1,1,4] z)").replace(
            "y = b", "z = ReduceSum<keepdims = 0>(nk, first) y = b"
        ),
        fuse_cache_rows,
    )


SCATTERS = """
    g (float[2,1,1,4] k, float[2,1,1,4] v, float[2,1,6,4] pk, float[2,1,6,4] pv,
       float[2,2,1,4] q, int64[2] at) => (float[2,2,1,4] y) {
        nk = TensorScatter<axis = 2>(pk, k, at) nv = TensorScatter<axis = 2>(pv, v, at)
        y = Attention(q, nk, nv) }"""


def test_scatters_into_both_caches() -> None:
    made = {"bascule.CacheRows": 1, "Attention": 1, "Reshape": 2}
    assert_fused(SCATTERS, fuse_cache_rows, to=made, feeds={"at": np.array([2, 5])})
    rows = SCATTERS.replace("2,1,1,4] k", "2,1,2,4] k").replace("2,1,1,4] v", "2,1,2,4] v")
    assert_kept(rows, fuse_cache_rows)
    assert_kept(SCATTERS.replace("<axis", '<mode = "circular", axis'), fuse_cache_rows)


def turned(text: str) -> Model:
    model = parse(text, definition)
    run_passes(model, transpose_weights, context=CONTEXT)
    return model


WEIGHTS = "<float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}>"


def test_weights_of_many_rows_stay() -> None:
    for shape, rows in (("8,4", "8,2"), ("2,4,4", "2,4,2")):
        text = f"g (float[{shape}] x) => (float[{rows}] y) {WEIGHTS} {{ y = MatMul(x, w) }}"
        assert_fused(text, transpose_weights, to={"bascule.MatMul": 1})
    for shape, rows in (("9,4", "9,2"), ("N,4", "N,2")):
        text = f"g (float[{shape}] x) => (float[{rows}] y) {WEIGHTS} {{ y = MatMul(x, w) }}"
        assert ops(turned(text).graph) == {"MatMul": 1}


def test_a_normalization_that_is_a_residual_too_is_kept() -> None:
    text = """g (float[1,4] x, float[4] s, float[4] b, float[4] c) => (float[1,4] y)
        <float[4,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> {
            n = LayerNormalization(x, s, b)
            y = bascule.MatMul<transB = 1>(n, w, c, n) }"""
    assert_kept(text, transpose_weights)
    text = f"""g (float16[3,16] x, float16[16] v) => (float16[3,16] y)
        <uint8[16,1,8] a = {{{", ".join(["137"] * 128)}}},
         float16[16,1] s = {{{", ".join(["14336"] * 16)}}}> {{
            n = RMSNormalization(x, v)
            y = bascule.ProjectNBits<K = 16, N = 16, bits = 4, block_size = 16>(
                n, a, s, , , , n) }}"""
    assert_kept(text, fuse_projections)


def test_weights_that_others_read_stay() -> None:
    body = "y = MatMul(x, w) z = Neg(w)"
    text = f"g (float[1,4] x) => (float[1,2] y, float[4,2] z) {WEIGHTS} {{ {body} }}"
    assert_kept(text, transpose_weights)


def test_the_parts_of_one_row_are_split_afterwards() -> None:
    text = f"""g (float[1,4] x) => (float[1,1] y, float[1,1] z) {WEIGHTS}
        {{ y, z = bascule.SplitMatMul(x, w) }}"""
    assert_fused(text, transpose_weights, to={"bascule.MatMul": 1, "Split": 1})
    assert_kept(text.replace("[1,", "[2,"), transpose_weights)


def written(seed: int) -> str:
    """A random network of products, normalizations, sums, splits and gates over rows of 4."""
    pick = random.Random(seed)
    rows = pick.choice((1, 1, 3, 9))
    values, lines, constants = ["x", "z"], [], []
    for number in range(pick.randint(3, 9)):
        made, a, b = f"v{number}", pick.choice(values[-3:]), pick.choice(values)
        kind = pick.randrange(6)
        if kind < 2:
            numbers = ", ".join(f"{pick.uniform(-1, 1):.3f}" for _ in range(16))
            constants.append(f"float[4,4] w{number} = {{{numbers}}}")
            lines.append(f"{made} = MatMul({a}, w{number})")
        elif kind == 2:
            kind_of = pick.choice(("LayerNormalization", "RMSNormalization"))
            lines.append(f"{made} = {kind_of}({a}, s)")
        elif kind == 3:
            lines.append(f"{made} = {pick.choice(('Add', 'Mul'))}({a}, {b})")
        elif kind == 4:
            lines.append(f"{made} = Add({a}, {pick.choice(('s', 't'))})")
        else:
            numbers = ", ".join(f"{pick.uniform(-1, 1):.3f}" for _ in range(32))
            constants.append(f"float[4,8] w{number} = {{{numbers}}}")
            lines.append(f"p{number} = MatMul({a}, w{number})")
            lines.append(f"{made}, u{number} = Split<axis = -1, num_outputs = 2>(p{number})")
            values.append(f"u{number}")
        values.append(made)
    shape = f"float[{rows},4]"
    outputs = ", ".join(f"{shape} {name}" for name in dict.fromkeys((values[-1], values[-2])))
    return (
        f"g ({shape} x, {shape} z) => ({outputs}) <float[4] s = {{1, 2, -1, 0.5}}, "
        f"float[4] t = {{0.5, 1, 3, -2}}, {', '.join(constants) or 'float o = {1}'}> "
        f"{{ {' '.join(lines)} }}"
    )


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_compute_the_same(seed: int) -> None:
    text = written(seed)
    feeds = feeds_for(parse(text, definition))
    expected = run_expanded(parse(text, definition), feeds)
    model = parse(text, definition)
    optimize(model, Level.ALL, context=CONTEXT, verify=True, few_launches=True)
    assert_close(run_expanded(model, feeds), expected)
