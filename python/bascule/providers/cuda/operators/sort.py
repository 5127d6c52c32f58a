# SPDX-License-Identifier: Apache-2.0
"""Operators that sort, and those whose results are as long as the values say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.entries import (
    CHUNK,
    ENTRY,
    make_entries,
    sort_entries,
    sort_length,
)
from bascule.providers.cuda.operators.gather import gathered, sent
from bascule.providers.cuda.operators.shape import axis_of, integers
from bascule.providers.cuda.operators.strided import BLOCK, blocks
from bascule.providers.cuda.registry import NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_FEW = 256
"""Up to so many best elements are found by keeping those of each chunk."""
_COMPLEX = frozenset((DataType.COMPLEX64, DataType.COMPLEX128))
_TESTED = NUMBERS | {DataType.BOOL} | _COMPLEX


@kernel("TopK", dtypes=NUMBERS, host=(1,))
def top_k(call: Call, x: Tensor, count: Any) -> tuple[Tensor | None, Tensor | None]:
    axis = axis_of(call, call.attribute("axis", -1), x.rank)
    n, (k,) = x.shape[axis], integers(count)
    if not 0 <= k <= n:
        raise call.error(
            f"k argument [{k}] should not be greater than specified axis dim value [{n}]"
        )
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    values = call.empty(shape, x.dtype) if call.wants(0) else None
    indices = call.empty(shape, DataType.INT64) if call.wants(1) else None
    inner = math.prod(shape[axis + 1 :])
    rows = math.prod(shape[:axis]) * inner
    if rows == 0 or k == 0:
        return values, indices
    few = k <= _FEW
    length = n if few else sort_length(n)
    entries = make_entries(call, x, rows, n, inner, length, bool(call.attribute("largest", 1)))
    if few:
        entries, length = _best_entries(call, entries, rows, n, k)
    else:
        sort_entries(call, entries, rows, length)
    sizes = (np.int64(size) for size in (rows, n, inner, length, k))
    name = f"take_entries_{x.itemsize}"
    call.launch("sort", name, blocks(rows * k), BLOCK, x, entries, values, indices, *sizes)
    return values, indices


def _best_entries(call: Call, entries: Tensor, rows: int, n: int, k: int) -> tuple[Tensor, int]:
    """(rows of the first k entries, k): those of each chunk are kept until one chunk is left."""
    while True:
        chunks = -(-n // CHUNK)
        best = call.workspace(rows * chunks * k * ENTRY)
        sizes = np.int64(n), np.int64(chunks), np.int64(k)
        grid, block = rows * chunks, CHUNK // 2
        call.launch("sort", "best_of_chunks", grid, block, entries, best, *sizes)
        if chunks == 1:
            return best, k
        entries, n = best, chunks * k


@kernel("NonZero", dtypes=_TESTED, synchronizes=True)
def non_zero(call: Call, x: Tensor) -> Tensor:
    if x.dtype in _COMPLEX:
        x = call.tensor(call.array(x) != 0)
    tested = -(-x.size // CHUNK)
    counts = call.empty((tested + 1,), DataType.INT64)
    dtype, n = type_name(x.dtype), np.int64(x.size)
    call.launch("sort", f"count_nonzero_{dtype}", tested, BLOCK, x, counts, n)
    call.launch("sort", "sum_counts", 1, BLOCK, counts, np.int64(tested))
    count = int(call.download(counts.part(tested, (1,)))[0])
    y = call.empty((x.rank, count), DataType.INT64)
    if not y.size:
        return y
    places = call.empty((count,), DataType.INT64)
    call.launch("sort", f"write_nonzero_{dtype}", tested, BLOCK, x, counts, places, n)
    for axis, size in enumerate(x.shape):
        numbers = count, math.prod(x.shape[axis + 1 :]), size
        row = y.part(axis * count, (count,))
        sizes = map(np.int64, numbers)
        call.launch("sort", "split_places", blocks(count), BLOCK, places, row, *sizes)
    return y


@kernel("Unique", dtypes=_TESTED, synchronizes=True)
def unique(call: Call, x: Tensor) -> tuple[Tensor | None, ...]:
    """The keys of all elements are read back: the host groups the items, the device moves them."""
    axis = call.attribute("axis")
    if axis is None:
        x, axis = x.reshaped((x.size,)), 0
    axis = axis_of(call, axis, x.rank)
    numbers = x.in_parts() if x.dtype in _COMPLEX else x
    entries = make_entries(call, numbers, 1, numbers.size, 1, numbers.size, False)
    keys = call.download(entries).view(np.uint64).reshape(-1, 2)[:, 0].reshape(numbers.shape)
    count = x.shape[axis]
    items = np.moveaxis(keys, axis, 0).reshape(count, numbers.size // max(count, 1))
    first, inverse, counts = _groups(items, bool(call.attribute("sorted", 1)))
    results = [gathered(call, x, sent(call, first), axis)]
    results += [sent(call, each) for each in (first, inverse, counts)]
    return tuple(result if call.wants(i) else None for i, result in enumerate(results))


def _groups(items: Any, in_order: bool) -> tuple[Any, Any, Any]:
    """Of rows that are equal: the first of each group, the group of each row, and their numbers."""
    count = len(items)
    order = np.lexsort(items.T[::-1]) if items.shape[1] else np.arange(count)
    ranked = items[order]
    starts = np.ones(count, bool)
    starts[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    first = order[starts]
    inverse = np.empty(count, np.int64)
    inverse[order] = np.cumsum(starts) - 1
    if not in_order:
        appearance = np.argsort(first)
        place = np.empty_like(appearance)
        place[appearance] = np.arange(len(appearance))
        first, inverse = first[appearance], place[inverse]
    counts = np.bincount(inverse, minlength=len(first))
    return first, inverse, counts


@kernel("NonMaxSuppression", dtypes=(DataType.FLOAT,), host=(2, 3, 4), synchronizes=True)
def non_max_suppression(
    call: Call,
    boxes: Tensor,
    scores: Tensor,
    most: Any = None,
    limit: Any = None,
    least: Any = None,
) -> Tensor:
    fits = boxes.rank == 3 == scores.rank and boxes.shape[2] == 4
    if not fits or (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2]):
        raise call.error(
            f"boxes of shape {list(boxes.shape)} and scores of shape {list(scores.shape)} are not "
            "[batch, boxes, 4] and [batch, classes, boxes]"
        )
    threshold = 0.0 if limit is None else float(np.asarray(limit).reshape(-1)[0])
    if not 0 <= threshold <= 1:
        raise call.error("iou_threshold is not in [0, 1]")
    floor = -math.inf if least is None else float(np.asarray(least).reshape(-1)[0])
    n, classes = boxes.shape[1], scores.shape[1]
    rows = boxes.shape[0] * classes
    kept = 0 if most is None else min(max(integers(most)[0], 0), n)
    if not rows or not kept:
        return call.empty((0, 3), DataType.INT64)
    length = sort_length(n)
    entries = call.workspace(rows * length * ENTRY)
    sizes = np.int64(rows), np.int64(n), np.int64(length)
    flags = np.float32(floor), np.int32(least is None)
    grid = blocks(rows * length)
    call.launch("sort", "make_candidates", grid, BLOCK, scores, entries, *sizes, *flags)
    sort_entries(call, entries, rows, length)
    chosen = call.empty((rows, kept), DataType.INT64)
    counts = call.empty((rows + 1,), DataType.INT64)
    numbers = np.int64(n), np.int64(length), np.int64(classes), np.int64(kept)
    flags = np.float32(threshold), np.int32(call.attribute("center_point_box", 0))
    operands = boxes, entries, chosen, counts
    call.launch("sort", "choose_boxes", rows, BLOCK, *operands, *numbers, *flags)
    call.launch("sort", "sum_counts", 1, BLOCK, counts, np.int64(rows))
    total = int(call.download(counts.part(rows, (1,)))[0])
    y = call.empty((total, 3), DataType.INT64)
    sizes = np.int64(rows), np.int64(classes), np.int64(kept)
    call.launch("sort", "write_boxes", blocks(rows * kept), BLOCK, chosen, counts, y, *sizes)
    return y
