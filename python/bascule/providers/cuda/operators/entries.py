# SPDX-License-Identifier: Apache-2.0
"""What is sorted: entries, each a key in whose order the values are and the element's position."""

from __future__ import annotations

import numpy as np

from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.strided import BLOCK, blocks
from bascule.providers.cuda.tensor import Tensor

ENTRY = 16
"""Bytes of an entry, which is what is sorted: a key and a position."""
CHUNK = 1024
"""Entries that a block sorts."""


def sort_length(count: int) -> int:
    """How many entries a row of `count` is filled up to."""
    return max(CHUNK, 1 << max(0, count - 1).bit_length())


def sort_entries(call: Call, entries: Tensor, rows: int, length: int) -> None:
    """Sort each row of `length` entries, as many as sort_length says."""
    chunks, pairs = rows * length // CHUNK, rows * length // 2
    row = np.int64(length)
    call.launch("sort", "sort_chunks", chunks, CHUNK // 2, entries, row)
    size = 2 * CHUNK
    while size <= length:
        step = size // 2
        while step >= CHUNK:
            numbers = np.int64(pairs), row, np.int64(size), np.int64(step)
            call.launch("sort", "merge_step", blocks(pairs), BLOCK, entries, *numbers)
            step //= 2
        call.launch("sort", "merge_chunks", chunks, CHUNK // 2, entries, row, np.int64(size))
        size *= 2


def make_entries(
    call: Call, x: Tensor, rows: int, n: int, inner: int, length: int, largest: bool
) -> Tensor:
    entries = call.workspace(rows * length * ENTRY)
    sizes = (np.int64(size) for size in (rows, n, inner, length))
    name = f"make_entries_{type_name(x.dtype)}"
    grid = blocks(rows * length)
    call.launch("sort", name, grid, BLOCK, x, entries, *sizes, np.int32(largest))
    return entries
