# SPDX-License-Identifier: Apache-2.0
"""MurmurHash3_x86_32 of numbers. Texts are hashed by the host operator, which takes any type."""

from __future__ import annotations

import numpy as np

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.arguments import check, integer
from bascule.canonical.registry import CONTRIB_DOMAIN, rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value

_WORDS = (DataType.UINT32, DataType.INT32, DataType.FLOAT)
_PAIRS = (DataType.UINT64, DataType.INT64, DataType.DOUBLE)


@rewrite("MurmurHash3", until=0, types=True, domain=CONTRIB_DOMAIN)
def murmur_hash3(node: Node, build: Builder) -> None:
    """The bits of each number are one word of 32 bits or, the lower one first, two."""
    check(node, build, 0, most=1)
    seed, positive = integer(node, build, "seed", 0), integer(node, build, "positive", 1)
    for name in node.attributes:
        if name not in ("seed", "positive"):
            raise build.invalid(f"attribute '{name}' is unknown")
    x = node.inputs[0]
    assert x is not None
    if x.dtype in _WORDS:
        words = [_bits(build, x, DataType.UINT32)]
    elif x.dtype in _PAIRS:
        pair = _bits(build, x, DataType.UINT64)
        upper = _shift(build, pair, 32, "RIGHT", np.uint64)
        lower = build.op("BitwiseAnd", pair, build.constant(np.array(0xFFFFFFFF, np.uint64)))
        words = [build.op("Cast", each, to=int(DataType.UINT32)) for each in (lower, upper)]
    else:
        return
    state = _word(build, seed & 0xFFFFFFFF)
    for word in words:
        mixed = build.op("Mul", word, _word(build, 0xCC9E2D51))
        mixed = build.op("Mul", _rotate(build, mixed, 15), _word(build, 0x1B873593))
        state = _rotate(build, build.op("BitwiseXor", state, mixed), 13)
        state = build.op("Mul", state, _word(build, 5))
        state = build.op("Add", state, _word(build, 0xE6546B64))
    state = build.op("BitwiseXor", state, _word(build, 4 * len(words)))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        moved = _shift(build, state, shift, "RIGHT")
        state = build.op("Mul", build.op("BitwiseXor", state, moved), _word(build, factor))
    moved = _shift(build, state, 16, "RIGHT")
    if positive:
        build.become("BitwiseXor", state, moved)
    else:
        state = build.op("BitwiseXor", state, moved)
        build.become("BitCast", state, to=int(DataType.INT32))


def _bits(build: Builder, x: Value, dtype: DataType) -> Value:
    return x if x.dtype is dtype else build.op("BitCast", x, to=int(dtype))


def _word(build: Builder, number: int) -> Value:
    return build.constant(np.array(number, np.uint32))


def _shift(
    build: Builder, x: Value, count: int, direction: str, dtype: type[np.generic] = np.uint32
) -> Value:
    return build.op("BitShift", x, build.constant(np.array(count, dtype)), direction=direction)


def _rotate(build: Builder, x: Value, count: int) -> Value:
    left, right = _shift(build, x, count, "LEFT"), _shift(build, x, 32 - count, "RIGHT")
    return build.op("BitwiseOr", left, right)
