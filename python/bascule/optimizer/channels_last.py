# SPDX-License-Identifier: Apache-2.0
"""Which values exist in channels-last form, while a graph moves to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType, Type
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.rewrite import Builder

RANKS = (3, 4, 5)

CHANNELS_LAST = "@channels_last"
"""After the name of a value, in `Value.origins`: its channels-last form."""


def to_last(rank: int) -> list[int]:
    """The permutation from ``[N, C, spatial...]`` to ``[N, spatial..., C]``."""
    return [0, *range(2, rank), 1]


def to_first(rank: int) -> list[int]:
    """The permutation from ``[N, spatial..., C]`` to ``[N, C, spatial...]``."""
    return [0, rank - 1, *range(1, rank - 1)]


def last_axis(axis: int, rank: int) -> int:
    """Where an axis of the standard layout is in the channels-last one."""
    return to_last(rank).index(axis % rank)


def permuted(type: Type | None, permutation: list[int]) -> Type | None:
    """A tensor type with its axes in another order; None when its rank is not known."""
    if not isinstance(type, TensorType) or type.shape is None:
        return None
    return TensorType(type.dtype, tuple(type.shape[axis] for axis in permutation))


def last_type(value: Value, like: Value | None, rank: int) -> Type | None:
    """The type of the channels-last form of `value`, which has the elements of `like`."""
    known = permuted(value.type, to_last(rank))
    if known is not None or like is None or like.dtype is None:
        return known
    return TensorType(like.dtype, (None,) * rank)


def note_last(moved: Value, value: Value) -> None:
    """Let the origins of the channels-last form of `value` say what it is."""
    names = (f"{name}{CHANNELS_LAST}" for name in value.origins)
    moved.origins = tuple(dict.fromkeys((*moved.origins, *names)))


@dataclass(frozen=True)
class Result:
    """What stands for an output: in channels-last form, or the value itself."""

    value: Value
    is_last: bool = True


class Layouts:
    """The channels-last forms of the values of one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._last: dict[Value, Value] = {}
        self._made: list[Value] = []
        self._build: Builder | None = None

    def at(self, build: Builder) -> Layouts:
        """These layouts, with new nodes made by `build`."""
        self._build = build
        self._made = []
        return self

    @property
    def build(self) -> Builder:
        assert self._build is not None
        return self._build

    def forget(self, build: Builder) -> None:
        """Take back what was made since `at`."""
        for value in self._made:
            del self._last[value]
        self._made = []
        build.discard()

    def observe(self, node: Node) -> None:
        """The model's own Transpose to the standard layout reads a channels-last form."""
        source = node.input(0)
        if not node.is_op("Transpose") or source is None or node.output.rank not in RANKS:
            return
        if node.attribute("perm") == to_first(node.output.rank or 0):
            self._last.setdefault(node.output, source)

    def has_last(self, value: Value | None) -> bool:
        return value is not None and value in self._last

    def known_last(self, value: Value) -> Value:
        return self._last[value]

    def last(self, value: Value) -> Value:
        """`value` in channels-last form; a Transpose is made if there is none yet."""
        if value in self._last:
            return self._last[value]
        assert value.rank is not None
        permutation = to_last(value.rank)
        constant = constant_of(value)
        if constant is not None:
            array = np.ascontiguousarray(constant.numpy().transpose(permutation))
            made = self.build.constant(array, value.name)
        else:
            made = self._moved(value, permutation)
        note_last(made, value)
        self._last[value] = made
        self._made.append(value)
        return made

    def _moved(self, value: Value, permutation: list[int]) -> Value:
        shape, type = value.shape, permuted(value.type, permutation)
        assert shape is not None
        # A 0 in sizes stands for the size before.
        if isinstance(shape[1], int) and shape[1] and all(dim == 1 for dim in shape[2:]):
            sizes = np.array([0, *shape[2:], shape[1]], np.int64)
            return self.build.Reshape(value, sizes, type=type)  # nothing moves in memory
        return self.build.Transpose(value, perm=permutation, type=type)

    def standard(self, node: Node, results: list[Result], build: Builder) -> list[Value]:
        """What the readers of `node` shall read in place of its outputs."""
        values = []
        for old, result in zip(node.outputs, results):
            value = result.value
            if result.is_last:
                assert value.rank is not None, "a carrier knows the rank of what it moved"
                note_last(value, old)
                value.type = permuted(old.type, to_last(value.rank)) or value.type
                value = build.Transpose(value, perm=to_first(value.rank), type=old.type)
                self._last[value] = result.value
            values.append(value)
        return values


def weight_of(value: Value) -> int:
    """How much moving this value costs: its elements, as far as they are known."""
    return math.prod(dim for dim in value.shape or () if isinstance(dim, int))
