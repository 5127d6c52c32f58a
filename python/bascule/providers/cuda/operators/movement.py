# SPDX-License-Identifier: Apache-2.0
"""Operators that move whole regions of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.operators.shape import axes_of, axis_of, integers
from bascule.providers.cuda.operators.strided import (
    BLOCK,
    blocks,
    copy_strided,
    pack,
    strides_of,
    widest,
)
from bascule.providers.cuda.registry import FIXED_WIDTH, kernel
from bascule.providers.cuda.tensor import Tensor

_PARTS = 4
"""How many tensors a launch puts side by side."""


# --- transposes


@kernel("Transpose", dtypes=FIXED_WIDTH)
def transpose(call: Call, x: Tensor) -> Tensor:
    order = call.attribute("perm") or range(x.rank)[::-1]
    order = [axis_of(call, axis, x.rank) for axis in order]
    if sorted(order) != list(range(x.rank)):
        raise call.error(f"perm {order} does not fit shape {list(x.shape)}")
    return permuted(call, x, order)


def permuted(call: Call, x: Tensor, order: Sequence[int]) -> Tensor:
    """`x` with its axes in another order; the same memory if only axes of size 1 move."""
    shape = [x.shape[axis] for axis in order]
    moved = [axis for axis in order if x.shape[axis] != 1]
    if moved == sorted(moved):
        return x.reshaped(shape)
    y = call.empty(shape, x.dtype)
    strides = strides_of(x.shape)
    copy_strided(call, x, y, shape, [strides[axis] for axis in order], strides_of(shape))
    return y


def _block_size(call: Call) -> int:
    block = int(call.attribute("blocksize"))
    if block < 1:
        raise call.error(f"blocksize must be positive, got {block}")
    return block


@kernel("DepthToSpace", dtypes=FIXED_WIDTH)
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    block = _block_size(call)
    if x.rank != 4 or x.shape[1] % (block * block):
        raise call.error(f"shape {list(x.shape)} does not fit blocks of {block}")
    n, c, h, w = x.shape
    depth = c // (block * block)
    if call.attribute("mode", "DCR") == "CRD":
        view, order = (n, depth, block, block, h, w), (0, 1, 4, 2, 5, 3)
    else:
        view, order = (n, block, block, depth, h, w), (0, 3, 4, 1, 5, 2)
    return permuted(call, x.reshaped(view), order).reshaped((n, depth, h * block, w * block))


@kernel("SpaceToDepth", dtypes=FIXED_WIDTH)
def space_to_depth(call: Call, x: Tensor) -> Tensor:
    block = _block_size(call)
    if x.rank != 4 or x.shape[2] % block or x.shape[3] % block:
        raise call.error(f"shape {list(x.shape)} does not fit blocks of {block}")
    n, c, h, w = x.shape
    view = (n, c, h // block, block, w // block, block)
    crd = call.attribute("mode", "DCR") == "CRD"
    order = (0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4)
    return permuted(call, x.reshaped(view), order).reshaped(
        (n, c * block * block, h // block, w // block)
    )


# --- side by side


def _is_aligned(x: Tensor, start: int) -> bool:
    """Whether accesses of 16 bytes, as other kernels use, are possible from `start` on."""
    return (x.address + start * x.itemsize) % 16 == 0


@kernel("Concat", dtypes=FIXED_WIDTH)
def concat(call: Call, *parts: Tensor) -> Tensor:
    return joined(call, parts, axis_of(call, call.attribute("axis"), parts[0].rank))


def joined(call: Call, parts: Sequence[Tensor], axis: int) -> Tensor:
    """The tensors side by side along an axis."""
    first = parts[0]
    for index, part in enumerate(parts):
        sizes = list(part.shape)
        if part.rank == first.rank:
            sizes[axis] = first.shape[axis]
        if tuple(sizes) != first.shape:
            raise call.error(
                f"input {index} of shape {list(part.shape)} does not fit the first one of shape "
                f"{list(first.shape)} along axis {axis}"
            )
    shape = list(first.shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    filled = [part for part in parts if part.size]
    if len(filled) == 1:
        return filled[0]
    y = call.empty(shape, first.dtype)
    rows = math.prod(shape[:axis])
    _side_by_side(call, y, filled, [part.size // rows for part in filled], rows, join=True)
    return y


def _side_by_side(
    call: Call,
    wide: Tensor,
    parts: Sequence[Tensor | None],
    lengths: Sequence[int],
    rows: int,
    join: bool,
) -> None:
    """Copy between `parts`, dense rows of `lengths`, and the rows of `wide` that they make up."""
    item = wide.itemsize
    addresses = [wide.address, *(part.address for part in parts if part is not None)]
    width = widest(item, *addresses, *(length * item for length in lengths))
    ratio = width // item
    first, row = 0, sum(lengths) // ratio
    for start in range(0, len(parts), _PARTS):
        few: list[Tensor | None] = [*parts[start : start + _PARTS]]
        ends = np.cumsum([length // ratio for length in lengths[start : start + _PARTS]]).tolist()
        few += [None] * (_PARTS - len(few))
        total = ends[-1]
        ends += [total] * (_PARTS - len(ends))
        struct = Struct(np.array([rows, row, first, total, *ends], np.int64).tobytes())
        operands = (*few, wide) if join else (wide, *few)
        name = f"{'join' if join else 'take'}_parts_{width}"
        call.launch("movement", name, blocks(rows * total), BLOCK, *operands, struct)
        first += total


@kernel("Split", dtypes=FIXED_WIDTH, host=(1,))
def split(call: Call, x: Tensor, sizes: Any = None) -> tuple[Tensor | None, ...]:
    axis = axis_of(call, call.attribute("axis", 0), x.rank)
    size, count = x.shape[axis], len(call.node.outputs)
    if sizes is not None:
        lengths = integers(sizes)
        if len(lengths) != count or min(lengths, default=0) < 0 or sum(lengths) != size:
            raise call.error(f"the sizes {lengths} do not make {count} parts of {size}")
    else:
        even = -(-size // (call.attribute("num_outputs") or count))
        lengths = [max(0, min(even, size - i * even)) for i in range(count)]
    return separated(call, x, axis, lengths, [call.wants(i) for i in range(count)])


def separated(
    call: Call, x: Tensor, axis: int, lengths: Sequence[int], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Parts of `x` along an axis; over its memory where each lies together, and aligned."""
    rows = math.prod(x.shape[:axis])
    inner = math.prod(x.shape[axis + 1 :])
    shapes = [(*x.shape[:axis], length, *x.shape[axis + 1 :]) for length in lengths]
    starts = np.cumsum([0, *lengths]).tolist()
    if rows == 1 and all(_is_aligned(x, start * inner) for start in starts[:-1]):
        return tuple(
            x.part(start * inner, shape) if want else None
            for start, shape, want in zip(starts, shapes, wanted)
        )
    parts = [call.empty(shape, x.dtype) if want else None for shape, want in zip(shapes, wanted)]
    if x.size:
        _side_by_side(call, x, parts, [length * inner for length in lengths], rows, join=False)
    return tuple(parts)


# --- boxes


def slice_range(size: int, start: int, end: int, step: int) -> tuple[int, int]:
    """(the first index, the number of elements); unlike in Python, a start before the front of an
    axis that is walked backwards means its first element."""
    if size == 0:
        return 0, 0
    high = size - 1 if step < 0 else size

    def place(index: int, low: int) -> int:
        return min(max(index + size if index < 0 else index, low), high)

    first, last = place(start, 0), place(end, -1 if step < 0 else 0)
    distance = first - last if step < 0 else last - first
    return first, max(0, -(-distance // abs(step)))


@kernel("Slice", dtypes=FIXED_WIDTH, host=(1, 2, 3, 4))
def slice_(
    call: Call, x: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Tensor:
    begin, stop = integers(starts), integers(ends)
    along = list(range(len(begin))) if axes is None else axes_of(call, axes, x.rank)
    step = [1] * len(begin) if steps is None else integers(steps)
    if not len(begin) == len(stop) == len(along) == len(step) <= x.rank or 0 in step:
        raise call.error("starts, ends, axes and steps do not fit each other, or a step is 0")
    sizes, source, first = list(x.shape), strides_of(x.shape), 0
    for axis, a, b, by in zip(along, begin, stop, step):
        index, sizes[axis] = slice_range(x.shape[axis], a, b, by)
        first += index * source[axis]
        if sizes[axis] > 1:
            source[axis] *= by
    if 0 in sizes:
        return call.empty(sizes, x.dtype)
    target = strides_of(sizes)
    together = all(size == 1 or a == b for size, a, b in zip(sizes, source, target))
    if together and _is_aligned(x, first):
        return x.part(first, sizes)
    y = call.empty(sizes, x.dtype)
    copy_strided(call, x, y, sizes, source, target, first)
    return y


@kernel("Expand", dtypes=FIXED_WIDTH, host=(1,))
def expand(call: Call, x: Tensor, shape: Any) -> Tensor:
    wanted = integers(shape)
    rank = max(len(wanted), x.rank)
    own = [1] * (rank - x.rank) + list(x.shape)
    wanted = [1] * (rank - len(wanted)) + wanted
    sizes = []
    for a, b in zip(own, wanted):
        if (a != b and 1 not in (a, b)) or b < 0:
            raise call.error(f"shape {list(x.shape)} does not broadcast with {integers(shape)}")
        sizes.append(b if a == 1 else a)
    if math.prod(sizes) == x.size:
        return x.reshaped(sizes)
    y = call.empty(sizes, x.dtype)
    source = [0 if size == 1 else step for size, step in zip(own, strides_of(own))]
    copy_strided(call, x, y, sizes, source, strides_of(sizes))
    return y


@kernel("Tile", dtypes=FIXED_WIDTH, host=(1,))
def tile(call: Call, x: Tensor, repeats: Any) -> Tensor:
    times = integers(repeats)
    if len(times) != x.rank or min(times, default=0) < 0:
        raise call.error(f"repeats {times} do not fit shape {list(x.shape)}")
    shape = [size * count for size, count in zip(x.shape, times)]
    if shape == list(x.shape):
        return x
    y = call.empty(shape, x.dtype)
    # Every axis becomes two, (repeats, size), of which the first does not move the source.
    sizes, source, target = [], [], []
    for size, count, a, b in zip(x.shape, times, strides_of(x.shape), strides_of(shape)):
        sizes += [count, size]
        source += [0, a]
        target += [b * size, b]
    copy_strided(call, x, y, sizes, source, target)
    return y


_PAD_MODES = {"constant": 0, "reflect": 1, "edge": 2, "wrap": 3}


@kernel("Pad", dtypes=FIXED_WIDTH, host=(1, 3))
def pad(call: Call, x: Tensor, pads: Any, value: Tensor | None = None, axes: Any = None) -> Tensor:
    mode = _PAD_MODES.get(call.attribute("mode", "constant"))
    if mode is None:
        raise call.error(f"unknown mode {call.attribute('mode')}")
    counts = integers(pads)
    along = list(range(x.rank)) if axes is None else axes_of(call, axes, x.rank)
    if len(counts) != 2 * len(along):
        raise call.error(f"pads {counts} are not two numbers for each of axes {along}")
    before, after = [0] * x.rank, [0] * x.rank
    for axis, front, back in zip(along, counts, counts[len(along) :]):
        before[axis], after[axis] = front, back
    return padded(call, x, before, after, mode, value)


def padded(
    call: Call,
    x: Tensor,
    before: Sequence[int],
    after: Sequence[int],
    mode: int = 0,
    value: Tensor | None = None,
) -> Tensor:
    """`x` with elements added around it or, by negative counts, taken away."""
    if not any(before) and not any(after):
        return x
    first = [max(0, -count) for count in before]
    kept = [size - front - max(0, -back) for size, front, back in zip(x.shape, first, after)]
    if min(kept) < 0:
        raise call.error(f"more elements are taken away than shape {list(x.shape)} has")
    front = [max(0, count) for count in before]
    shape = [size + a + max(0, b) for size, a, b in zip(kept, front, after)]
    if mode and any(size == 0 < made for size, made in zip(kept, shape)):
        raise call.error("an axis without elements can only be padded with a constant")
    y = call.empty(shape, x.dtype)
    if x.rank > 16:
        raise call.error(f"{x.rank} axes")
    lists = shape, front, kept, first, strides_of(x.shape)
    struct = Struct(pack([y.size, x.rank, mode], *lists))
    call.launch("movement", f"pad_{x.itemsize}", blocks(y.size), BLOCK, x, value, y, struct)
    return y


@kernel("CenterCropPad", dtypes=FIXED_WIDTH, host=(1,))
def center_crop_pad(call: Call, x: Tensor, shape: Any) -> Tensor:
    axes = call.attribute("axes")
    along = list(range(x.rank)) if axes is None else axes_of(call, list(axes), x.rank)
    wanted = integers(shape)
    if len(wanted) != len(along) or min(wanted, default=0) < 0:
        raise call.error(f"shape {wanted} does not fit axes {along}")
    before, after = [0] * x.rank, [0] * x.rank
    for axis, size in zip(along, wanted):
        change = size - x.shape[axis]
        before[axis] = change // 2 if change > 0 else -(-change // 2)
        after[axis] = change - before[axis]
    return padded(call, x, before, after)


@kernel("Trilu", dtypes=FIXED_WIDTH, host=(1,))
def trilu(call: Call, x: Tensor, k: Any = None) -> Tensor:
    if x.rank < 2:
        raise call.error(f"shape {list(x.shape)} is no matrix")
    y = call.like(x)
    rows, columns = x.shape[-2:]
    shift = 0 if k is None else min(max(integers(k)[0], -rows - 1), columns + 1)
    sizes = (np.int64(size) for size in (x.size, rows, columns, shift))
    upper = np.int32(call.attribute("upper", 1))
    call.launch("movement", f"trilu_{x.itemsize}", blocks(x.size), BLOCK, x, y, *sizes, upper)
    return y


@kernel("ReverseSequence", dtypes=FIXED_WIDTH)
def reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    time_first = call.attribute("time_axis", 0) == 0
    if x.rank < 2 or lengths.shape != (x.shape[1 if time_first else 0],):
        raise call.error(f"lengths of shape {list(lengths.shape)} for shape {list(x.shape)}")
    y = call.like(x)
    sizes = (np.int64(size) for size in (*x.shape[:2], math.prod(x.shape[2:])))
    name = f"reverse_sequence_{x.itemsize}"
    flag = np.int32(time_first)
    call.launch("movement", name, blocks(x.size), BLOCK, x, lengths, y, *sizes, flag)
    return y


# --- caches


@kernel("TensorScatter", dtypes=FIXED_WIDTH, updates={0: 0})
def tensor_scatter(
    call: Call, cache: Tensor, update: Tensor, starts: Tensor | None = None
) -> Tensor:
    axis = axis_of(call, call.attribute("axis", -2), cache.rank)
    shape = list(cache.shape)
    if update.rank == cache.rank:
        shape[axis] = update.shape[axis]
    if axis == 0 or list(update.shape) != shape or shape[axis] > cache.shape[axis]:
        raise call.error(f"shape {list(update.shape)} does not fit {list(cache.shape)}")
    batch, outer = cache.shape[0], math.prod(cache.shape[1:axis])
    inner, count = math.prod(cache.shape[axis + 1 :]), shape[axis]
    sizes = (batch, outer, cache.shape[axis], cache.shape[axis], inner, count)
    steps = (outer * count * inner, count * inner, inner)
    circular = call.attribute("mode", "linear") == "circular"
    y = call.like(cache)
    _write_rows(call, cache, update, starts, y, sizes, steps, circular)
    return y


@kernel(
    "UpdateCache",
    domain="bascule",
    dtypes=FIXED_WIDTH,
    host=(3,),
    updates={0: 0},
    lengths={3: 0},
)
def update_cache(call: Call, cache: Tensor, rows: Tensor, starts: Tensor, length: Any) -> Tensor:
    if cache.rank != 4:
        raise call.error(f"the cache has shape {list(cache.shape)}, expected 4 axes")
    batch, heads, before, size = cache.shape
    count = rows.shape[1] if rows.rank == 3 else 0
    if rows.shape != (batch, count, heads * size) or starts.size != batch:
        raise call.error(f"rows of shape {list(rows.shape)} for a cache of {list(cache.shape)}")
    after = max(before, integers(length)[0])
    y = call.empty((batch, heads, after, size), cache.dtype)
    sizes = (batch, heads, before, after, size, count)
    steps = (count * heads * size, size, heads * size)
    _write_rows(call, cache, rows, starts, y, sizes, steps, False)
    return y


def grown_cache(call: Call, cache: Tensor, length: int) -> Tensor:
    """A copy of ``[batch, heads, L, size]`` that is `length` long, with zeros at its end.

    It may be the cache itself.
    """
    batch, heads, before, size = cache.shape
    y = call.empty((batch, heads, length, size), cache.dtype)
    if y.address == cache.address:
        return y
    if length == before:
        call.copy(y, cache)
        return y
    sizes = (batch, heads, before, length, size, 0)
    _write_rows(call, cache, cache, None, y, sizes, (0, 0, 0), False)
    return y


def _write_rows(
    call: Call,
    cache: Tensor,
    rows: Tensor,
    starts: Tensor | None,
    y: Tensor,
    sizes: Sequence[int],
    steps: Sequence[int],
    circular: bool,
) -> None:
    """Launch write_rows: `sizes` are batch, outer, before, length, inner and count.

    With y in the memory of the cache only the rows are written.
    """
    item, inner = cache.itemsize, sizes[4]
    width = widest(item, cache.address, rows.address, y.address, inner * item)
    ratio = width // item
    numbers = [*sizes[:4], inner // ratio, sizes[5], *(step // ratio for step in steps)]
    struct = Struct(np.array(numbers, np.int64).tobytes())
    in_place = y.address == cache.address
    grid = blocks((rows if in_place else y).size // ratio)
    name, flag = f"{'place' if in_place else 'write'}_rows_{width}", np.int32(circular)
    tensors = (rows, starts, y) if in_place else (cache, rows, starts, y)
    call.launch("movement", name, grid, BLOCK, *tensors, struct, flag)
