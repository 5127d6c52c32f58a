# SPDX-License-Identifier: Apache-2.0
"""Sequences, which are lists of tensors, and optional values, which may be None."""

from __future__ import annotations

from typing import Any, Union

import numpy as np

from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.operators.movement import joined, separated
from bascule.providers.cuda.operators.shape import axis_of, integers
from bascule.providers.cuda.registry import FIXED_WIDTH, kernel
from bascule.providers.cuda.tensor import Tensor

Sequence = list[Tensor]
Item = Union[Tensor, Sequence]


def _no_strings(node: Node) -> str:
    types = [str(v.type) for v in (*node.inputs, *node.outputs) if v is not None]
    return "no kernel for strings" if any("string" in each for each in types) else ""


def _position(call: Call, given: Any, count: int, default: int) -> int:
    """A position of an item of a sequence of `count`, which may count from the end."""
    position = default if given is None else integers(given)[0]
    if not -count <= position < count:
        raise call.error(
            f"Invalid sequence index ({position}) specified for sequence of size ({count})"
        )
    return position % count


@kernel("SequenceEmpty", accepts=_no_strings)
def sequence_empty(call: Call) -> Sequence:
    return []


@kernel("SequenceConstruct", dtypes=FIXED_WIDTH)
def sequence_construct(call: Call, *items: Tensor) -> Sequence:
    return list(items)


@kernel("SequenceInsert", host=(2,), accepts=_no_strings)
def sequence_insert(call: Call, items: Sequence, item: Tensor, position: Any = None) -> Sequence:
    count = len(items)
    at = count
    if position is not None and integers(position)[0] != count:
        at = _position(call, position, count, count)
    if items and item.dtype is not items[0].dtype:
        raise call.error(f"a tensor of {item.dtype} in a sequence of {items[0].dtype}")
    return [*items[:at], item, *items[at:]]


@kernel("SequenceErase", host=(1,), accepts=_no_strings)
def sequence_erase(call: Call, items: Sequence, position: Any = None) -> Sequence:
    at = _position(call, position, len(items), len(items) - 1)
    return [*items[:at], *items[at + 1 :]]


@kernel("SequenceAt", host=(1,), accepts=_no_strings)
def sequence_at(call: Call, items: Sequence, position: Any) -> Tensor:
    return items[_position(call, position, len(items), 0)]


@kernel("SequenceLength", accepts=_no_strings)
def sequence_length(call: Call, items: Sequence) -> Tensor:
    return call.upload(np.array(len(items), np.int64))


@kernel("SplitToSequence", dtypes=FIXED_WIDTH, host=(1,))
def split_to_sequence(call: Call, x: Tensor, split: Any = None) -> Sequence:
    axis = axis_of(call, call.attribute("axis", 0), x.rank)
    size = x.shape[axis]
    if split is not None and np.ndim(split):
        lengths = integers(split)
        if min(lengths, default=0) < 0 or sum(lengths) != size:
            raise call.error(f"the sizes {lengths} do not sum to {size}")
    else:
        step = 1 if split is None else integers(split)[0]
        if step < 1:
            raise call.error("`split` must be positive")
        lengths = [min(step, size - start) for start in range(0, size, step)]
    parts = [p for p in separated(call, x, axis, lengths, [True] * len(lengths)) if p is not None]
    if split is None and not call.attribute("keepdims", 1):
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        parts = [part.reshaped(shape) for part in parts]
    return parts


@kernel("ConcatFromSequence", accepts=_no_strings)
def concat_from_sequence(call: Call, items: Sequence) -> Tensor:
    if not items:
        raise call.error("the sequence is empty")
    stacked = bool(call.attribute("new_axis", 0))
    axis = axis_of(call, call.attribute("axis"), items[0].rank + stacked)
    if stacked:
        items = [x.reshaped((*x.shape[:axis], 1, *x.shape[axis:])) for x in items]
    return joined(call, items, axis)


@kernel("Optional", accepts=_no_strings)
def optional(call: Call, item: Item | None = None) -> Item | None:
    return item


@kernel("OptionalGetElement", accepts=_no_strings)
def optional_get_element(call: Call, item: Item | None = None) -> Item:
    if item is None:
        raise call.error("Trying to use OptionalGetElement on an optional without a value")
    return item


@kernel("OptionalHasElement", accepts=_no_strings)
def optional_has_element(call: Call, item: Item | None = None) -> Tensor:
    return call.upload(np.array(item is not None))
