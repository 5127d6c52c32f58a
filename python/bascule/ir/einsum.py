# SPDX-License-Identifier: Apache-2.0
"""The index notation of Einsum, and the sizes that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bascule.ir.types import Dim, TensorType, Type

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def einsum_letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with letters for an ellipsis, too.

    Raises:
        ValueError: it is for another number of operands, or has no letter left.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"its equation '{equation}' is not for {len(ranks)} operands")
    letters = [term.replace("...", "") for term in terms]
    if not arrow:
        every = "".join(letters)
        right = "..." if "..." in left else ""
        right += "".join(sorted(c for c in set(every) if every.count(c) == 1))
    free = unused_letters(left + right)
    hidden = [rank - len(each) for rank, each in zip(ranks, letters)]
    count = max((n for n, term in zip(hidden, terms) if "..." in term), default=0)
    batch = "".join(next(free) for _ in range(count))
    full = [term.replace("...", batch[len(batch) - n :]) for term, n in zip(terms, hidden)]
    return full, right.replace("...", batch)


def unused_letters(letters: str) -> Iterator[str]:
    for letter in _LETTERS:
        if letter not in letters:
            yield letter
    raise ValueError("its equation has no letter left")


def repeating_einsum_type(equation: object, types: Sequence[Type | None]) -> TensorType | None:
    """The type of a result with an axis for which the operands say different sizes; else None.

    One of size 1 is repeated. onnx takes the size of the first of them.
    """
    tensors = [type for type in types if isinstance(type, TensorType)]
    shapes = [type.shape for type in tensors if type.shape is not None]
    if not shapes or len(shapes) < len(types) or not isinstance(equation, str):
        return None
    try:
        terms, result = einsum_letters(equation, [len(shape) for shape in shapes])
    except ValueError:
        return None
    sizes: dict[str, list[Dim]] = {}
    for term, shape in zip(terms, shapes):
        if len(term) != len(shape):
            return None
        for letter, size in zip(term, shape):
            sizes.setdefault(letter, []).append(size)
    if any(letter not in sizes for letter in result):
        return None
    if all(len(set(sizes[letter])) == 1 for letter in result):
        return None
    return TensorType(tensors[0].dtype, tuple(_repeated(sizes[letter]) for letter in result))


def _repeated(sizes: Sequence[Dim]) -> Dim:
    longer = set(sizes) - {1}
    fixed = [size for size in longer if isinstance(size, int)]
    if not longer:
        return 1
    return fixed[0] if fixed else longer.pop() if len(longer) == 1 else None
