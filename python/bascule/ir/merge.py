# SPDX-License-Identifier: Apache-2.0
"""Types put together from what is inferred and what is declared."""

from __future__ import annotations

from bascule.ir.symbols import is_invented
from bascule.ir.types import (
    Dim,
    MapType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
)


def merge_types(inferred: Type | None, declared: Type | None, *, keep_names: bool) -> Type | None:
    """The inferred type, its gaps filled from the declared one.

    `keep_names` prefers the declared names of symbolic sizes.
    """
    if inferred is None or declared is None or type(inferred) is not type(declared):
        return declared if inferred is None else inferred
    if isinstance(inferred, (TensorType, SparseTensorType)):
        assert isinstance(declared, (TensorType, SparseTensorType))
        shape = _merge_shapes(inferred.shape, declared.shape, keep_names)
        return type(inferred)(inferred.dtype, shape)
    if isinstance(inferred, (SequenceType, OptionalType)):
        assert isinstance(declared, (SequenceType, OptionalType))
        element = merge_types(inferred.element, declared.element, keep_names=keep_names)
        assert element is not None
        return type(inferred)(element)
    assert isinstance(declared, MapType)
    element = merge_types(inferred.value, declared.value, keep_names=keep_names)
    assert element is not None
    return MapType(inferred.key, element)


def _merge_shapes(inferred: Shape | None, declared: Shape | None, keep_names: bool) -> Shape | None:
    if inferred is None or declared is None:
        return declared if inferred is None else inferred
    if inferred == declared or len(inferred) != len(declared):
        return inferred
    return tuple(_merge_dims(i, d, keep_names) for i, d in zip(inferred, declared))


def _merge_dims(inferred: Dim, declared: Dim, keep_names: bool) -> Dim:
    if isinstance(inferred, int) or declared is None:
        return inferred
    if inferred is None or isinstance(declared, int) or (keep_names and not is_invented(declared)):
        return declared
    return inferred
