# SPDX-License-Identifier: Apache-2.0
"""Sums of products in index notation.

The gradient of ``ij,jk->ik`` with respect to its first operand is ``ik,jk->ij``. What the others do
not know of an operand's indices comes from tensors of ones; an index that stands twice in it is
split in two, which the identity matrix holds together.
"""

from __future__ import annotations

from bascule.gradient.broadcast import sum_to
from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Gradients, Refusal, gradient
from bascule.ir.einsum import einsum_letters, unused_letters
from bascule.ir.graph import Node
from bascule.ir.types import Dim


@gradient("Einsum")
def einsum(node: Node, dy: Term, build: Builder) -> Gradients:
    operands = build.inputs(node)
    ranks = [operand.rank for operand in operands]
    try:
        terms, result = einsum_letters(node.attributes["equation"], ranks)
        places = range(len(operands))
        return [_slope(build, terms, result, operands, dy, place) for place in places]
    except ValueError as error:
        raise Refusal(str(error)) from None


def _slope(
    build: Builder, terms: list[str], result: str, operands: list[Term], dy: Term, place: int
) -> Term:
    own, target = terms[place], operands[place]
    inputs = [(result, dy)]
    inputs += [pair for k, pair in enumerate(zip(terms, operands)) if k != place]
    free = unused_letters("".join(terms) + result)
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
    if _is_repeated(target, own, result, terms, operands):
        slope = build.expand_like(slope, target)
    if _repeats(target, own, terms, operands):
        slope = sum_to(build, slope, slope, target)
    return slope


def _is_repeated(
    target: Term, own: str, result: str, terms: list[str], operands: list[Term]
) -> bool:
    """Whether what else has an axis of `target` may be operands that have it once and repeat it."""
    for letter, size in zip(own, target.value.shape or ()):
        others = [
            dim
            for term, operand in zip(terms, operands)
            if operand is not target
            for each, dim in zip(term, operand.value.shape or ())
            if each == letter
        ]
        if letter not in result and others and not any(_is_surely(dim, size) for dim in others):
            return True
    return False


def _is_surely(dim: Dim, size: Dim) -> bool:
    """Whether an axis of size `dim` is as long as one of `size` at least."""
    return size == 1 or (dim is not None and (dim == size or (isinstance(dim, int) and dim != 1)))


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
