# SPDX-License-Identifier: Apache-2.0
"""Products of a few rows with weights of 4 bits as tensor cores take them (``nbits_units.cuh``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.packed_nbits import Packed
from bascule.providers.cuda.operators.product import Epilogue
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.weight import laid_out

_TOGETHER = 128
"""The part of K, and"""
_COLUMNS = 16
"""the columns of a unit."""
_MOST_ROWS = 8
"""Of a launch, which reads the weights once."""
_MOST_LAUNCHES = 4
"""For more rows it is faster to make floats of the weights."""
_THREADS = 512
_WARPS = _THREADS // 32
_DEPTHS = 6, 3
"""Units in the ring of a warp; few where shared memory is short, as it is on GPUs for desktops."""
_MOST_TILES = 64
"""Of a block, roughly."""
_OWN_SHARED = 1 << 10
"""Bytes of shared memory that a kernel has beside what it is given."""
_NARROW = frozenset((DataType.FLOAT16, DataType.BFLOAT16))


@dataclass(frozen=True, slots=True)
class Around:
    """What comes before and after a product."""

    bias: Tensor | None = None
    norm: Tensor | None = None
    """The scale of a normalization of the rows of A by their root mean square."""
    epsilon: float = 0.0
    residual: Tensor | None = None
    gated: bool = False
    """The result is swish(first half of the columns) * second half."""


@dataclass(frozen=True, slots=True)
class Units:
    """The weights of a node, ``[n, k]``, in units."""

    data: Tensor
    n: int
    k: int
    segments: int
    """The scales of a column in a unit."""
    has_zeros: bool
    gated: bool
    """Whether tiles of columns, and those of their gates, take turns."""

    def multiply(self, call: Call, x: Tensor, around: Around, y: Tensor) -> bool:
        """``x @ weights'`` with what comes before and after it into `y`, if x has few rows."""
        rows = x.size // self.k
        if rows > _MOST_LAUNCHES * _MOST_ROWS:
            return False
        if around.bias is not None and around.bias.dtype is not x.dtype:
            return False
        fitting = range(min(rows, _MOST_ROWS), 0, -1)
        most = next((m for m in fitting if self._work(call, m) is not None), 0)
        if most * _MOST_LAUNCHES < rows:
            return False
        for first in range(0, rows, most):
            self._launch(call, min(most, rows - first), first, x, around, y)
        return True

    def expand(self, call: Call, y: Tensor) -> None:
        """The weights as floats."""
        name = f"expand_units_{self._form}_{type_name(y.dtype)}"
        sizes = np.int32(self.n), np.int32(self.k), np.int32(self.gated)
        grid = _tiles(self.n, self.gated) * self._groups
        call.launch("pack_nbits", name, grid, 256, self.data, y, *sizes)

    @property
    def _form(self) -> str:
        return f"{'zeros_' if self.has_zeros else ''}{self.segments}"

    @property
    def _groups(self) -> int:
        """Units of a tile."""
        return -(-self.k // _TOGETHER)

    def _work(self, call: Call, m: int) -> tuple[int, int, int] | None:
        """Blocks, the depth of rings, and shared memory; None where that is too small."""
        pair = 2 if self.gated else 1
        tiles = _tiles(self.n, self.gated)
        processors = call.device.processors
        blocks = min(tiles // pair, processors * -(-tiles // (processors * _MOST_TILES)))
        of_block = -(-tiles // pair // blocks) * pair
        shared = (m * self._groups * _TOGETHER + 32) * 2 + m * self._groups * 32
        shared += (of_block + _WARPS) * m * _COLUMNS * 4
        for depth in _DEPTHS:
            rings = _WARPS * depth * _unit_bytes(self.segments, self.has_zeros)
            if shared + rings + _OWN_SHARED <= call.device.shared_memory:
                return blocks, depth, shared + rings
        return None

    def _launch(
        self,
        call: Call,
        m: int,
        first: int,
        x: Tensor,
        around: Around,
        y: Tensor,
    ) -> None:
        work = self._work(call, m)
        assert work is not None
        blocks, depth, shared = work
        columns = self.n // 2 if self.gated else self.n
        needed = -(-m * self.segments // 8)
        sets = next(n for n in (1, 2, 4) if n >= needed)
        name = f"{self._form}_{sets}_{type_name(x.dtype)}"
        residual = around.residual
        if residual is not None:
            residual = residual.part(first * columns, (m, columns))
        constant = around.norm is None or call.is_constant(5)
        call.launch(
            "stream_nbits",
            f"stream_nbits_{name}",
            blocks,
            _THREADS,
            *(x.part(first * self.k, (m, self.k)), self.data),
            *(y.part(first * columns, (m, columns)), around.norm, np.float32(around.epsilon)),
            *(np.int32(size) for size in (m, self.n, self.k, depth)),
            *(np.int32(self.gated), np.int32(constant)),
            *Epilogue(bias=around.bias, residual=residual).arguments,
            shared=shared,
        )


def units_of(call: Call, dtype: DataType, w: Packed, gated: bool = False) -> Units | None:
    """The weights in units for rows of type `dtype`, if they can be had so."""
    segments = max(_TOGETHER // w.block_size, 1)
    weights = [w.data, w.scales, *(() if w.zeros is None else (w.zeros,))]
    if (
        call.device.capability < 80
        or dtype not in _NARROW
        or w.bits != 4
        or any(tensor is not None for tensor in (w.groups, w.values))
        or not all(weight.is_constant for weight in weights)
        or w.scales.dtype is not dtype
        or (w.zeros is not None and w.zeros.dtype is not DataType.UINT8)
        or segments > 4
        or max(w.n, w.k) >= 2**30
    ):
        return None
    has_zeros = w.zeros is not None
    tiles, groups = _tiles(w.n, gated), -(-w.k // _TOGETHER)
    form = f"{'zeros_' if has_zeros else ''}{segments}_{type_name(dtype)}"

    def make(plain: Sequence[Tensor]) -> Tensor:
        size = tiles * groups * _unit_bytes(segments, has_zeros)
        units = Tensor(DataType.UINT8, (size,), *call.device.allocate(size))
        sizes = w.n, w.k, w.blocks, w.row_bytes, w.block_size.bit_length() - 1, int(gated)
        call.launch(
            "pack_nbits",
            f"pack_nbits_{form}",
            tiles * groups,
            128,
            *(plain[0], plain[1], plain[2] if has_zeros else None, units),
            *(np.int32(number) for number in sizes),
        )
        return units

    key = f"{form} {w.n} {w.k} {w.block_size} {gated}"
    return Units(laid_out(weights, key, make), w.n, w.k, segments, has_zeros, gated)


def _tiles(n: int, gated: bool) -> int:
    return 2 * -(-n // 2 // _COLUMNS) if gated else -(-n // _COLUMNS)


def _unit_bytes(segments: int, has_zeros: bool) -> int:
    """As ``Unit`` of nbits_units.cuh has it."""
    twos = 2 if segments == 4 else 1
    return 1024 + 8 * twos * (4 if segments == 1 else 8) + (16 * twos if has_zeros else 0)
