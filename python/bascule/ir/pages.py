# SPDX-License-Identifier: Apache-2.0
"""Pages of mapped files, which may leave this process's memory once they are read."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np


def give_back(piece: memoryview) -> None:
    """Take the pages of a mapped file out of this process's memory; the system may keep them."""
    base: Any = piece.obj
    while isinstance(base, np.ndarray):  # a mapped .npy file
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(base, "madvise") or not len(piece):
        return
    start = _address(piece) - _address(base)
    first = start - start % mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, first, start + len(piece) - first)


def _address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)
