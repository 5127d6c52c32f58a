# SPDX-License-Identifier: Apache-2.0
"""MurmurHash3 of domain com.microsoft: the 32-bit hash of texts, by their bytes, and of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.graph import Node
from bascule.providers.cpu.host.re2_patterns import utf8
from bascule.providers.cpu.host.registry import HostFunction, host_operator

Array = np.ndarray[Any, Any]

_BYTES = (4, 8)


@host_operator("MurmurHash3", domain="com.microsoft")
def murmur_hash3(node: Node) -> HostFunction:
    seed = node.attribute("seed", 0) & 0xFFFFFFFF
    dtype = np.uint32 if node.attribute("positive", 1) else np.int32

    def run(x: Array) -> Array:
        if x.dtype == object:
            result = _of_texts([utf8(text) for text in x.flat], seed)
        elif x.dtype.kind in "iuf" and x.dtype.itemsize in _BYTES:
            rows = np.ascontiguousarray(x).reshape(-1).view(np.uint8).reshape(-1, x.dtype.itemsize)
            result = _hash(rows, seed)
        else:
            raise ValueError(
                f"the input is of type {x.dtype}; expected strings or numbers of 32 or 64 bits"
            )
        hashes: Array = result.view(dtype).reshape(x.shape)
        return hashes

    return run


def _of_texts(texts: list[bytes], seed: int) -> Array:
    """All texts of one length at a time."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    result = np.empty(len(texts), np.uint32)
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        data = b"".join([texts[place] for place in places])
        rows = np.frombuffer(data, np.uint8).reshape(len(places), int(length))
        result[places] = _hash(rows, seed)
    return result


def _hash(rows: Array, seed: int) -> Array:
    """The hash of each row of bytes. Arrays of uint32 wrap around, as the algorithm asks."""
    count, length = rows.shape
    state = np.full(count, seed, np.uint32)
    blocks = length // 4
    words = np.ascontiguousarray(rows[:, : 4 * blocks]).view("<u4").astype(np.uint32, copy=False)
    for index in range(blocks):
        state ^= _scrambled(words[:, index])
        state = _rotated(state, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    if length % 4:
        last = np.zeros((count, 4), np.uint8)
        last[:, : length % 4] = rows[:, 4 * blocks :]
        state ^= _scrambled(last.view("<u4")[:, 0].astype(np.uint32, copy=False))
    state ^= np.uint32(length & 0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state ^= state >> np.uint32(shift)
        state *= np.uint32(factor)
    state ^= state >> np.uint32(16)
    return state


def _scrambled(words: Array) -> Array:
    scrambled: Array = _rotated(words * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    return scrambled


def _rotated(words: Array, count: int) -> Array:
    rotated: Array = (words << np.uint32(count)) | (words >> np.uint32(32 - count))
    return rotated
