# SPDX-License-Identifier: Apache-2.0
"""A Resize that keeps every size."""

from __future__ import annotations

import pytest

from bascule.optimizer.eliminate_dead_code import eliminate_dead_code
from bascule.optimizer.eliminate_identity import eliminate_resize
from tests.optimizer.fusing import fuse

_CONSTANTS = """<float[4] ones = {1, 1, 1, 1}, float[4] nearly = {1, 1, 1.01, 1},
    int64[4] same = {1, 2, 3, 4}, int64[4] more = {1, 2, 3, 5}, int64[2] two = {3, 4}>"""


def order(resize: str) -> list[str]:
    text = f"g (float[1,2,3,4] x) => (float[1,2,3,W] y) {_CONSTANTS} {{ t = {resize} y = Neg(t) }}"
    return [node.op_type for node in fuse(text, eliminate_resize, eliminate_dead_code).graph]


@pytest.mark.parametrize(
    "resize",
    [
        "Resize(x, , ones)",
        'Resize<mode = "linear">(x, , , same)',
        'Resize<mode = "cubic", coordinate_transformation_mode = "align_corners">(x, , , same)',
        'Resize<mode = "linear", axes = [2, 3]>(x, , , two)',
    ],
)
def test_gone(resize: str) -> None:
    assert order(resize) == ["Neg"]


@pytest.mark.parametrize(
    "resize",
    [
        'Resize<mode = "linear">(x, , nearly)',
        'Resize<mode = "linear">(x, , , more)',
        'Resize<axes = [2, 3], keep_aspect_ratio_policy = "not_larger">(x, , , two)',
    ],
)
def test_kept(resize: str) -> None:
    assert order(resize) == ["Resize", "Neg"]
