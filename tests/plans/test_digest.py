# SPDX-License-Identifier: Apache-2.0
"""The hash of contents, against the same sums in Python's integers."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from bascule.native import _native

_WORD = (1 << 64) - 1
_ODD32, _ODD64 = 0x9E3779B1, 0x9E3779B185EBCA87


def _mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _WORD
    return x ^ (x >> 31)


def _masks(low: int, high: int) -> list[int]:
    masks, state = [], low
    for _ in range(48):
        state = (state + _ODD64) & _WORD
        masks.append(_mix(state) ^ _mix(state ^ high))
        state ^= high
    return masks


def _folded(sums: list[int], masks: list[int], start: int) -> int:
    for i in range(0, 8, 2):
        product = (sums[i] ^ masks[i]) * (sums[i + 1] ^ masks[i + 1])
        start += (product ^ product >> 64) & _WORD
    return _mix(start & _WORD)


def reference(data: bytes, key: bytes) -> bytes:
    masks = _masks(*struct.unpack("<QQ", key))
    sums = masks[:8]

    def add(stripe: bytes, at: int) -> None:
        words = struct.unpack("<8Q", stripe)
        for i, word in enumerate(words):
            masked = word ^ masks[at + i]
            product = (masked & 0xFFFFFFFF) * (masked >> 32)
            sums[i] = (sums[i] + product + words[i ^ 1]) & _WORD

    def scramble() -> None:
        sums[:] = [((s ^ s >> 47) ^ masks[24 + i]) * _ODD32 & _WORD for i, s in enumerate(sums)]

    whole = len(data) // 64
    for number in range(whole):
        add(data[64 * number : 64 * number + 64], number % 16)
        if number % 16 == 15:
            scramble()
    add(data[64 * whole :].ljust(64, b"\0"), 15)
    scramble()
    low = _folded(sums, masks[16:], len(data) * _ODD64 & _WORD)
    return struct.pack("<QQ", low, _folded(sums, masks[32:], ~(len(data) * _ODD32) & _WORD))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1023, 1024, 1025, 1024 + 64, 5000])
def test_agrees_with_the_reference(size: int) -> None:
    source = np.random.default_rng(size)
    data, key = source.bytes(size), source.bytes(16)
    assert _native.digest(data, key) == reference(data, key)


def test_tells_apart() -> None:
    key = bytes(range(16))
    data = bytearray(np.random.default_rng(0).bytes(1200))
    found = {_native.digest(bytes(size), key) for size in range(1200)}
    for at in range(len(data)):
        data[at] ^= 1
        found.add(_native.digest(data, key))
        data[at] ^= 1
    found.add(_native.digest(data, key))
    found.add(_native.digest(data, bytes(16)))
    assert len(found) == 2 * 1200 + 2
