# SPDX-License-Identifier: Apache-2.0
"""What a product of matrices is, for all that compute one."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bascule.providers.cuda.activation import NO_ACTIVATION, Activation
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.tensor import Tensor

_MOST_AXES = 8


@dataclass(frozen=True, slots=True)
class Epilogue:
    """``activation(alpha * sum + bias + residual)``: bias for each column, residual like Y."""

    alpha: float = 1.0
    bias: Tensor | None = None
    residual: Tensor | None = None
    activation: Activation = NO_ACTIVATION

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """As kernels take it, last in their lists."""
        return self.bias, self.residual, np.float32(self.alpha), *self.activation.arguments

    @property
    def is_plain(self) -> bool:
        """Whether the sums stay as they are."""
        nothing = self.bias is None and self.residual is None and not self.activation.name
        return nothing and self.alpha == 1


PLAIN = Epilogue()


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a batch, with the elements from one matrix to the next along it."""

    size: int
    a: int
    b: int
    y: int


@dataclass(frozen=True, slots=True)
class Product:
    """Y, [M, N], from A, [M, K], and B, [K, N], for each matrix of a batch.

    Transposed operands lie as [K, M] and [N, K].
    """

    a: Tensor
    b: Tensor
    m: int
    n: int
    k: int
    transpose_a: bool
    transpose_b: bool
    batch: tuple[Axis, ...]
    shape: tuple[int, ...]
    epilogue: Epilogue
    constant: bool = False
    """B is the same in every run."""
    parts: int = 1
    """Y is so many results behind each other, of N / parts columns each."""

    @property
    def matrices(self) -> int:
        return math.prod(axis.size for axis in self.batch)


def batch_axes(
    batch: Sequence[int], a_shape: Sequence[int], b_shape: Sequence[int], y_size: int
) -> tuple[Axis, ...]:
    """The axes of a batch, as few as there can be."""
    axes: list[Axis] = []
    y = y_size
    steps = [_matrix_steps(shape, len(batch)) for shape in (a_shape, b_shape)]
    for size, a, b in reversed([*zip(batch, *steps, strict=True)]):
        if size != 1:
            axes.insert(0, Axis(size, a, b, y))
            y *= size
    merged: list[Axis] = []
    for axis in reversed(axes):
        inner = merged[0] if merged else None
        if inner and axis.a == inner.a * inner.size and axis.b == inner.b * inner.size:
            merged[0] = replace(inner, size=inner.size * axis.size)
        else:
            merged.insert(0, axis)
    return tuple(merged)


def _matrix_steps(shape: Sequence[int], rank: int) -> list[int]:
    """Elements from one matrix to the next along each of `rank` axes; 0 where it is broadcast."""
    steps: list[int] = []
    step = shape[-1] * shape[-2]
    for size in reversed(shape[:-2]):
        steps.insert(0, step if size != 1 else 0)
        step *= size
    return [0] * (rank - len(steps)) + steps


def batch_struct(call: Call, axes: Sequence[Axis]) -> Struct:
    """The axes as kernels take them."""
    if len(axes) > _MOST_AXES:
        raise call.error(f"the batch has {len(axes)} axes that cannot be joined")
    columns = [[getattr(axis, name) for axis in axes] for name in ("size", "a", "b")]
    padded = [number for column in columns for number in column + [0] * (_MOST_AXES - len(column))]
    return Struct(struct.pack(f"<{1 + 3 * _MOST_AXES}q", len(axes), *padded))
