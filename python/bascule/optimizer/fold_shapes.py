# SPDX-License-Identifier: Apache-2.0
"""Replace arithmetic on shapes by constants, or by equal arithmetic that is there already.

Before:
    g (float[N,S,24] x) => (float[N,S,3,8] y, float[M,24] z, int64[1] w) <
        int64 zero = {0}, int64 one = {1}, int64[1] axis = {0}, int64[1] heads = {3},
        int64[1] rest = {-1}, int64[1] last = {24}
    > {
        shape = Shape(x)
        n = Gather(shape, zero)
        s = Gather(shape, one)
        n1 = Unsqueeze(n, axis)
        s1 = Unsqueeze(s, axis)
        sizes = Concat<axis = 0>(n1, s1, heads, rest)
        y = Reshape(x, sizes)
        rows = Mul(n1, s1)
        sizes2 = Concat<axis = 0>(rows, last)
        z = Reshape(x, sizes2)
        w = Shape<start = 2>(x)
    }
After:
    g (float[N,S,24] x) => (float[N,S,3,8] y, float[M,24] z, int64[1] w) <
        int64[4] sizes = {0, 0, 3, 8}, int64[2] sizes2 = {-1, 24}, int64[1] width = {24}
    > {
        y = Reshape(x, sizes)
        z = Reshape(x, sizes2)
        w = Identity(width)
    }
Before:
    g (float[N,1] x, float[N,4] like) => (float[N,1] y, int64[1] z) <
        int64[1] one = {1}, int64[2] ones = {1, 1}, int64[2] minus = {-1, -1}, int64[1] zero = {0}
    > {
        n = Shape<start = 0, end = 1>(like)
        sizes = Concat<axis = 0>(n, one)
        keep = Equal(sizes, minus)
        wanted = Where(keep, ones, sizes)
        t = Expand(x, wanted)
        y = Neg(t)
        again = Shape<start = 0, end = 1>(x)
        both = Add(n, again)
        z = Add(both, both)
    }
After:
    g (float[N,1] x, float[N,4] like) => (float[N,1] y, int64[1] z) {
        y = Neg(x)
        n = Shape<start = 0, end = 1>(like)
        both = Add(n, n)
        z = Add(both, both)
    }
Keeps:
    g (float[N,S,24] x, int64[1] a, int64[1] b) => (float[A,B,4] y) <int64[1] four = {4}> {
        sizes = Concat<axis = 0>(a, b, four)
        y = Reshape(x, sizes)
    }
Keeps:
    g (float[N] x, float[M,2] like) => (float[A] y) {
        sizes = Shape<start = 0, end = 1>(like)
        y = Expand(x, sizes)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.optimizer.context import Context
from bascule.optimizer.expressions import Element, divide, is_size, multiply, subtract
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.rewrite import Builder, may_stand_for, replace
from bascule.optimizer.symbolic import Elements, Evaluator, dims_of, refined


@graph_pass
def fold_shapes(graph: Graph, context: Context) -> int:
    return _fold(graph, Evaluator())


def _fold(graph: Graph, known: Evaluator) -> int:
    count = 0
    first: dict[tuple[object, Elements], Value] = {}
    for node in graph:
        for inner in node.subgraphs:
            count += _fold(inner, known)
        known.visit(node)
        if node.is_op("Reshape"):
            count += _fold_reshape(node, known)
        elif node.is_op("Expand"):
            count += _fold_expand(node, known)
        elif node.is_op("Slice"):
            count += _fold_slice(node, known)
        elif node.is_op("Range"):
            _refine_range(node, known)
        if node.graph is graph and len(node.outputs) == 1:
            count += _fold_elements(node, known, first)
    return count


def _fold_elements(
    node: Node, known: Evaluator, first: dict[tuple[object, Elements], Value]
) -> int:
    """Replace a value by a constant, or by an earlier value that is certainly equal."""
    value = node.output
    elements = known.elements(value)
    if elements is None or value.dtype is None or node.is_op("Identity"):
        return 0
    build = Builder(node)
    numbers = elements.numbers
    if numbers is not None:
        shape = () if elements.rank == 0 else (len(numbers),)
        array = np.array(numbers, dtype=value.dtype.numpy).reshape(shape)
        replace(node, [build.constant(array, value.name)], build)
        return 1
    equal = first.setdefault((value.dtype, elements), value)
    if equal.graph is None:  # removed meanwhile
        first[value.dtype, elements] = equal = value
    if equal is value or not may_stand_for(equal, value):
        return 0
    replace(node, [equal], build)
    return 1


def _fold_reshape(node: Node, known: Evaluator) -> int:
    """Give a Reshape a constant shape if at most one size is not known."""
    x, shape = node.inputs[0], known.elements(node.input(1))
    dims = None if x is None else dims_of(x)
    if x is None or shape is None or dims is None:
        return 0
    copies_zero = not node.attribute("allowzero", 0)
    targets = _targets(dims, shape.items, copies_zero)
    if targets is None:
        return 0
    y = node.output
    if isinstance(y.type, TensorType) and y.rank == len(targets):
        y.type = refined(y.type, targets)
    if shape.numbers is not None and (-1 not in shape.numbers or 0 in targets):
        return 0
    sizes = _sizes(dims, targets)
    if sizes is None or (copies_zero and shape.numbers == sizes):
        return 0
    node.set_input(1, Builder(node).constant(np.array(sizes, dtype=np.int64), "shape"))
    node.attributes.pop("allowzero", None)
    return 1


def _targets(
    dims: tuple[Element, ...], shape: tuple[Element, ...], copies_zero: bool
) -> list[Element] | None:
    """The sizes after a Reshape of `dims`, with 0 and -1 worked out; None if -1 is not certain."""
    targets: list[Element] = []
    for axis, size in enumerate(shape):
        if size == 0 and copies_zero:
            if axis >= len(dims):
                return None
            size = dims[axis]
        targets.append(size)
    if -1 in shape:
        rest = _rest(dims, [size for size in targets if size != -1])
        if rest is None or 0 in dims:
            return None
        targets[shape.index(-1)] = rest
    return targets


def _rest(dims: tuple[Element, ...], others: list[Element]) -> Element | None:
    """The size that -1 stands for, beside `others`."""
    dividend, divisor = list(dims), []
    for size in others:
        if size in dividend:
            dividend.remove(size)
        else:
            divisor.append(size)
    return divide(multiply(*dividend), multiply(*divisor))


def _sizes(dims: tuple[Element, ...], targets: list[Element]) -> list[int] | None:
    """A constant shape that gives `targets`; None if more than one of them is not known."""
    sizes: list[int] = []
    for axis, target in enumerate(targets):
        if isinstance(target, int) and target != 0:
            sizes.append(target)
        elif axis < len(dims) and dims[axis] == target:
            sizes.append(0)
        else:
            sizes.append(-1)
    return sizes if sizes.count(-1) <= 1 and not (-1 in sizes and 0 in targets) else None


def _fold_expand(node: Node, known: Evaluator) -> int:
    """Remove an Expand to sizes that its input certainly has."""
    x, shape = node.inputs[0], known.elements(node.input(1))
    dims = None if x is None else dims_of(x)
    if x is None or shape is None or dims is None:
        return 0
    rank = max(len(dims), len(shape.items))
    old = (1,) * (rank - len(dims)) + dims
    new = (1,) * (rank - len(shape.items)) + shape.items
    y = node.output
    if isinstance(y.type, TensorType) and y.rank in (rank, None):
        y.type = refined(y.type, [_expanded(a, b) for a, b in zip(old, new)])
    if rank > len(dims) or not all(b in (1, a) for a, b in zip(old, new)):
        return 0
    if not may_stand_for(x, y):
        return 0
    replace(node, [x], Builder(node))
    return 1


def _expanded(old: Element, new: Element) -> Element | None:
    """The size after an Expand, None where that depends: a size known by name may be 1."""
    if old == 1:
        return new
    return old if isinstance(old, int) or new in (1, old) else None


def _fold_slice(node: Node, known: Evaluator) -> int:
    """Remove a Slice from 0 to sizes that its input certainly has."""
    x = node.inputs[0]
    dims = None if x is None else dims_of(x)
    starts, ends, axes, steps = (known.elements(node.input(index)) for index in range(1, 5))
    if x is None or dims is None or starts is None or ends is None:
        return 0
    if any(node.input(i) is not None and e is None for i, e in ((3, axes), (4, steps))):
        return 0
    chosen = list(range(len(starts.items))) if axes is None else axes.numbers
    if chosen is None or (steps is not None and set(steps.items) != {1}):
        return 0
    if set(starts.items) != {0} or not may_stand_for(x, node.output):
        return 0
    for axis, end in zip(chosen, ends.items):
        if end != dims[axis] and not (isinstance(end, int) and end >= 2**31 - 1):
            return 0
    replace(node, [x], Builder(node))
    return 1


def _refine_range(node: Node, known: Evaluator) -> None:
    """A Range by steps of 1 has as many elements as its ends lie apart."""
    start, end, step = (known.elements(value) for value in node.inputs)
    if start is None or end is None or step is None or step.items != (1,):
        return
    if isinstance(node.output.type, TensorType):
        count = subtract(end.items[0], start.items[0])
        if is_size(count):
            node.output.type = refined(node.output.type, [count])
