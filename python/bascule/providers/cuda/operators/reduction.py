# SPDX-License-Identifier: Apache-2.0
"""Reductions over any axes, a launch for each run of neighbouring axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.rows import (
    is_aligned,
    power_of_two,
    row_lanes,
    size_of,
    team_grid,
)
from bascule.providers.cuda.operators.shape import axis_of
from bascule.providers.cuda.registry import FLOATS, NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

# Longer rows and columns are folded in pieces of these lengths. They depend on nothing but the
# reduced axes, so that the order of a sum does not either.
ROW_PIECE = 8192
COLUMN_PIECE = 256
_WHOLE_COLUMN = 512


@dataclass(frozen=True, slots=True)
class Fold:
    """What is accumulated, as ``kernels/reduction.cuh`` has it."""

    name: str
    kind: int = 0
    finish: int = 0
    numbers: int = 1
    """How many numbers a state has."""


_NOTHING, _DIVIDE, _ROOT, _LOGARITHM = range(4)
_ABSOLUTE, _SQUARES, _PRODUCT, _LARGEST, _SMALLEST = range(5)
_FOLDS = {
    "ReduceSum": Fold("sum"),
    "ReduceMean": Fold("sum", finish=_DIVIDE),
    "ReduceMax": Fold("other", _LARGEST),
    "ReduceMin": Fold("other", _SMALLEST),
    "ReduceProd": Fold("other", _PRODUCT),
    "ReduceL1": Fold("other", _ABSOLUTE),
    "ReduceL2": Fold("other", _SQUARES, _ROOT),
    "ReduceSumSquare": Fold("other", _SQUARES),
    "ReduceLogSum": Fold("sum", finish=_LOGARITHM),
    "ReduceLogSumExp": Fold("logsumexp", numbers=2),
}
MOMENTS = Fold("moments", numbers=3)
_KEEPING = frozenset(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"))
"""Where a fold of one element is that element."""


@kernel("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", dtypes=NUMBERS, host=(1,))
@kernel("ReduceMax", "ReduceMin", dtypes=NUMBERS | {DataType.BOOL}, host=(1,))
@kernel("ReduceSumSquare", dtypes=NUMBERS, host=(1,))
@kernel("ReduceLogSum", "ReduceLogSumExp", dtypes=FLOATS, host=(1,))
def reduction(call: Call, x: Tensor, axes: np.ndarray[Any, Any] | None = None) -> Tensor:
    reduced = _reduced_axes(call, x.rank, axes)
    keeps = bool(call.attribute("keepdims", 1))
    shape = [1 if r else size for size, r in zip(x.shape, reduced) if keeps or not r]
    op_type = call.node.op_type
    if op_type in _KEEPING and math.prod(shape) == x.size and _count(x.shape, reduced) == 1:
        return x.reshaped(shape)
    y = call.empty(shape, x.dtype)
    fold_axes(call, x, reduced, _FOLDS[op_type], y)
    return y


def _reduced_axes(call: Call, rank: int, axes: np.ndarray[Any, Any] | None) -> list[bool]:
    if axes is None or axes.size == 0:
        return [not call.attribute("noop_with_empty_axes", 0)] * rank
    reduced = [False] * rank
    for axis in axes.reshape(-1).tolist():
        reduced[axis_of(call, axis, rank)] = True
    return reduced


def _count(shape: Sequence[int], reduced: Sequence[bool]) -> int:
    return math.prod(size for size, r in zip(shape, reduced) if r)


# --- launching


def fold_axes(
    call: Call, x: Tensor, reduced: Sequence[bool], fold: Fold, y: Tensor | None = None
) -> Tensor:
    """The fold of `x` over some axes, finished, in `y`; without `y` the states themselves."""
    count = _count(x.shape, reduced)
    groups = _merged(x.shape, reduced)
    launch = _Launch(call, fold, x.dtype, np.int64(count))
    source, joins = x, False
    while True:
        at = max((i for i, (_, r) in enumerate(groups) if r), key=lambda i: (groups[i][0], i))
        outer = math.prod(size for size, _ in groups[:at])
        inner = math.prod(size for size, _ in groups[at + 1 :])
        n = groups[at][0]
        pieces, length = _pieces(n, inner)
        groups[at : at + 1] = [(pieces, True)] if pieces > 1 else []
        is_last = not any(r for _, r in groups)
        sizes = (outer, n, inner, pieces, length)
        if is_last and y is not None:
            launch.start(source, y, None, sizes, joins)
            return y
        states = call.workspace(launch.state_bytes * outer * pieces * inner)
        launch.start(source, None, states, sizes, joins)
        if is_last:
            return states
        source, joins = states, True


def _merged(shape: Sequence[int], reduced: Sequence[bool]) -> list[tuple[int, bool]]:
    """Neighbouring axes that are all kept, or all reduced, as one; at least one is reduced."""
    groups: list[tuple[int, bool]] = []
    for size, is_reduced in zip(shape, reduced):
        if size == 1:
            continue
        if groups and groups[-1][1] == is_reduced:
            groups[-1] = (groups[-1][0] * size, is_reduced)
        else:
            groups.append((size, is_reduced))
    return groups if any(r for _, r in groups) else [*groups, (1, True)]


def _pieces(n: int, inner: int) -> tuple[int, int]:
    """(how many, of which length at most) an axis is folded in."""
    whole, length = (ROW_PIECE, ROW_PIECE) if inner == 1 else (_WHOLE_COLUMN, COLUMN_PIECE)
    return (-(-n // length), length) if n > whole else (1, max(n, 1))


class _Launch:
    """Starts the kernels of one fold."""

    def __init__(self, call: Call, fold: Fold, dtype: DataType, count: np.int64) -> None:
        self._call = call
        self._fold = fold
        self._dtype = dtype
        self._count = count
        self.state_bytes = fold.numbers * (8 if dtype not in FLOATS else max(4, size_of(dtype)))

    def start(
        self,
        x: Tensor,
        y: Tensor | None,
        states: Tensor | None,
        sizes: tuple[int, int, int, int, int],
        joins: bool,
    ) -> None:
        outer, n, inner, pieces, length = sizes
        fold = self._fold
        last = (np.int32(fold.kind), np.int32(fold.finish), self._count)
        if inner == 1:
            width = 1 if joins or self._dtype not in FLOATS else 16 // size_of(self._dtype)
            lanes = row_lanes(min(n, length), width)
            grid, block = team_grid(self._call, outer * pieces, lanes)
            aligned = not joins and is_aligned(x, n)
            numbers = (np.int64(v) for v in (outer, n, pieces, length))
            arguments = (*numbers, np.int32(lanes), np.int32(aligned))
        else:
            lanes = min(16, power_of_two(min(n, length)))
            grid, block = _column_grid(self._call, outer * pieces * inner, lanes)
            arguments = (*(np.int64(v) for v in sizes), np.int32(lanes))
        name = f"{'join' if joins else 'reduce'}_{'rows' if inner == 1 else 'columns'}"
        name = f"{name}_{fold.name}_{type_name(self._dtype)}"
        self._call.launch(self._module(), name, grid, block, x, y, states, *arguments, *last)

    def _module(self) -> str:
        if self._fold is MOMENTS:
            return "reduction_moments"
        return "reduction" if self._dtype in FLOATS else "reduction_integers"


def _column_grid(call: Call, columns: int, lanes: int) -> tuple[int, int]:
    block = 512
    while block > 32 * lanes and columns * lanes < call.device.processors * block:
        block //= 2
    return -(-columns // (block // lanes)), block
