# SPDX-License-Identifier: Apache-2.0
"""Choosing among ways to compute the same by timing them, once for a GPU and kept on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from bascule.providers.cache import cached
from bascule.providers.cuda.device import Device

_TURNS = 16
"""Starts of a choice that are timed together: one takes too little time to be measured."""
_WORTH = 0.98
"""A choice replaces an earlier one, which a library thinks better of, only if it is this fast."""
_MOST_COPIES_BYTES = 96 << 20
"""More than a GPU's cache holds."""


class _OutOfTime(Exception):
    """A session has timed enough: what is new to it runs as libraries propose."""


def fastest(
    device: Device, key: str, count: int, start: Callable[[int], Callable[[int], None]]
) -> int:
    """The number of the choice that takes least time on the device.

    Args:
        key: what is computed, and by which version of which library.
        count: how many choices there are, the most promising first.
        start: of a choice, what starts it; it is told its turn, from 0 on. Either may raise an
            error: then the choice is none.
    """
    if count < 2 or not device.tunes:
        return 0

    def make() -> bytes:
        if device.tuning_seconds <= 0:
            raise _OutOfTime
        best, least = 0, math.inf
        for choice in range(count):
            try:
                run = start(choice)
                seconds = device.measure([partial(run, turn) for turn in range(_TURNS)])
            except Exception:  # libraries refuse in many ways
                continue
            if seconds < least * _WORTH:
                best, least = choice, seconds
        return bytes((best,))

    try:
        found = cached("choice", f"{device.name}\0{key}", make)
    except _OutOfTime:
        return 0
    return min(found[0], count - 1) if found else 0


def copies(device: Device, address: int, nbytes: int) -> tuple[list[int], object]:
    """(addresses of a tensor and of copies of it, their owner).

    In a model other work is done between two uses of a weight, which has then left the cache of
    the GPU. Using a copy in each turn has the same effect.
    """
    count = min(_TURNS, _MOST_COPIES_BYTES // max(nbytes, 1) + 1)
    step = -(-nbytes // 256) * 256
    try:
        first, owner = device.allocate(max(step * (count - 1), 1))
    except Exception:  # without room for copies it is timed less well
        return [address], None
    addresses = [first + step * index for index in range(count - 1)]
    for target in addresses:
        device.copy(target, address, nbytes)
    return [address, *addresses], owner
