# SPDX-License-Identifier: Apache-2.0
"""Names of symbolic sizes over several runs of type inference.

Each run of onnx invents names for sizes that it cannot compute (``unk__7``), the same ones for
other sizes the next time. Here they get names that nothing has yet, or the name that a value's size
has already: then equal names go on to mean equal sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bascule.ir.types import Dim, SparseTensorType, TensorType, Type

_INVENTED = re.compile(r"unk__\d+")


def is_invented(dim: Dim) -> bool:
    """True for names that inference made up; they say nothing about the size."""
    return isinstance(dim, str) and _INVENTED.fullmatch(dim) is not None


def settle_names(
    inferred: dict[str, Type], known: Iterable[tuple[str, Type | None, bool]]
) -> dict[str, Type]:
    """`inferred` with lasting names for the sizes that this run invented.

    `known` gives the types so far: a value's name, its type, and whether its names are facts.
    """
    taken: set[str] = set()
    pairs: list[tuple[str, str]] = []
    for name, type, is_fact in known:
        before = list(_dims(type))
        taken.update(dim for dim in before if isinstance(dim, str))
        found = list(_dims(inferred.get(name)))
        if is_fact and len(found) == len(before):
            pairs += [
                (new, old)
                for new, old in zip(found, before)
                if isinstance(new, str) and isinstance(old, str)
            ]
    names: dict[str, str] = {}
    # What the model itself calls a size is better than a name from an earlier run.
    for new, old in sorted(pairs, key=lambda pair: _INVENTED.fullmatch(pair[1]) is not None):
        if _INVENTED.fullmatch(new):
            names.setdefault(new, old)
    counter = 0
    for type in inferred.values():
        for dim in _dims(type):
            if isinstance(dim, str) and _INVENTED.fullmatch(dim) and dim not in names:
                while f"unk__{counter}" in taken:
                    counter += 1
                names[dim] = f"unk__{counter}"
                taken.add(names[dim])
    return {name: _renamed(type, names) for name, type in inferred.items()}


def _dims(type: Type | None) -> Iterator[Dim]:
    if isinstance(type, (TensorType, SparseTensorType)) and type.shape is not None:
        yield from type.shape


def _renamed(type: Type, names: dict[str, str]) -> Type:
    if not isinstance(type, TensorType) or type.shape is None:
        return type
    shape = tuple(names.get(dim, dim) if isinstance(dim, str) else dim for dim in type.shape)
    return TensorType(type.dtype, shape)
