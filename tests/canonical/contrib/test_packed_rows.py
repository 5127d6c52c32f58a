# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported

from .comparison import Array, check, model_of, normal, session

CURVE = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]


def half(block: Array, place: int) -> float:
    return float(block[place : place + 2].view(np.float16)[0])


def q4_0(block: Array) -> list[float]:
    levels = [byte & 15 for byte in block[2:]] + [byte >> 4 for byte in block[2:]]
    return [half(block, 0) * (int(level) - 8) for level in levels]


def q5_0(block: Array) -> list[float]:
    fifth = int(block[2:6].view("<u4")[0])
    levels = [byte & 15 for byte in block[6:]] + [byte >> 4 for byte in block[6:]]
    return [
        half(block, 0) * (int(level) + 16 * (fifth >> place & 1) - 16)
        for place, level in enumerate(levels)
    ]


def q8_0(block: Array) -> list[float]:
    return [half(block, 0) * int(level) for level in block[2:].view(np.int8)]


def q2_0(block: Array) -> list[float]:
    return [
        half(block, 0) * ((int(byte) >> shift & 3) - 1)
        for byte in block[2:]
        for shift in (0, 2, 4, 6)
    ]


def q5_k(block: Array) -> list[float]:
    packed = [int(byte) for byte in block[4:16]]
    found = []
    for run in range(8):
        if run < 4:
            scale, least = packed[run] & 63, packed[run + 4] & 63
        else:
            scale = packed[run + 4] & 15 | packed[run - 4] >> 6 << 4
            least = packed[run + 4] >> 4 | packed[run] >> 6 << 4
        for place in range(32):
            level = int(block[48 + 32 * (run // 2) + place]) >> 4 * (run % 2) & 15
            level += 16 * (int(block[16 + place]) >> run & 1)
            found.append(half(block, 0) * scale * level - half(block, 2) * least)
    return found


def q6_k(block: Array) -> list[float]:
    found = []
    for place in range(256):
        side, quarter, column = place // 128, place % 128 // 32, place % 32
        low = int(block[64 * side + 32 * (quarter % 2) + column]) >> 4 * (quarter // 2) & 15
        high = int(block[128 + 32 * side + column]) >> 2 * quarter & 3
        scale = int(block[192:208].view(np.int8)[place // 16])
        found.append(half(block, 208) * scale * (low + 16 * high - 32))
    return found


def iq4_nl(block: Array) -> list[float]:
    levels = [byte & 15 for byte in block[2:]] + [byte >> 4 for byte in block[2:]]
    return [half(block, 0) * CURVE[level] for level in levels]


def iq4_xs(block: Array) -> list[float]:
    high = int(block[2:4].view("<u2")[0])
    found = []
    for run in range(8):
        scale = int(block[4 + run // 2]) >> 4 * (run % 2) & 15 | (high >> 2 * run & 3) << 4
        own = block[8 + 16 * run : 24 + 16 * run]
        levels = [byte & 15 for byte in own] + [byte >> 4 for byte in own]
        found += [half(block, 0) * (scale - 32) * CURVE[level] for level in levels]
    return found


BLOCKS: dict[int, tuple[int, int, list[int], Callable[[Array], list[float]]]] = {
    2: (32, 18, [0], q4_0),
    6: (32, 22, [0], q5_0),
    8: (32, 34, [0], q8_0),
    13: (256, 176, [0, 2], q5_k),
    14: (256, 210, [208], q6_k),
    20: (32, 18, [0], iq4_nl),
    23: (256, 136, [0], iq4_xs),
    42: (64, 18, [0], q2_0),
}
"""How many numbers and bytes a block has, where its scales are, and what it stands for."""

ROWS, COLUMNS = 5, 512


def table(number: int) -> tuple[Array, Array]:
    """The bytes of rows, and what they stand for."""
    if number in (0, 1, 30):
        dtype = {0: np.float32, 1: np.float16, 30: ml_dtypes.bfloat16}[number]
        rows = normal(ROWS, COLUMNS).astype(dtype)
        return rows.view(np.uint8), rows.astype(np.float64)
    count, size, scales, decode = BLOCKS[number]
    generator = np.random.default_rng(number)
    blocks = generator.integers(0, 256, (ROWS, COLUMNS // count, size)).astype(np.uint8)
    for place in scales:
        scale = normal(*blocks.shape[:2], 1, seed=place, dtype=np.float16)
        blocks[..., place : place + 2] = scale.view(np.uint8)
    numbers = [[decode(block) for block in row] for row in blocks]
    return blocks.reshape(ROWS, -1), np.array(numbers).reshape(ROWS, COLUMNS)


@pytest.mark.parametrize("indices", [[2, 0], [[4, 1, 1], [-1, 5, 3]], 3])
@pytest.mark.parametrize("number", [0, 1, 30, *BLOCKS])
def test_layouts(number: int, indices: Any) -> None:
    data, numbers = table(number)
    index = np.array(indices, np.int32 if number % 4 else np.int64)
    there = np.where((index >= 0) & (index < ROWS), index, 0)
    check(
        "GatherPacked",
        lambda data, index: numbers[there],
        [data, index],
        {"packed_type": number, "K": COLUMNS, "output_dtype": 1},
        dtypes=[np.float32],
        declares=[0],
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves(dtype: Any) -> None:
    data, numbers = table(14)
    index = np.array([1, 3])
    attributes = {"packed_type": 14, "K": COLUMNS}
    if dtype == np.float16:
        attributes["output_dtype"] = 10
    model = model_of("GatherPacked", [data, index], attributes)
    [found] = session(model).run(None, {"in0": data, "in1": index})
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, numbers[index].astype(np.float32).astype(dtype))


@pytest.mark.parametrize(
    "changed, error, problem",
    [
        ({"packed_type": 16}, NotSupported, "'packed_type' 16"),
        ({"K": 48}, InvalidGraph, "'K' is 48"),
        ({"K": 64}, InvalidGraph, "'data' has rows of 18 bytes"),
        ({"output_dtype": 7}, InvalidGraph, "'output_dtype' is 7"),
    ],
)
def test_refused(changed: dict[str, int], error: Any, problem: str) -> None:
    inputs = [np.zeros((5, 18), np.uint8), np.array([0])]
    attributes = {"packed_type": 2, "K": 32, **changed}
    with pytest.raises(error, match=f"GatherPacked.*{problem}.*node"):
        session(model_of("GatherPacked", inputs, attributes))
