# SPDX-License-Identifier: Apache-2.0
"""Products whose results are images that a 1x1 convolution reads."""

from __future__ import annotations

import pytest

from bascule.optimizer.eliminate_dead_code import eliminate_dead_code
from bascule.optimizer.merge_linear_maps import merge_linear_maps
from tests.optimizer.fusing import fuse

_CONSTANTS = """<float[2,3] v = {1, -2, 3, 0.5, -1, 4}, float[3] b = {1, -2, 3},
    int64[4] shape = {1, 2, 2, 3}, int64[4] other = {1, 2, 1, 6},
    float[3,2] vt = {1, 2, 3, 4, 5, 6},
    float[2,3,1,1] w = {1, -1, 2, 0.5, 3, -4}, float[2] c = {3, -1},
    float[2,6,1,1] wide = {1, -1, 2, 0.5, 3, -4, 1, 2, 3, 4, 5, 6},
    float[2,3,2,1] tall = {1, -1, 2, 0.5, 3, -4, 1, 2, 3, 4, 5, 6}>"""


def order(body: str) -> list[str]:
    text = f"""g (float[1,4,2] x, float[1,2,4] xt, float[1,2,2,2] r, float[1,4,3] m)
        => (float[1,H,W,2] y) {_CONSTANTS} {{ {body} }}"""
    return [node.op_type for node in fuse(text, merge_linear_maps, eliminate_dead_code).graph]


_CONV = "bascule.Conv<channels_last = 1>"


@pytest.mark.parametrize(
    "product", ["MatMul(x, v)", "bascule.MatMul(x, v, b)", "bascule.MatMul<transB = 1>(x, vt)"]
)
@pytest.mark.parametrize("conv", [f"{_CONV}(i, w)", f"{_CONV}(i, w, c, r)"])
def test_merged(product: str, conv: str) -> None:
    assert order(f"t = {product} i = Reshape(t, shape) y = {conv}") == ["Reshape", "Conv"]


@pytest.mark.parametrize(
    "product, shape, conv",
    [
        ("bascule.MatMul<transA = 1>(xt, v)", "shape", f"{_CONV}(i, w)"),
        ("bascule.MatMul<alpha = 2.0>(x, v)", "shape", f"{_CONV}(i, w)"),
        ('bascule.MatMul<activation = "Relu">(x, v)', "shape", f"{_CONV}(i, w)"),
        ("bascule.MatMul(x, v, , m)", "shape", f"{_CONV}(i, w)"),
        ("MatMul(x, v)", "other", f"{_CONV}(i, wide)"),
        ("MatMul(x, v)", "shape", f"{_CONV}(i, tall)"),
        ("MatMul(x, v)", "shape", "bascule.Conv<channels_last = 1, pads = [1, 1, 1, 1]>(i, w, c)"),
    ],
)
def test_kept(product: str, shape: str, conv: str) -> None:
    assert order(f"t = {product} i = Reshape(t, {shape}) y = {conv}") == [
        "MatMul",
        "Reshape",
        "Conv",
    ]


def test_image_that_others_read_is_kept() -> None:
    body = f"t = MatMul(x, v) i = Reshape(t, shape) a = {_CONV}(i, w) b2 = {_CONV}(i, w, c)"
    assert order(body + " y = Add(a, b2)") == ["MatMul", "Reshape", "Conv", "Conv", "Add"]
