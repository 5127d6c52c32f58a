# SPDX-License-Identifier: Apache-2.0
"""1x1 convolutions of enlarged images."""

from __future__ import annotations

import pytest

from bascule.optimizer.eliminate_dead_code import eliminate_dead_code
from bascule.optimizer.move_convolution_before_resize import move_convolution_before_resize
from tests.optimizer.fusing import fuse
from tests.optimizer.graphs import parse

PASSES = (move_convolution_before_resize, eliminate_dead_code)

_CONSTANTS = """<float[4] scales = {1, 1, 2, 2}, float[4] uneven = {1, 1, 1, 3},
    float[4] mixing = {1, 1.2, 2, 2},
    float[4] smaller = {1, 1, 0.5, 0.5}, int64[4] sizes = {2, 2, 5, 6}, int64[2] two = {5, 6},
    float[3,2,1,1] w = {1, -2, 3, 0.5, -1, 4}, float[3,4,1,1] all = {1, 2, -3, 4, 5, 6, -7, 8, 9,
    1, 2, 3}, float[2,2,3,3] wide = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3,
    4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9}, float[5,2,1,1] many = {1, 2, 3, 4, 5, 6, 7, 8, 9,
    1}, float[2,1,1,1] single = {2, 3}, float[3] b = {1, -2, 3}>"""


def graph(body: str, shapes: str = "float[2,2,3,2] x, float[2,2,6,4] z", y: str = "N") -> str:
    return f"g ({shapes}) => (float[{y},C,H,W] y) {_CONSTANTS} {{ {body} }}"


def order(text: str) -> list[str]:
    return [node.op_type for node in fuse(text, *PASSES).graph]


@pytest.mark.parametrize(
    "attributes",
    [
        '<mode = "linear">',
        '<mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric">',
        '<mode = "cubic", exclude_outside = 1>',
        '<mode = "linear", coordinate_transformation_mode = "align_corners">',
    ],
)
@pytest.mark.parametrize("inputs", ["x, , scales", "x, , uneven", "x, , , sizes"])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_one_image(attributes: str, inputs: str, bias: str) -> None:
    body = f"r = Resize{attributes}({inputs}) y = Conv(r, w{bias})"
    assert order(graph(body)) == ["Conv", "Resize"]


def test_sizes_of_some_axes() -> None:
    body = 'r = Resize<mode = "linear", axes = [2, 3]>(x, , , two) y = Conv(r, w, b)'
    assert order(graph(body)) == ["Conv", "Resize"]


@pytest.mark.parametrize("parts", ["r, z", "z, r"])
def test_beside_another(parts: str) -> None:
    body = f'r = Resize<mode = "linear">(x, , scales) a = Concat<axis = 1>({parts})'
    found = order(graph(f"{body} y = Conv(a, all, b)"))
    assert found == ["Conv", "Conv", "Resize", "Add"]


def test_two_enlarged() -> None:
    body = """r = Resize<mode = "linear">(x, , scales) s = Resize<mode = "linear">(z, , scales)
        a = Concat<axis = 1>(r, s) y = Conv(a, all, b)"""
    shapes = "float[2,2,3,2] x, float[2,2,3,2] z"
    found = order(graph(body, shapes))
    assert found == ["Conv", "Resize", "Conv", "Resize", "Add"]


@pytest.mark.parametrize(
    "body",
    [
        'r = Resize<mode = "linear">(x, , mixing) y = Conv(r, w)',
        'r = Resize<mode = "linear">(x, , smaller) y = Conv(r, w)',
        'r = Resize<mode = "linear">(x, , scales) y = Conv(r, wide)',
        'r = Resize<mode = "linear">(x, , scales) y = Conv<strides = [2, 2]>(r, w)',
        'r = Resize<mode = "linear">(x, , scales) y = Conv<pads = [1, 1, 1, 1]>(r, w)',
        'r = Resize<mode = "linear">(x, , scales) y = Conv<group = 2>(r, single)',
        'r = Resize<mode = "linear">(x, , scales) y = Conv(r, many)',
        'r = Resize<mode = "linear">(x, , scales) c = Conv(r, w) n = Neg(r) y = Concat(c, n)',
        "a = Concat<axis = 1>(z, z) y = Conv(a, all)",
    ],
)
def test_kept(body: str) -> None:
    body = body.replace("Concat(", "Concat<axis = 1>(")
    before = [node.op_type for node in parse(graph(body)).graph]
    assert order(graph(body)) == before
