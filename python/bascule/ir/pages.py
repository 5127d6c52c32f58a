# SPDX-License-Identifier: Apache-2.0
"""Where bytes are: pages of mapped files, asked for before they are read and let go after."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np


def give_back(piece: memoryview) -> None:
    """Take the pages of a mapped file out of this process's memory; the system may keep them."""
    _advise(piece, "MADV_DONTNEED")


def read_ahead(piece: memoryview) -> None:
    """Let the system begin to read the pages of a mapped file."""
    _advise(piece, "MADV_WILLNEED")


def place(piece: memoryview) -> tuple[int, int]:
    """Address and length of bytes: nothing else has them while `piece` lives."""
    return (_address(piece) if piece.nbytes else 0), piece.nbytes


def _advise(piece: memoryview, advice: str) -> None:
    base: Any = piece.obj
    while isinstance(base, np.ndarray):  # a mapped .npy file
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, advice) or not len(piece):
        return
    start = _address(piece) - _address(base)
    first = start - start % mmap.PAGESIZE
    base.madvise(getattr(mmap, advice), first, start + len(piece) - first)


def _address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)
