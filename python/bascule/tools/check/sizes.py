# SPDX-License-Identifier: Apache-2.0
"""The sizes that a model is checked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

from bascule.errors import InvalidArgument
from bascule.ir.graph import Model, Value
from bascule.ir.printer import format_type

Sizes = Mapping[str, Union[int, Sequence[int]]]


def input_sizes(model: Model, shapes: Sizes) -> dict[str, list[int]]:
    """The shape that each input will have.

    Raises:
        InvalidArgument: a name is neither an input nor a symbolic size, or a shape does not fit.
    """
    inputs = {v.name: v for v in model.graph.inputs if v.name not in model.graph.initializers}
    symbols = {d for v in inputs.values() for d in v.shape or () if isinstance(d, str)}
    for name, given in shapes.items():
        if name not in inputs and name not in symbols:
            raise InvalidArgument(
                f"shapes: the model has no input or size '{name}'",
                inputs=sorted(inputs),
                sizes=sorted(symbols),
            )
        if name in inputs and not isinstance(given, int):
            _check_shape(inputs[name], given)
    sizes = {}
    for name, value in inputs.items():
        wanted = shapes.get(name)
        if wanted is not None and not isinstance(wanted, int):
            sizes[name] = [int(size) for size in wanted]
        elif value.shape is not None:
            sizes[name] = [_size(dim, shapes) for dim in value.shape]
    return sizes


def _size(dim: int | str | None, shapes: Sizes) -> int:
    if isinstance(dim, int):
        return dim
    given = shapes.get(dim or "", 1)
    return given if isinstance(given, int) else 1


def _check_shape(value: Value, given: Sequence[int]) -> None:
    expected = value.shape
    fits = expected is None or (
        len(given) == len(expected)
        and all(not isinstance(dim, int) or dim == size for dim, size in zip(expected, given))
    )
    if not fits:
        raise InvalidArgument(
            f"shapes: input '{value.name}' cannot be {list(given)}",
            expected=format_type(value.type),
        )
