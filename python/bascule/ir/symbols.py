# SPDX-License-Identifier: Apache-2.0
"""Names of symbolic sizes over several runs of type inference.

Each run of onnx invents names for sizes that it cannot compute (``unk__7``), the same ones for
other sizes the next time. Here they get names that nothing has yet, or the name that a value's size
has already: then equal names go on to mean equal sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bascule.ir.types import Dim, Shape, SparseTensorType, TensorType, Type

_INVENTED = re.compile(r"\bunk__\d+\b")


def is_invented(dim: Dim) -> bool:
    """True for names that inference made up; they say nothing about the size."""
    return isinstance(dim, str) and _INVENTED.fullmatch(dim) is not None


def invented_names(dim: Dim) -> set[str]:
    """The names that inference made up in a size, which may be an expression as ``4*unk__0``."""
    return set(_INVENTED.findall(dim)) if isinstance(dim, str) else set()


def settle_names(
    inferred: dict[str, Type], known: Iterable[tuple[str, Type | None, bool]]
) -> dict[str, Type]:
    """`inferred` with lasting names for the sizes that this run invented.

    `known` gives the types so far: a value's name, its type, and whether its names are facts.
    """
    sizes = dict.fromkeys(dim for type in inferred.values() for dim in _dims(type))
    invented = {dim for dim in sizes if is_invented(dim)}
    if not invented:
        return inferred
    taken: set[Dim] = set()
    pairs: list[tuple[Dim, str]] = []
    for name, type, is_fact in known:
        before, found = _dims(type), _dims(inferred.get(name))
        taken.update(before)
        if is_fact and len(found) == len(before) and not invented.isdisjoint(found):
            pairs += [
                (new, old)
                for new, old in zip(found, before)
                if new in invented and isinstance(old, str)
            ]
    names: dict[Dim, str] = {}
    # What the model itself calls a size is better than a name from an earlier run.
    for new, old in sorted(pairs, key=lambda pair: is_invented(pair[1])):
        names.setdefault(new, old)
    counter = 0
    for dim in sizes:
        if dim in invented and dim not in names:
            while f"unk__{counter}" in taken:
                counter += 1
            names[dim] = f"unk__{counter}"
            taken.add(names[dim])
    return {name: _renamed(type, names) for name, type in inferred.items()}


def _dims(type: Type | None) -> Shape:
    if isinstance(type, (TensorType, SparseTensorType)) and type.shape is not None:
        return type.shape
    return ()


def _renamed(type: Type, names: Mapping[Dim, str]) -> Type:
    if not isinstance(type, TensorType) or names.keys().isdisjoint(type.shape or ()):
        return type
    return TensorType(type.dtype, tuple(names.get(dim, dim) for dim in type.shape or ()))
