# SPDX-License-Identifier: Apache-2.0
"""The type of a value: a tensor, or a container of other types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from bascule.ir.dtype import DataType

Dim = Union[int, str, None]
"""A fixed size, a named symbolic size, or an unnamed unknown one."""

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor. `shape` is None when not even the rank is known."""

    dtype: DataType
    shape: Shape | None = None

    def __str__(self) -> str:
        return f"tensor({self.dtype.onnx_name})"


@dataclass(frozen=True, slots=True)
class SparseTensorType:
    """A sparse tensor in the standard's COO form."""

    dtype: DataType
    shape: Shape | None = None

    def __str__(self) -> str:
        return f"sparse_tensor({self.dtype.onnx_name})"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A list of values of one type."""

    element: Type

    def __str__(self) -> str:
        return f"seq({self.element})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value or nothing."""

    element: Type

    def __str__(self) -> str:
        return f"optional({self.element})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A dictionary with integer or string keys."""

    key: DataType
    value: Type

    def __str__(self) -> str:
        return f"map({self.key.onnx_name},{self.value})"


Type = Union[TensorType, SparseTensorType, SequenceType, OptionalType, MapType]


def shared_sizes(types: Sequence[Type | None]) -> list[tuple[int, int, int, int]]:
    """(i, axis, j, axis) of every further place where a symbolic size's name stands again."""
    first: dict[str, tuple[int, int]] = {}
    shared = []
    for index, type_ in enumerate(types):
        if not isinstance(type_, TensorType):
            continue
        for axis, dim in enumerate(type_.shape or ()):
            if isinstance(dim, str) and dim:
                place = first.setdefault(dim, (index, axis))
                if place != (index, axis):
                    shared.append((*place, index, axis))
    return shared
