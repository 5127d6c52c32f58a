# SPDX-License-Identifier: Apache-2.0
"""Einsum: operands are contracted one after the other, each pair as a batch of matrix products.

Every index of the equation is a label; an ellipsis stands for labels of its own, aligned at the
right. More than one step is computed in float32 or int32 for narrower types.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.operators.matmul import TYPES, multiply
from bascule.providers.cuda.registry import NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_MOST_AXES = 16
_NARROW_FLOATS = frozenset((DataType.FLOAT16, DataType.BFLOAT16))


@dataclass(frozen=True, slots=True)
class _Operand:
    """A tensor with a label on each axis, and its stride in elements."""

    tensor: Tensor
    strides: dict[str, int]

    @property
    def labels(self) -> list[str]:
        return list(self.strides)


class _Contraction:
    def __init__(self, call: Call, sizes: dict[str, int], wide: DataType) -> None:
        self._call = call
        self._sizes = sizes
        self._wide = wide

    def size(self, labels: Iterable[str]) -> int:
        return math.prod(self._sizes[label] for label in labels)

    def arranged(self, x: _Operand, order: Sequence[str], dtype: DataType) -> Tensor:
        """The operand in this order of memory, summed over labels that are not in it."""
        summed = [label for label in x.labels if label not in order]
        if not summed and x.tensor.dtype is dtype and self._lies_as(x, order):
            return x.tensor.reshaped([self._sizes[label] for label in order])
        y = self._call.empty([self._sizes[label] for label in order], dtype)
        axes = [*order, *summed]
        if len(axes) > _MOST_AXES:
            raise self._call.error(
                f"an operand has {len(axes)} labels, at most {_MOST_AXES} can be"
            )
        columns = (
            [self._sizes[label] for label in axes],
            [x.strides.get(label, 0) for label in axes],
        )
        padded = [n for column in columns for n in column + [0] * (_MOST_AXES - len(column))]
        packed = struct.pack(f"<{2 + 2 * _MOST_AXES}q", len(order), len(summed), *padded)
        self._call.launch(
            "einsum",
            f"einsum_{type_name(x.tensor.dtype)}_{type_name(dtype)}",
            min(-(-y.size // 256), 1 << 20),
            256,
            *(x.tensor, y, np.int64(y.size), np.int64(self.size(summed)), Struct(packed)),
        )
        return y

    def without(self, x: _Operand, kept: Sequence[str]) -> _Operand:
        """Sums over the labels that are not kept."""
        order = [label for label in x.labels if label in kept]
        if len(order) == len(x.labels):
            return x
        return self._dense(self.arranged(x, order, self._wide), order)

    def multiply(self, a: _Operand, b: _Operand, needed: Sequence[str]) -> _Operand:
        """The product of two operands, with the labels that are needed afterwards.

        A label that only one operand has is of rows or columns, one that both have and the rest
        needs is of the batch, the others are summed over.
        """
        single = [x for x in needed if (x in a.strides) != (x in b.strides)]
        if single and single[0] in b.strides:  # whose rows come first in the output is the left
            a, b = b, a
        batch = [x for x in needed if x in a.strides and x in b.strides]
        rows = [x for x in needed if x in a.strides and x not in b.strides]
        columns = [x for x in needed if x in b.strides and x not in a.strides]
        inside = [x for x in a.labels if x not in needed]
        transpose_a = a.tensor.dtype is self._wide and self._lies_as(a, [*batch, *inside, *rows])
        transpose_b = b.tensor.dtype is self._wide and self._lies_as(b, [*batch, *columns, *inside])
        left = [*batch, *inside, *rows] if transpose_a else [*batch, *rows, *inside]
        right = [*batch, *columns, *inside] if transpose_b else [*batch, *inside, *columns]
        count, m, n, k = (self.size(group) for group in (batch, rows, columns, inside))
        x = self.arranged(a, left, self._wide)
        w = self.arranged(b, right, self._wide)
        x = x.reshaped((count, k, m) if transpose_a else (count, m, k))
        w = w.reshaped((count, n, k) if transpose_b else (count, k, n))
        y = multiply(self._call, x, w, transpose_a, transpose_b)
        return self._dense(y, [*batch, *rows, *columns])

    def _lies_as(self, x: _Operand, order: Sequence[str]) -> bool:
        stride = 1
        for label in reversed(order):
            if self._sizes[label] != 1 and x.strides.get(label, 0) != stride:
                return False
            stride *= self._sizes[label]
        return stride == x.tensor.size

    def _dense(self, tensor: Tensor, order: Sequence[str]) -> _Operand:
        strides: dict[str, int] = {}
        stride = 1
        for label in reversed(order):
            strides[label] = stride
            stride *= self._sizes[label]
        return _Operand(tensor, dict(reversed(strides.items())))


def _accepts(node: Node) -> str:
    try:
        inputs, _ = _equation(str(node.attributes.get("equation", "")))
    except ValueError as error:
        return str(error)
    if len(inputs) != len(node.inputs):
        return f"the equation has {len(inputs)} terms for {len(node.inputs)} inputs"
    return ""


@kernel("Einsum", dtypes=NUMBERS, accepts=_accepts)
def einsum(call: Call, *tensors: Tensor) -> Tensor:
    """Einstein's summation convention."""
    inputs, output = _equation(str(call.attribute("equation", "")))
    hidden = max(
        (x.rank - len(term) + 1 for x, term in zip(tensors, inputs, strict=True) if "." in term),
        default=0,
    )
    sizes: dict[str, int] = {}
    operands = []
    for index, (x, term) in enumerate(zip(tensors, inputs, strict=True)):
        labels = _expanded(term, x.rank - len(term) + 1)
        if len(labels) != x.rank:
            raise call.error(
                f"input {index} has shape {x.shape}, which does not fit its term '{term}'"
            )
        operands.append(_operand(call, index, x, labels, sizes))
    order = _expanded(output, hidden)
    dtype = tensors[0].dtype
    shape = [sizes[label] for label in order]
    if 0 in shape:
        return call.empty(shape, dtype)
    wide = _wide(dtype, operands, order)
    contraction = _Contraction(call, sizes, wide)
    result = operands[0]
    for position, operand in enumerate(operands[1:], 2):
        later = {label: None for label in order}
        for other in operands[position:]:
            later.update(dict.fromkeys(other.labels))
        needed = list(later)
        result = contraction.without(result, [*needed, *operand.labels])
        operand = contraction.without(operand, [*needed, *result.labels])
        result = contraction.multiply(result, operand, needed)
    y = contraction.arranged(result, order, dtype)
    return call.copied(y) if y.address == tensors[0].address else y


def _wide(dtype: DataType, operands: Sequence[_Operand], output: Sequence[str]) -> DataType:
    """The type that intermediate results have."""
    if dtype in _NARROW_FLOATS:
        if len(operands) == 1:
            return dtype
        if len(operands) == 2:  # one product, rounded once, unless a sum comes before it
            known = [{*operand.labels} for operand in operands]
            alone = (known[0] ^ known[1]) - {*output}
            return DataType.FLOAT if alone else dtype
        return DataType.FLOAT
    if dtype in TYPES or len(operands) == 0:
        return dtype
    return DataType.INT32


def _operand(
    call: Call, index: int, x: Tensor, labels: Sequence[str], sizes: dict[str, int]
) -> _Operand:
    """A label that occurs twice runs along the diagonal; an axis of size 1 is broadcast."""
    strides: dict[str, int] = {}
    stride = x.size if 0 not in x.shape else 0
    for axis, (label, size) in enumerate(zip(labels, x.shape, strict=True)):
        known = sizes.get(label, 1)
        if known == 1:
            known = sizes[label] = size
        if size not in (known, 1):
            raise call.error(
                f"axis {axis} of input {index} has size {size}, and another axis of the same label "
                f"{known}"
            )
        stride = stride // size if size else 0
        strides[label] = strides.get(label, 0) + (stride if size != 1 else 0)
    return _Operand(x, strides)


def _expanded(term: str, hidden: int) -> list[str]:
    """The labels of a term whose ellipsis stands for `hidden` axes, numbered from the last."""
    labels: list[str] = []
    for letter in term:
        labels += [f"...{i}" for i in range(hidden - 1, -1, -1)] if letter == "." else [letter]
    return labels


def _equation(given: str) -> tuple[list[str], str]:
    """The terms of the inputs and the one of the output; one point stands for an ellipsis."""
    left, arrow, right = given.replace(" ", "").partition("->")
    inputs = [_term(text, given) for text in left.split(",")]
    letters = "".join(inputs)
    if arrow:
        output = _term(right, given)
        if len({*output}) < len(output) or not {*output} <= {*letters, "."}:
            raise ValueError(f"equation '{given}' has a wrong output")
        return inputs, output
    once = sorted(x for x in {*letters} if letters.count(x) == 1 and x != ".")
    return inputs, ("." if "." in letters else "") + "".join(once)


def _term(text: str, equation: str) -> str:
    term = text.replace("...", ".")
    if term.count(".") > 1 or not all(x == "." or (x.isascii() and x.isalpha()) for x in term):
        raise ValueError(f"equation '{equation}' is malformed")
    return term
