# SPDX-License-Identifier: Apache-2.0
"""What the machine can do at most, measured."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bascule.native import _native

_CACHED_BYTES = 1 << 20
"""A working set that lies in the second cache of most cores."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The limits that a node is held against."""

    threads: int
    """With so many it was measured."""
    gflops: float
    """float32 operations in registers, in GFLOP/s."""
    gigabytes_s: float
    """Reading from memory, in GB/s."""
    cache_gigabytes_s: float
    """Reading 1 MiB a thread again and again, in GB/s."""

    def share(self, flops: int | None, nbytes: int | None, seconds: float) -> float | None:
        """The part of `seconds` that the machine needs at least: 1 is as fast as can be.

        The bytes are held against the second caches where they fit into them. More than 1 is
        possible: nearer caches are faster, and so are operations on bytes.

        Args:
            flops: operations; a multiply-add counts 2.
            nbytes: bytes read and written.
            seconds: seconds that they took.
        """
        if not seconds or (flops is None and nbytes is None):
            return None
        return self.least_seconds(flops, nbytes) / seconds

    def least_seconds(self, flops: int | None, nbytes: int | None) -> float:
        """How many seconds so many operations and bytes take at least."""
        fits = (nbytes or 0) <= _CACHED_BYTES * self.threads
        bandwidth = self.cache_gigabytes_s if fits else self.gigabytes_s
        return max((flops or 0) / self.gflops, (nbytes or 0) / bandwidth) / 1e9


@functools.cache
def measure(threads: int, seconds: float = 0.1) -> Peaks:
    """Measure the machine, once a process; takes three times `seconds`, and some memory."""
    return Peaks(
        threads,
        float(_native.peak_gflops(threads, seconds)),
        float(_native.read_bandwidth(threads, seconds, 1 << 27)),
        float(_native.read_bandwidth(threads, seconds, _CACHED_BYTES * threads)),
    )
