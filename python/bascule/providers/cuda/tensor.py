# SPDX-License-Identifier: Apache-2.0
"""A tensor in device memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bascule.ir.dtype import DataType


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements in device memory, dense and in C order, one array element per tensor element.

    Elements of less than 8 bits take a byte each, as ml_dtypes has them.
    """

    dtype: DataType
    shape: tuple[int, ...]
    address: int
    owner: object = field(repr=False, compare=False)
    """Keeps the memory; whoever drops the last reference gives it back."""

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.numpy.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def rank(self) -> int:
        return len(self.shape)

    def reshaped(self, shape: Sequence[int]) -> Tensor:
        """The same memory in another shape of as many elements."""
        assert math.prod(shape) == self.size
        return Tensor(self.dtype, tuple(shape), self.address, self.owner)

    def viewed(self, dtype: DataType) -> Tensor:
        """The same bytes as elements of another type of the same width."""
        assert dtype.numpy.itemsize == self.itemsize
        return Tensor(dtype, self.shape, self.address, self.owner)

    def in_parts(self) -> Tensor:
        """Complex numbers as pairs of real ones, along a new last axis."""
        part = DataType.FLOAT if self.dtype is DataType.COMPLEX64 else DataType.DOUBLE
        assert 2 * part.numpy.itemsize == self.itemsize
        return Tensor(part, (*self.shape, 2), self.address, self.owner)

    def part(self, start: int, shape: Sequence[int]) -> Tensor:
        """The elements from number `start` on, as a tensor over the same memory."""
        assert start >= 0 and start + math.prod(shape) <= self.size
        return Tensor(self.dtype, tuple(shape), self.address + start * self.itemsize, self.owner)
