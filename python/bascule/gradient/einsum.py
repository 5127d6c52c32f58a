# SPDX-License-Identifier: Apache-2.0
"""Sums of products in index notation.

The gradient of ``ij,jk->ik`` with respect to its first operand is ``ik,jk->ij``. What the others do
not know of an operand's indices comes from tensors of ones; an index that stands twice in it is
split in two, which the identity matrix holds together.
"""

from __future__ import annotations

from collections.abc import Iterator

from bascule.gradient.broadcast import sum_to
from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Gradients, Refusal, gradient
from bascule.ir.graph import Node

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@gradient("Einsum")
def einsum(node: Node, dy: Term, build: Builder) -> Gradients:
    operands = build.inputs(node)
    terms, result = _indices(node.attributes["equation"], operands)
    return [_slope(build, terms, result, operands, dy, place) for place in range(len(operands))]


def _slope(
    build: Builder, terms: list[str], result: str, operands: list[Term], dy: Term, place: int
) -> Term:
    own, target = terms[place], operands[place]
    inputs = [(result, dy)]
    inputs += [pair for k, pair in enumerate(zip(terms, operands)) if k != place]
    free = _unused("".join(terms) + result)
    wanted = ""
    for axis, letter in enumerate(own):
        if letter in wanted:  # a diagonal
            first, letter = letter, next(free)
            square = build.concat(*[build.dim(target, axis)] * 2)
            ones = build.fill(square, 1, target.dtype)
            inputs.append((first + letter, build.op("EyeLike", ones)))
        elif not any(letter in each for each, _ in inputs):
            inputs.append((letter, build.fill(build.dim(target, axis), 1, target.dtype)))
        wanted += letter
    equation = ",".join(letters for letters, _ in inputs) + "->" + wanted
    slope = build.op("Einsum", *(term for _, term in inputs), equation=equation)
    if _repeats(target, own, terms, operands):
        slope = sum_to(build, slope, slope, target)
    return slope


def _repeats(target: Term, own: str, terms: list[str], operands: list[Term]) -> bool:
    """Whether an axis of size 1 of `target` may meet a longer one of another operand."""
    shape = target.value.shape or ()
    for letters, operand in zip(terms, operands):
        for letter, size in zip(letters, operand.value.shape or ()):
            mine = shape[own.index(letter)] if letter in own else size
            if mine != size and (mine == 1 or not isinstance(mine, int)):
                return True
            if mine is None and operand is not target and letter in own:
                return True
    return False


def _indices(equation: str, operands: list[Term]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with letters for an ellipsis too."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise Refusal(f"its equation '{equation}' is not for {len(operands)} operands")
    letters = [term.replace("...", "") for term in terms]
    if not arrow:
        every = "".join(letters)
        right = "..." if "..." in left else ""
        right += "".join(sorted(c for c in set(every) if every.count(c) == 1))
    free = _unused(left + right)
    hidden = [operand.rank - len(each) for operand, each in zip(operands, letters)]
    count = max((n for n, term in zip(hidden, terms) if "..." in term), default=0)
    batch = "".join(next(free) for _ in range(count))
    full = [term.replace("...", batch[len(batch) - n :]) for term, n in zip(terms, hidden)]
    return full, right.replace("...", batch)


def _unused(letters: str) -> Iterator[str]:
    for letter in _LETTERS:
        if letter not in letters:
            yield letter
    raise Refusal("its equation has no letter left")
