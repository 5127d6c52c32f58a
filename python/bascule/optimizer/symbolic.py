# SPDX-License-Identifier: Apache-2.0
"""What the integers in shape arithmetic are, when sizes are only known by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType
from bascule.optimizer.expressions import (
    Element,
    add,
    atom,
    divide,
    is_size,
    multiply,
    name_of,
    size,
    subtract,
)
from bascule.optimizer.pattern import attribute_of, constant_of
from bascule.optimizer.shapes import certain_shape, integers

_LIMIT = 64
"""Longer lists are not shapes."""


class Elements(NamedTuple):
    """A tensor of rank 0 or 1, element by element."""

    items: tuple[Element, ...]
    rank: int

    @property
    def numbers(self) -> list[int] | None:
        """The elements when all are numbers."""
        found = [item for item in self.items if isinstance(item, int)]
        return found if len(found) == len(self.items) else None


def dims_of(value: Value) -> tuple[Element, ...] | None:
    """The sizes of `value`."""
    shape = certain_shape(value)
    if shape is None:
        return None
    if value.is_graph_output and value.producer is not None and value.producer.is_op("Concat"):
        joined = _joined_dims(value.producer)
        if joined is not None:
            return joined
    dims: list[Element] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, str):
            dims.append(size(dim))
        else:
            dims.append(dim if dim is not None else atom(("size", value, axis)))
    return tuple(dims)


def _joined_dims(node: Node) -> tuple[Element, ...] | None:
    """The sizes of a Concat, such as a cache that is an output too."""
    parts = [None if value is None else dims_of(value) for value in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({len(part) for part in known}) != 1:
        return None
    axis = node.attributes["axis"] % len(known[0])
    return (
        *known[0][:axis],
        add(*(part[axis] for part in known)),
        *known[0][axis + 1 :],
    )


class Evaluator:
    """Finds the elements of values; remembers them, so one evaluator sees one state of a graph."""

    def __init__(self) -> None:
        self._known: dict[Value, Elements | None] = {}

    def elements(self, value: Value | None) -> Elements | None:
        """The elements of an integer value of rank 0 or 1, if it is a short one."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = _constant_elements(value)
        return self._known[value]

    def visit(self, node: Node) -> None:
        """Evaluate `node`; its inputs must have been visited."""
        if len(node.outputs) != 1 or node.domain or not _may_be_shape(node.output):
            return
        evaluate = _OPERATORS.get(node.op_type)
        found = evaluate(node, self) if evaluate is not None else None
        if found is None or _wraps_around(found, node.output.dtype):
            found = _opaque(node.output)
        self._known[node.output] = found


def _wraps_around(elements: Elements, dtype: DataType | None) -> bool:
    limit = 1 << (31 if dtype is DataType.INT32 else 63)
    return any(isinstance(each, int) and not -limit <= each < limit for each in elements.items)


def _may_be_shape(value: Value) -> bool:
    if value.dtype not in (DataType.INT64, DataType.INT32, DataType.BOOL, None):
        return False
    return value.rank in (0, 1, None)


def _constant_elements(value: Value) -> Elements | None:
    constant = constant_of(value)
    if constant is not None:
        is_short = len(constant.shape) <= 1 and constant.size <= _LIMIT
        if is_short and constant.dtype in (DataType.INT64, DataType.INT32, DataType.BOOL):
            items = tuple(int(each) for each in constant.numpy().reshape(-1))
            return Elements(items, len(constant.shape))
        return None
    return _opaque(value)


def _opaque(value: Value) -> Elements | None:
    """Each element an atom of its own."""
    shape = value.static_shape
    if shape is None or len(shape) > 1 or not _may_be_shape(value) or value.dtype is None:
        return None
    count = math.prod(shape)
    if count > _LIMIT:
        return None
    return Elements(tuple(atom(("element", value, i)) for i in range(count)), len(shape))


def _shape(node: Node, known: Evaluator) -> Elements | None:
    source = node.inputs[0]
    dims = None if source is None else dims_of(source)
    if dims is None:
        return None
    return Elements(dims[node.attribute("start", 0) : node.attribute("end")], 1)


def _count(node: Node, known: Evaluator) -> Elements | None:
    source = node.inputs[0]
    dims = None if source is None else dims_of(source)
    return None if dims is None else Elements((multiply(*dims),), 0)


def _gather(node: Node, known: Evaluator) -> Elements | None:
    data, indices = (known.elements(value) for value in node.inputs)
    numbers = None if indices is None else indices.numbers
    if data is None or indices is None or numbers is None or data.rank != 1:
        return None
    if not all(-len(data.items) <= index < len(data.items) for index in numbers):
        return None
    return Elements(tuple(data.items[index] for index in numbers), indices.rank)


def _slice(node: Node, known: Evaluator) -> Elements | None:
    data = known.elements(node.inputs[0])
    bounds = [integers(node.input(index)) for index in range(1, 5)]
    if data is None or data.rank != 1 or bounds[0] is None or bounds[1] is None:
        return None
    if any(found is None and node.input(i + 1) is not None for i, found in enumerate(bounds)):
        return None
    if not bounds[0]:
        return data  # no axis is cut
    step = (bounds[3] or [1])[0]
    start, end = bounds[0][0], bounds[1][0]
    if step < 0:
        return None
    return Elements(data.items[start:end:step], 1)


def _concat(node: Node, known: Evaluator) -> Elements | None:
    items: list[Element] = []
    for value in node.inputs:
        part = known.elements(value)
        if part is None or part.rank != 1:
            return None
        items += part.items
    return Elements(tuple(items), 1) if len(items) <= _LIMIT else None


def _same(node: Node, known: Evaluator) -> Elements | None:
    """Cast, Identity, Squeeze, Unsqueeze, Reshape: the elements stay, the rank may change."""
    data = known.elements(node.inputs[0])
    if data is None:
        return None
    rank = node.output.rank
    if rank is None and node.is_op("Cast", "Identity"):
        rank = data.rank
    if rank is None and node.is_op("Reshape"):
        sizes = integers(node.input(1))
        rank = None if sizes is None else len(sizes)
    if node.is_op("Cast"):
        source = node.inputs[0].dtype if node.inputs[0] is not None else None
        if source is None or not _is_exact_cast(source, attribute_of(node, "to")):
            return None
    return None if rank is None or rank > 1 else Elements(data.items, rank)


def _is_exact_cast(source: DataType, target: int) -> bool:
    """Sizes fit into int32 wherever a model casts them to it."""
    integers = (DataType.INT64, DataType.INT32)
    return source is target or (source in integers and target in integers)


def _elementwise(
    compute: Callable[..., Element | None],
) -> Callable[[Node, Evaluator], Elements | None]:
    def evaluate(node: Node, known: Evaluator) -> Elements | None:
        operands = [known.elements(value) for value in node.inputs]
        found = [each for each in operands if each is not None]
        if not found or len(found) < len(operands):
            return None
        counts = {len(each.items) for each in found} - {1}
        if len(counts) > 1:
            return None
        count = counts.pop() if counts else 1
        columns = [each.items * count if len(each.items) == 1 else each.items for each in found]
        items: list[Element] = []
        for index, row in enumerate(zip(*columns)):
            item = compute(*row)
            items.append(item if item is not None else atom(("element", node.output, index)))
        return Elements(tuple(items), max(each.rank for each in found))

    return evaluate


def _divide(a: Element, b: Element) -> Element | None:
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            return None
        return abs(a) // abs(b) * (1 if (a >= 0) == (b >= 0) else -1)
    return divide(a, b) or atom(("quotient", a, b))


def _modulo(a: Element, b: Element) -> Element | None:
    if isinstance(a, int) and isinstance(b, int):
        return a % b if a >= 0 and b > 0 else None  # the operator has two kinds of signs
    return atom(("rest", a, b))


def _minimum(*elements: Element) -> Element:
    if len(set(elements)) == 1:
        return elements[0]
    numbers = [each for each in elements if isinstance(each, int)]
    if len(numbers) == len(elements):
        return min(numbers)
    return atom(("minimum", *sorted(elements, key=repr)))


def _maximum(*elements: Element) -> Element:
    if len(set(elements)) == 1:
        return elements[0]
    numbers = [each for each in elements if isinstance(each, int)]
    if len(numbers) == len(elements):
        return max(numbers)
    return atom(("maximum", *sorted(elements, key=repr)))


def _equal(a: Element, b: Element) -> Element | None:
    if a == b or (isinstance(a, int) and isinstance(b, int)):
        return int(a == b)
    if (is_size(a) and _is_negative(b)) or (is_size(b) and _is_negative(a)):
        return 0
    return None


def _is_negative(element: Element) -> bool:
    return isinstance(element, int) and element < 0


def _where(condition: Element, a: Element, b: Element) -> Element | None:
    if a == b:
        return a
    return (a if condition else b) if isinstance(condition, int) else None


def _constant_of_shape(node: Node, known: Evaluator) -> Elements | None:
    shape = known.elements(node.inputs[0])
    sizes = None if shape is None else shape.numbers
    fill = node.attribute("value")
    if fill is None or fill.dtype is not DataType.INT64:
        return None
    if sizes is None or len(sizes) > 1 or math.prod(sizes) > _LIMIT:
        return None
    return Elements((int(fill.numpy().reshape(-1)[0]),) * math.prod(sizes), len(sizes))


def _range(node: Node, known: Evaluator) -> Elements | None:
    operands = [known.elements(value) for value in node.inputs]
    numbers = [each.numbers for each in operands if each is not None]
    if len(numbers) < 3 or not all(numbers):
        return None
    start, end, step = (each[0] for each in numbers if each)
    items = range(start, end, step) if step else range(0)
    return Elements(tuple(items), 1) if step and len(items) <= _LIMIT else None


def _product(node: Node, known: Evaluator) -> Elements | None:
    data = known.elements(node.inputs[0])
    if data is None or data.rank != 1 or node.output.rank is None:
        return None
    return Elements((multiply(*data.items),), node.output.rank)


_OPERATORS: dict[str, Callable[[Node, Evaluator], Elements | None]] = {
    "Add": _elementwise(add),
    "Cast": _same,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(_equal),
    "Gather": _gather,
    "Identity": _same,
    "Max": _elementwise(_maximum),
    "Min": _elementwise(_minimum),
    "Mod": _elementwise(_modulo),
    "Mul": _elementwise(multiply),
    "Neg": _elementwise(lambda a: multiply(-1, a)),
    "Range": _range,
    "ReduceProd": _product,
    "Reshape": _same,
    "Shape": _shape,
    "Size": _count,
    "Slice": _slice,
    "Squeeze": _same,
    "Sub": _elementwise(subtract),
    "Unsqueeze": _same,
    "Where": _elementwise(_where),
}


def refined(type: TensorType, dims: Sequence[Element | None]) -> TensorType:
    """`type` with the sizes that it does not know and `dims` does."""
    shape = type.shape if type.shape is not None else (None,) * len(dims)
    return TensorType(
        type.dtype,
        tuple(
            old if isinstance(old, int) or new is None else name_of(new) or old
            for old, new in zip(shape, dims)
        ),
    )
