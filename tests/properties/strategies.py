# SPDX-License-Identifier: Apache-2.0
"""What properties draw: element types, shapes, arrays, axes, and how a node is run.

Elements come from a seeded generator in one of a few flavours, so that drawing a large array costs
no more than drawing a number, and examples shrink to small shapes of plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from bascule import GraphOptimizationLevel
from tests.properties.running import Setup

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = tuple(np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16))
SIGNED = tuple(np.dtype(t) for t in (np.int8, np.int16, np.int32, np.int64))
UNSIGNED = tuple(np.dtype(t) for t in (np.uint8, np.uint16, np.uint32, np.uint64))
INTEGERS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTEGERS
BOOL = np.dtype(bool)

_SIDES = (1, 2, 3, 0, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130, 520)
"""A tail at every vector width, more than one tile, and nothing."""

FLAVOURS = ("plain", "whole", "wide", "special", "bits")
FINITE = ("plain", "whole", "wide")
TAME = ("plain", "whole")
"""Numbers of ordinary size, whose sums and products stay in range."""
HOLED = ("plain", "whole", "holed")
"""These, with some NaN and infinities in their midst."""


@st.composite
def shapes(
    draw: st.DrawFn, least: int = 0, most: int = 6, limit: int = 1100, empty: bool = True
) -> Shape:
    """A shape of `least` to `most` axes and at most `limit` elements, not counting empty axes."""
    rank = draw(st.integers(least, most))
    shape: list[int] = []
    for _ in range(rank):
        room = limit // math.prod(max(s, 1) for s in shape)
        sides = [s for s in _SIDES if s <= room and (s or empty)]
        shape.append(draw(st.sampled_from(sides)))
    return tuple(draw(st.permutations(shape))) if rank > 1 else tuple(shape)


@st.composite
def broadcast_shapes(
    draw: st.DrawFn, count: int, most: int = 6, limit: int = 1100, empty: bool = True
) -> tuple[Shape, ...]:
    """Shapes that NumPy broadcasts against each other."""
    whole = draw(shapes(0, most, limit, empty))
    found = []
    for _ in range(count):
        ones = draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
        shape = [1 if one else size for one, size in zip(ones, whole)]
        found.append(tuple(shape[draw(st.integers(0, len(whole))) :]))
    if draw(st.booleans()):  # the commonest case
        found[0] = whole
    return tuple(found)


@st.composite
def axes_of(draw: st.DrawFn, rank: int, least: int = 0) -> list[int]:
    """Some different axes, in any order, each counted from either end."""
    chosen = draw(st.lists(st.integers(0, rank - 1), unique=True, min_size=least, max_size=rank))
    return [axis - rank if draw(st.booleans()) else axis for axis in chosen]


def axis_of(rank: int) -> st.SearchStrategy[int]:
    """One axis, counted from either end."""
    return st.sampled_from(sorted(range(-rank, rank), key=lambda axis: (axis < 0, abs(axis))))


def arrays(
    dtype: Any, shape: Shape, flavours: Sequence[str] = FLAVOURS
) -> st.SearchStrategy[Array]:
    """An array of `shape` in one of `flavours`."""
    seeds = st.integers(0, 2**16)
    return st.builds(
        lambda flavour, seed: fill(np.dtype(dtype), shape, flavour, seed),
        st.sampled_from(tuple(flavours)),
        seeds,
    )


def fill(dtype: np.dtype[Any], shape: Shape, flavour: str, seed: int) -> Array:
    """Elements of `flavour`: the same for the same arguments."""
    generator = np.random.default_rng(seed)
    if dtype == BOOL:
        return np.asarray(generator.random(shape) < 0.5)
    if dtype.kind == "O":
        words = np.array(["", "a", "b", "abc", "a rather long text that is on the heap"], object)
        return np.asarray(generator.choice(words, size=shape), dtype=object).reshape(shape)
    if dtype.kind in "iu" or dtype.name in ("int4", "uint4", "int2", "uint2"):
        return _integers(generator, dtype, shape, flavour)
    with np.errstate(all="ignore"):
        return _floats(generator, dtype, shape, flavour)


def _integers(
    generator: np.random.Generator, dtype: np.dtype[Any], shape: Shape, flavour: str
) -> Array:
    info = ml_dtypes.iinfo(dtype)
    least, largest = int(info.min), int(info.max)
    wide = np.dtype(np.int64) if least < 0 else np.dtype(np.uint64)
    if flavour == "plain":
        low, high = max(least, -5), min(largest, 5)
        return generator.integers(low, high, shape, wide, endpoint=True).astype(dtype)
    if flavour == "whole":
        low, high = max(least, -100), min(largest, 100)
        return generator.integers(low, high, shape, wide, endpoint=True).astype(dtype)
    anything = generator.integers(least, largest, shape, wide, endpoint=True)
    if flavour == "special":
        edges = [least, least + 1, largest - 1, largest, 0, 1, 2 if largest > 2 else 1]
        chosen = generator.choice(np.array(edges, dtype=wide), size=shape)
        anything = np.where(generator.random(shape) < 0.7, chosen, anything)
    return np.asarray(anything).astype(dtype)


def _floats(
    generator: np.random.Generator, dtype: np.dtype[Any], shape: Shape, flavour: str
) -> Array:
    info = ml_dtypes.finfo(dtype)
    plain = np.asarray(generator.standard_normal(shape) * 2)
    if flavour == "plain":
        return plain.astype(dtype)
    if flavour == "whole":
        return np.asarray(np.round(plain)).astype(dtype)
    if flavour == "holed":
        hole = generator.choice([np.nan, np.inf, -np.inf, -0.0], size=shape)
        return np.asarray(np.where(generator.random(shape) < 0.05, hole, plain)).astype(dtype)
    if flavour == "wide":  # subnormal numbers and almost infinite ones too
        low, high = math.log2(float(info.smallest_subnormal)), math.log2(float(info.max)) - 0.01
        sign = np.where(generator.random(shape) < 0.5, -1.0, 1.0)
        return np.asarray(sign * np.exp2(generator.uniform(low, high, shape))).astype(dtype)
    if flavour == "bits":
        count = math.prod(shape) * dtype.itemsize
        return np.frombuffer(generator.bytes(count), dtype).reshape(shape).copy()
    edges = np.array(
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5]
        + [sign * float(v) for sign in (1, -1)
           for v in (info.max, info.smallest_normal, info.smallest_subnormal, 88.9, 104.5)]
    )  # fmt: skip
    chosen = generator.choice(edges, size=shape)
    return np.asarray(np.where(generator.random(shape) < 0.5, chosen, plain)).astype(dtype)


def numbers(least: float = -4.0, most: float = 4.0) -> st.SearchStrategy[float]:
    """A float32 attribute."""
    return st.one_of(
        st.sampled_from([v for v in (1.0, 0.5, 0.0, -1.0, 2.0) if least <= v <= most]),
        st.floats(least, most, width=32, allow_subnormal=False),
    )


@st.composite
def setups(draw: st.DrawFn, inputs: int = 0, constants: bool = True) -> Setup:
    """How a node with `inputs` inputs is run."""
    return Setup(
        level=draw(
            st.sampled_from(
                [GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL]
            )
        ),
        shapes=draw(st.sampled_from(["static", "symbolic", "unknown"])),
        constants=frozenset(
            draw(st.sets(st.integers(0, inputs - 1))) if inputs and constants else ()
        ),
        staged=draw(st.booleans()),
    )
