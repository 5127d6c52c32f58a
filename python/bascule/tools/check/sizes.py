# SPDX-License-Identifier: Apache-2.0
"""The sizes that a model is checked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np

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
    by_symbol: dict[str, int] = {}
    by_input: dict[str, list[int]] = {}
    for name, given in shapes.items():
        if name not in inputs and name not in symbols:
            raise InvalidArgument(
                f"shapes: the model has no input or size '{name}'",
                inputs=sorted(inputs),
                sizes=sorted(symbols),
            )
        given_sizes = [given] if isinstance(given, (int, np.integer)) else list(given)
        if not all(isinstance(size, (int, np.integer)) and size >= 0 for size in given_sizes):
            raise InvalidArgument(f"shapes: '{name}' cannot be {given}: a size is 0 or more")
        if name in symbols and (name not in inputs or isinstance(given, (int, np.integer))):
            if len(given_sizes) != 1:
                raise InvalidArgument(f"shapes: '{name}' is one size, and cannot be {given}")
            by_symbol[name] = int(given_sizes[0])
        else:
            by_input[name] = [int(size) for size in given_sizes]
            _check_shape(inputs[name], by_input[name])
    sizes = {}
    for name, value in inputs.items():
        if name in by_input:
            sizes[name] = by_input[name]
        elif value.shape is not None:
            dims = value.shape
            sizes[name] = [d if isinstance(d, int) else by_symbol.get(d or "", 1) for d in dims]
    return sizes


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
