# SPDX-License-Identifier: Apache-2.0
"""Products that read one value become one step.

* MatMuls of one value by constant matrices of one shape, such as those to queries, keys and values;
* a MatMul by a constant matrix whose result is only split into equal parts: each part is then a
  product of its own, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bascule.ir.constant import Constant
from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.providers.cuda.operators.joined_matmul import KERNEL, MOST_PARTS
from bascule.providers.cuda.placement import Place, Placed
from bascule.providers.cuda.registry import FLOATS

_VECTOR = 16
"""Bytes that every part of a result begins at a multiple of."""

Placing = tuple[Node, Placed, Any]
"""A node, where it runs, and its step."""


@dataclass(frozen=True, slots=True)
class _Product:
    """A MatMul that can be joined with others: ``alpha * A @ B' + bias``."""

    index: int
    """Of its step."""
    matrix: Constant
    bias: Constant | None
    transposed: bool
    alpha: float

    @property
    def columns(self) -> int:
        return self.matrix.shape[0 if self.transposed else 1]


def join_products(steps: Sequence[Placing]) -> list[Placing]:
    """Steps in which joined products stand in the place of the first of each group."""
    result: list[Placing | None] = list(steps)
    products = [(i, found) for i, each in enumerate(steps) if (found := _product(i, *each[:2]))]
    places = {node: i for i, (node, _, _) in enumerate(steps)}
    groups: dict[Any, list[_Product]] = {}
    for index, product in products:
        node = steps[index][0]
        split = _split_of(node, product)
        if split is not None and split in places:
            _put(result, [product], places[split])
            continue
        key = (
            *(node.inputs[0], product.matrix.dtype, product.matrix.shape),
            *(product.transposed, product.alpha, product.bias is None),
        )
        groups.setdefault(key, []).append(product)
    for group in groups.values():
        for first in range(0, len(group), MOST_PARTS):
            if len(group[first : first + MOST_PARTS]) > 1:
                _put(result, group[first : first + MOST_PARTS])
    return [each for each in result if each is not None]


def _product(index: int, node: Node, placed: Placed) -> _Product | None:
    if placed.place is not Place.DEVICE or node.op_type != "MatMul":
        return None
    if node.domain not in ("", FUSED_DOMAIN) or len(node.outputs) != 1:
        return None
    a, b, bias, residual = (node.input(i) for i in range(4))
    if node.attribute("transA", 0) or node.attribute("activation", "") or residual is not None:
        return None
    if a is None or a.constant is not None or b is None or b.constant is None:
        return None
    if b.constant.dtype not in FLOATS or len(b.constant.shape) != 2 or a.rank in (None, 0):
        return None
    if bias is not None and (bias.constant is None or len(bias.constant.shape) != 1):
        return None
    found = _Product(
        index,
        b.constant,
        None if bias is None else bias.constant,
        bool(node.attribute("transB", 0)),
        float(node.attribute("alpha", 1.0)),
    )
    return found if _fits(found, 1) else None


def _fits(product: _Product, parts: int) -> bool:
    """Whether the parts are of whole vectors."""
    each, rest = divmod(product.columns, parts)
    is_whole = each * product.matrix.dtype.numpy.itemsize % _VECTOR == 0
    has_bias = product.bias is None or product.bias.shape == (product.columns,)
    return rest == 0 and each > 0 and is_whole and has_bias


def _split_of(node: Node, product: _Product) -> Node | None:
    """The Split into equal parts that alone reads the product."""
    split = node.output.only_use()
    if split is None or not split.is_op("Split") or split.input(0) is not node.output:
        return None
    rank, parts = node.output.rank, len(split.outputs)
    if rank is None or split.attribute("axis", 0) not in (-1, rank - 1) or parts > MOST_PARTS:
        return None
    sizes = split.input(1)
    if sizes is not None:
        each = product.columns // parts
        if sizes.constant is None or set(sizes.constant.numpy().tolist()) != {each}:
            return None
    elif split.attribute("num_outputs", parts) != parts:
        return None
    return split if _fits(product, parts) else None


def _put(result: list[Placing | None], group: Sequence[_Product], split: int | None = None) -> None:
    """A step for a group at the place of its first; the others, or the Split, are gone."""
    members = [each for product in group if (each := result[product.index]) is not None]
    made = members
    if split is not None:
        last = result[split]
        made = [last] if last is not None else []
        result[split] = None
    node, placed, step = members[0]
    outputs = [_copy(value) for each in made for value in each[0].outputs]
    numbers = [number for each in made for number in each[2].outputs]
    used = [1] if group[0].bias is None else [1, 2]
    inputs = [(node.inputs[0], step.inputs[0])]
    inputs += [(each[0].inputs[i], each[2].inputs[i]) for i in used for each in members]
    attributes = {
        "parts": len(outputs),
        "transB": int(group[0].transposed),
        "alpha": group[0].alpha,
    }
    copies = [None if value is None else _copy(value) for value, _ in inputs]
    joined = Node("JoinedMatMul", copies, outputs, attributes, domain=FUSED_DOMAIN, name=node.name)
    for product in group:
        result[product.index] = None
    replaced = replace(
        step,
        node=joined,
        kernel=KERNEL,
        inputs=[number for _, number in inputs],
        outputs=numbers,
        prepared={},
        dies=[],
    )
    result[group[0].index] = (joined, replace(placed, kernel=KERNEL), replaced)


def _copy(value: Value) -> Value:
    """One that the graph knows nothing of."""
    return Value(value.name, value.type, value.constant)
