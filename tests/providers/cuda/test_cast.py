# SPDX-License-Identifier: Apache-2.0
"""Cast on the CUDA provider gives the CPU provider's bits, between all element types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.providers.cuda.elementwise_functions import CONVERTIBLE
from tests.providers.cuda.elementwise_bodies import Body
from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

RANDOM = np.random.default_rng(3)
ALL = sorted(CONVERTIBLE)
FLOAT8 = [d for d in ALL if d.name.startswith("FLOAT8")]
# Every element is widened to one of few types, and these are converted.
WIDE = [
    *(DataType.FLOAT, DataType.DOUBLE, DataType.INT64, DataType.UINT64, DataType.INT32),
    *(DataType.INT8, DataType.UINT16, DataType.BOOL),
]


def numbers(dtype: DataType) -> np.ndarray:
    """Patterns of all kinds: for narrow types every one, ties and ranges for wide ones."""
    if dtype is DataType.BOOL:
        return np.array([True, False, True])
    if dtype.bits <= 8:
        return np.arange(1 << dtype.bits, dtype=np.uint8).view(dtype.numpy)
    if dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        x = RANDOM.integers(limits.min, limits.max, 200, dtype.numpy, endpoint=True)
        shifted = x >> RANDOM.integers(0, dtype.bits, 200).astype(dtype.numpy)
        ends = np.array([limits.min, limits.max, 0, 1, limits.max - 1], dtype.numpy)
        return np.concatenate([x, shifted, ends])
    if dtype.bits == 16:
        return RANDOM.integers(0, 1 << 16, 600, np.uint16).view(dtype.numpy)
    scale = 2.0 ** RANDOM.integers(-45, 45, 300)
    ties = RANDOM.integers(-64, 64, 300) / 8 * 2.0 ** RANDOM.integers(-12, 12, 300)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 448, 464, 480, 57344, 61440, 65520, 65519]
    special += [2.0**31, -(2.0**31), 2.0**63, -(2.0**63), 2.0**64, 3.4e38, 1.0 + 2.0**-9]
    nudged = ties * (1 + 2.0**-30)  # of float64, halfway but for what float32 has no room for
    with np.errstate(over="ignore"):
        return np.concatenate([scale * RANDOM.standard_normal(300), ties, nudged, special]).astype(
            dtype.numpy
        )


def bits(array: np.ndarray, dtype: DataType) -> np.ndarray:
    """The bits of the elements; NaN in one form."""
    raw = array.reshape(-1).view(np.uint8)
    if dtype.is_float and dtype.bits >= 8:
        with np.errstate(invalid="ignore"):
            is_nan = np.isnan(array.astype(np.float64)).repeat(array.itemsize)
        return np.where(is_nan, 0xFF, raw)
    return raw & ((1 << dtype.bits) - 1) if dtype.bits < 8 else raw


def check(pairs: list[tuple[DataType, DataType, dict[str, Any]]]) -> None:
    body = Body()
    inputs = {source: body.input(numbers(source)) for source in {each[0]: 0 for each in pairs}}
    longest = max(feed.size for feed in body.feeds)
    body.feeds = [np.resize(feed, longest) for feed in body.feeds]
    fed = dict(zip(inputs, body.feeds))
    for source, target, attributes in pairs:
        body.output("Cast", inputs[source], dtype=target.numpy, to=int(target), **attributes)
    results = run_node(
        "Elementwise",
        body.feeds,
        {"body": body.graph},
        len(pairs),
        "bascule",
        [target.numpy for _, target, _ in pairs],
    )
    for (source, target, attributes), actual in zip(pairs, results):
        (expected,) = native.run_node("Cast", [fed[source]], {"to": int(target), **attributes})
        name = f"{source.name} to {target.name} {attributes}"
        np.testing.assert_array_equal(bits(actual, target), bits(expected, target), name)


@pytest.mark.parametrize("sources", [WIDE[:2], WIDE[2:4], WIDE[4:6], WIDE[6:]])
def test_to_all_types(sources: list[DataType]) -> None:
    check([(source, target, {}) for source in sources for target in ALL if source is not target])


@pytest.mark.parametrize("target", [DataType.FLOAT, DataType.INT64])
def test_from_all_types(target: DataType) -> None:
    check([(source, target, {}) for source in ALL if source is not target])


def test_what_does_not_fit() -> None:
    sources = [DataType.FLOAT, DataType.FLOAT16, DataType.FLOAT8E5M2]
    pairs = [(s, t, {"saturate": 0}) for s in sources for t in FLOAT8 if s is not t]
    pairs += [
        (source, DataType.FLOAT8E8M0, {"saturate": saturate, "round_mode": mode})
        for source in sources
        for saturate in (0, 1)
        for mode in ("up", "down", "nearest")
    ]
    check(pairs)


def test_single_node() -> None:
    x = RANDOM.standard_normal((3, 70)).astype(np.float32)
    (y,) = run_node("Cast", [x], {"to": int(DataType.FLOAT16)})
    np.testing.assert_array_equal(y, x.astype(np.float16))
    (y,) = run_node("Cast", [x], {"to": int(DataType.FLOAT)})
    np.testing.assert_array_equal(y, x)
