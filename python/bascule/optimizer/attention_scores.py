# SPDX-License-Identifier: Apache-2.0
"""Reading the formula of attention backwards: probabilities, masks, scale, query and key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.optimizer.context import Array
from bascule.optimizer.dims import before_reshape, dims_of
from bascule.optimizer.pattern import attribute_of, constant_of, uniform_value
from bascule.optimizer.rewrite import Builder


@dataclass(frozen=True)
class Choice:
    """A boolean mask: where `condition` is not `keeps`, the score is replaced by `number`."""

    condition: Value
    keeps: bool
    number: float


@dataclass(frozen=True)
class Scores:
    """``softcap(scale * query @ key^T) + masks``, where key is still transposed."""

    product: Node
    scale: float = 1.0
    softcap: float = 0.0
    additive: tuple[Value, ...] = ()
    choices: tuple[Choice, ...] = ()
    causal: bool = False


@dataclass(frozen=True)
class Probabilities:
    """``Softmax(scores)`` over the last axis."""

    scores: Value
    softmax: Node
    precision: int | None = field(default=None)
    """The element type that the softmax is computed in, where it is another one."""


def find_probabilities(value: Value, reader: Node) -> Probabilities | None:
    """What `value` is if it is a softmax, behind a guard against NaN or a cast at most."""
    node = _private_producer(value, reader)
    cast: Node | None = None
    while node is not None and node.is_op("Cast", "Where"):
        if node.is_op("Cast"):
            if cast is not None:
                return None
            cast = node
            node = _private_producer(node.input(0), node)
        else:
            node = _behind_guard(node)
    if node is None or not node.is_op("Softmax") or node.output.rank is None:
        return None
    if attribute_of(node, "axis") not in (-1, node.output.rank - 1):
        return None
    scores = node.input(0)
    if scores is None:
        return None
    if cast is None:
        return Probabilities(scores, node)
    wide = _private_producer(scores, node)
    if wide is None or not wide.is_op("Cast") or node.output.dtype != DataType.FLOAT:
        return None
    inner = wide.input(0)
    if inner is None or inner.dtype is None or inner.dtype != cast.output.dtype:
        return None
    return Probabilities(inner, wide, precision=int(DataType.FLOAT))


def find_scores(value: Value, reader: Node) -> Scores | None:
    """What `value` is if it is made of a product, a scale and masks."""
    for found in _read(value, reader, Scores(reader)):
        return found
    return None


def _read(value: Value | None, reader: Node, seen: Scores) -> Iterator[Scores]:
    node = _private_producer(value, reader)
    if node is None:
        return
    unscaled = seen.scale == 1.0 and not seen.softcap
    if node.is_op("MatMul"):
        yield replace(seen, product=node)
    elif node.is_op("Add") and unscaled:
        for scores, mask in zip(node.inputs, reversed(node.inputs)):
            if mask is not None and _covers(scores, mask):
                yield from _read(scores, node, _with_mask(seen, mask))
    elif node.is_op("Where") and unscaled:
        yield from _read_where(node, seen)
    elif node.is_op("Mul", "Div"):
        yield from _read_factor(node, seen)


def _read_where(node: Node, seen: Scores) -> Iterator[Scores]:
    condition = node.input(0)
    for index, keeps in ((1, True), (2, False)):
        scores, masked = node.input(index), node.input(3 - index)
        number = number_of(masked)
        if condition is None or scores is None or number is None or masked is None:
            continue
        if not _covers(scores, condition):
            continue
        array = constant_of(condition)
        if array is not None and _is_causal(array.numpy() == keeps, scores):
            if number <= -1e4:
                yield from _read(scores, node, replace(seen, causal=True))
        elif masked.dtype is not None and number <= lowest(masked.dtype):
            choice = Choice(condition, keeps, number)
            yield from _read(scores, node, replace(seen, choices=(*seen.choices, choice)))


def _read_factor(node: Node, seen: Scores) -> Iterator[Scores]:
    for index in (0, 1) if node.is_op("Mul") else (0,):
        number = number_of(node.input(1 - index))
        if number is None or number == 0 or not np.isfinite(number):
            continue
        factor = number if node.is_op("Mul") else 1 / number
        scores = node.input(index)
        inner = _private_producer(scores, node)
        if inner is not None and inner.is_op("Tanh") and not seen.softcap and seen.scale == 1.0:
            yield from _read(inner.input(0), inner, replace(seen, softcap=factor))
        else:
            yield from _read(scores, node, replace(seen, scale=seen.scale * factor))


def with_softcap_undone(scores: Scores) -> Scores | None:
    """The scale inside of a softcap also divides by the cap; None if it cannot be a softcap."""
    if not scores.softcap:
        return scores
    if scores.softcap < 0:
        return None
    return replace(scores, scale=scores.scale * scores.softcap)


def _with_mask(seen: Scores, mask: Value) -> Scores:
    constant = constant_of(mask)
    if constant is not None and constant.dtype.is_float and constant.size:
        if uniform_value(constant) == 0:
            return seen
        array = constant.numpy()
        zero_or_lowest = ((array == 0) | (array <= lowest(constant.dtype))).all()
        if zero_or_lowest and _is_triangle(array == 0):
            return replace(seen, causal=True)
    elif _is_computed_triangle(mask):
        return replace(seen, causal=True)
    return replace(seen, additive=(*seen.additive, mask))


def without_scale(build: Builder, value: Value | None, scale: float) -> tuple[Value | None, float]:
    """`value` without the constant factors that it is multiplied by, also before a Transpose."""
    value = before_reshape(value)
    while value is not None and value.producer is not None:
        node, source = value.producer, value.producer.input(0)
        if node.is_op("Transpose") and source is not None and _factor(source) is not None:
            inner, scale = without_scale(build, source, scale)
            return build.Transpose(inner, perm=node.attribute("perm"), type=value.type), scale
        found = _factor(value)
        if found is None:
            break
        value, factor = before_reshape(found[0]), found[1]
        scale *= factor
    return value, scale


def _factor(value: Value) -> tuple[Value | None, float] | None:
    """The operand and the number when `value` is their product."""
    node = value.producer
    if node is None or not node.is_op("Mul", "Div"):
        return None
    factor, inner = number_of(node.input(1)), node.input(0)
    if factor is None and node.is_op("Mul"):
        factor, inner = number_of(node.input(0)), node.input(1)
    if not factor:
        return None
    return inner, factor if node.is_op("Mul") else 1 / factor


def _is_computed_triangle(mask: Value) -> bool:
    """``Where(Trilu(ones), 0, -inf)``, also with ``Equal(Trilu(ones), 0)`` the other way round."""
    node = mask.producer
    if node is None or not node.is_op("Where"):
        return False
    chosen, other = number_of(node.input(1)), number_of(node.input(2))
    condition = node.input(0)
    if chosen is None or other is None or condition is None:
        return False
    producer = condition.producer
    if producer is not None and producer.is_op("Equal", "Not"):
        if producer.is_op("Equal") and number_of(producer.input(1)) != 0:
            return False
        condition, chosen, other = producer.input(0), other, chosen
    while condition is not None and condition.producer is not None:
        if not condition.producer.is_op("Cast"):
            break
        condition = condition.producer.input(0)
    triangle = None if condition is None else condition.producer
    if triangle is None or not triangle.is_op("Trilu") or triangle.attribute("upper", 1):
        return False
    if triangle.input(1) is not None and number_of(triangle.input(1)) != 0:
        return False
    dtype = mask.dtype
    source = triangle.input(0)
    return dtype is not None and chosen == 0 and other <= lowest(dtype) and _is_ones(source)


def _is_ones(value: Value | None) -> bool:
    if value is None:
        return False
    constant = constant_of(value)
    if constant is not None:
        return uniform_value(constant) in (1, True)
    node = value.producer
    if node is None:
        return False
    if node.is_op("Expand"):
        return _is_ones(node.input(0))
    if node.is_op("ConstantOfShape"):
        fill = node.attribute("value")
        return fill is not None and uniform_value(fill) in (1, True)
    return False


def lowest(dtype: DataType) -> float:
    """What makes every finite score vanish in this element type."""
    if dtype == DataType.FLOAT16:
        return -6e4
    return -1e30


def _is_triangle(allowed: Array) -> bool:
    if allowed.ndim < 2 or any(size != 1 for size in allowed.shape[:-2]):
        return False
    rows, columns = allowed.shape[-2:]
    triangle = np.tri(rows, columns, dtype=bool)
    return min(rows, columns) > 1 and bool((allowed == triangle).all())


def _is_causal(allowed: Array, scores: Value) -> bool:
    shape = scores.shape
    return _is_triangle(allowed) and shape is not None and tuple(shape[-2:]) == allowed.shape[-2:]


def _covers(scores: Value | None, mask: Value | None) -> bool:
    """True when a mask repeats over the scores, and nothing says that it is larger."""
    if scores is None or mask is None:
        return False
    outer, inner = dims_of(scores), mask.shape
    if outer is None or inner is None or len(inner) > len(outer):
        return False
    tail = outer[len(outer) - len(inner) :]
    for dim, other in zip(inner, tail):
        numbers = isinstance(dim, int) and isinstance(other, int)
        if dim not in (1, other) and (numbers or other == 1):
            return False
    return True


def number_of(value: Value | None) -> float | None:
    """The value of a constant with one element that does not broadcast others."""
    constant = constant_of(value)
    if constant is None or constant.size != 1 or len(constant.shape) > 1:
        return None
    found = uniform_value(constant)
    return float(found) if isinstance(found, (int, float)) else None


def _behind_guard(node: Node) -> Node | None:
    """The producer of x in ``Where(IsNaN(x), 0, x)``."""
    condition, zero, value = (node.input(index) for index in range(3))
    guard = _private_producer(condition, node)
    if guard is None or not guard.is_op("IsNaN") or guard.input(0) is not value:
        return None
    if value is None or number_of(zero) != 0 or value.is_graph_output or len(value.uses) != 2:
        return None
    return value.producer


def _private_producer(value: Value | None, reader: Node) -> Node | None:
    """The node that makes `value`, if only `reader` reads it and they share a graph."""
    if value is None or value.producer is None or value.only_use() is not reader:
        return None
    return value.producer if value.producer.graph is reader.graph else None
