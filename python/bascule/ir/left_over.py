# SPDX-License-Identifier: Apache-2.0
"""Sizes that a file declares of inner values, left over from when an input had fixed sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import zip_longest

from bascule.errors import Fail
from bascule.ir.graph import Model, Value
from bascule.ir.types import Shape, TensorType, Type

Types = Callable[[Value], Type | None]

_SAMPLES = (840, 2)
"""Sizes to try for those that a feed decides: one that many divide, and a small one."""


def open_inputs(model: Model) -> list[Value]:
    """The inputs of the model with sizes that a feed decides."""
    return [
        value
        for value in model.graph.inputs
        if isinstance(value.type, TensorType) and value.static_shape is None
    ]


def left_over_sizes(
    model: Model,
    values: Sequence[Value],
    inferred: Types,
    infer: Callable[[], Types],
) -> set[tuple[int, int]]:
    """Fixed sizes declared of `values` that are not to be believed, as (id of the value, axis).

    One that inference knows as a size of an input is left over, and so is one that comes out
    different when sizes are put in place of those that a feed decides, which is not tried where the
    file declares sizes of inputs for other values as well, and so was written for these inputs.
    Where there is one, no other is believed that follows from nothing else. `inferred` gives what
    follows from the inputs as they are; `infer` infers with the types that they have at the time.
    """
    inputs = open_inputs(model)
    given = {dim for value in inputs for dim in sizes_of(value.type) if isinstance(dim, str)}
    doubted: dict[tuple[int, int], tuple[Value, int, int]] = {}
    wrong: set[tuple[int, int]] = set()
    for value in values if inputs else ():
        found = inferred(value)
        if value.producer is None or (isinstance(found, TensorType) and _differ(found, value.type)):
            continue
        for axis, (dim, known) in enumerate(zip_longest(sizes_of(value.type), sizes_of(found))):
            if isinstance(dim, int) and not isinstance(known, int):
                doubted[id(value), axis] = value, axis, dim
                if known in given:
                    wrong.add((id(value), axis))
    if len(doubted) == len(wrong) or (not wrong and _speaks_of(given, values)):
        return wrong
    confirmed = set(doubted)
    for size in _SAMPLES:
        sampled = _infer_with(inputs, size, infer)
        for key, (value, axis, dim) in doubted.items():
            shape = sizes_of(sampled(value))
            known = shape[axis] if axis < len(shape) else None
            if known != dim:
                confirmed.discard(key)
                if isinstance(known, int):
                    wrong.add(key)
    return set(doubted) - confirmed if wrong else wrong


def _speaks_of(given: Collection[str], values: Sequence[Value]) -> bool:
    """Whether any of these sizes is declared for what nodes make, but for outputs."""
    return any(
        size in given
        for value in values
        if value.producer is not None and not value.is_graph_output
        for size in sizes_of(value.type)
    )


def _differ(found: TensorType, declared: Type | None) -> bool:
    """Whether they have another number of axes, so that nothing of what is declared is taken."""
    shape = declared.shape if isinstance(declared, TensorType) else None
    return found.shape is not None and shape is not None and len(found.shape) != len(shape)


def _infer_with(inputs: Sequence[Value], size: int, infer: Callable[[], Types]) -> Types:
    before = [value.type for value in inputs]
    try:
        for value in inputs:
            assert isinstance(value.type, TensorType)
            if value.type.shape is not None:
                shape = (dim if isinstance(dim, int) else size for dim in value.type.shape)
                value.type = TensorType(value.type.dtype, tuple(shape))
        return infer()
    except Fail:  # nothing follows from this size
        return lambda value: None
    finally:
        for value, type in zip(inputs, before):
            value.type = type


def sizes_of(type: Type | None) -> Shape:
    """The sizes of a tensor; none where the number of axes is not known."""
    return type.shape if isinstance(type, TensorType) and type.shape is not None else ()
