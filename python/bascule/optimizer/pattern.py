# SPDX-License-Identifier: Apache-2.0
"""Patterns over nodes, and the matcher.

A pattern is written like the expression it finds: ``op.Add(op.MatMul(x, w), b)``, with variables
from `values`, numbers for constants, and attributes that must have the given value (a missing
attribute counts as its schema default). The operands of commutative operators match in both orders.
A value inside the pattern may have no reader outside of it, unless it says ``shared(...)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any, Union

import numpy as np
import onnx.defs
import onnx.helper

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Node, Value

COMMUTATIVE = frozenset(
    [
        "Add",
        "And",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Equal",
        "Max",
        "Min",
        "Mul",
        "Or",
        "Sum",
        "Xor",
    ]
)
_UNIFORM_LIMIT = 1 << 16
"""Constants with more elements are never read only to see whether all are equal."""

Number = Union[int, float]
Operand = Union["Pattern", Number, None, EllipsisType]


class Pattern:
    """Something that a value can match. `solve` yields once for each way to match."""

    def may_match(self, value: Value | None) -> bool:
        """False only where `solve` finds nothing; a look at the value and what makes it."""
        return value is not None

    def solve(self, value: Value | None, bindings: Bindings) -> Iterator[None]:
        raise NotImplementedError


class Variable(Pattern):
    """Any value that is present; the same value at each place where the variable stands."""

    def __init__(self, name: str, accepts: Callable[[Value], bool] | None = None) -> None:
        self.name = name
        self._accepts = accepts

    def solve(self, value: Value | None, bindings: Bindings) -> Iterator[None]:
        if value is None or (self._accepts is not None and not self._accepts(value)):
            return
        yield from bindings.bind(self, value)

    def __repr__(self) -> str:
        return self.name


class _Optional(Pattern):
    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern

    def may_match(self, value: Value | None) -> bool:
        return value is None or self._pattern.may_match(value)

    def solve(self, value: Value | None, bindings: Bindings) -> Iterator[None]:
        if value is None:
            yield
        else:
            yield from self._pattern.solve(value, bindings)


class _Const(Pattern):
    """A constant whose elements all equal a number."""

    def __init__(self, number: Number, uniform: bool) -> None:
        self._number = number
        self.uniform = uniform

    def may_match(self, value: Value | None) -> bool:
        return value is not None and value.constant is not None

    def solve(self, value: Value | None, bindings: Bindings) -> Iterator[None]:
        if value is None:
            return
        constant = constant_of(value)
        if constant is None or (constant.size != 1 and not self.uniform):
            return
        found = uniform_value(constant)
        if found is not None and _is_close(found, self._number, constant.dtype):
            yield from bindings.bind(self, value)


class _AnyOf(Pattern):
    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns

    def may_match(self, value: Value | None) -> bool:
        return any(pattern.may_match(value) for pattern in self.patterns)

    def solve(self, value: Value | None, bindings: Bindings) -> Iterator[None]:
        for pattern in self.patterns:
            for _ in pattern.solve(value, bindings):
                yield from bindings.bind(self, value)


class _Output(Pattern):
    """Output `index` of a node."""

    def __init__(self, operation: Operation, index: int) -> None:
        self.operation = operation
        self.index = index

    def may_match(self, value: Value | None) -> bool:
        return self.operation.may_match(value)

    def solve(self, value: Value | None, bindings: Bindings) -> Iterator[None]:
        node = None if value is None else value.producer
        if node is None or self.index >= len(node.outputs) or node.outputs[self.index] is not value:
            return
        for _ in self.operation.solve_node(node, bindings):
            yield from bindings.bind(self, value)


class Operation(Pattern):
    """A node of one of `op_types`; as an operand of another pattern its first output."""

    def __init__(
        self,
        op_types: tuple[str, ...],
        domain: str,
        inputs: tuple[Operand, ...],
        attributes: dict[str, Any],
        outputs: int,
    ) -> None:
        self.op_types = op_types
        self.domain = domain
        self.open_ended = bool(inputs) and inputs[-1] is ...
        operands = inputs[:-1] if self.open_ended else inputs
        self.inputs = tuple(_as_pattern(operand) for operand in operands)
        self.attributes = attributes
        self.outputs = outputs
        self.shared = False
        self._has_numbers = any(isinstance(pattern, _Const) for pattern in self.inputs)
        self._wanted = [(i, each) for i, each in enumerate(self.inputs) if each is not None]

    def __getitem__(self, index: int) -> Pattern:
        """Output `index` of this node, to stand as an operand of another pattern."""
        return _Output(self, index)

    def may_match(self, value: Value | None) -> bool:
        node = None if value is None else value.producer
        return node is not None and node.op_type in self.op_types

    def solve(self, value: Value | None, bindings: Bindings) -> Iterator[None]:
        if value is None or value.producer is None or value.producer.outputs[0] is not value:
            return
        yield from self.solve_node(value.producer, bindings)

    def solve_node(self, node: Node, bindings: Bindings) -> Iterator[None]:
        if node.op_type not in self.op_types or node.domain != self.domain:
            return
        if node.graph is not bindings.root.graph:
            return  # work is not moved into the body of a loop
        if self in bindings:
            if bindings[self] is node:
                yield
            return
        present = len(node.inputs)
        while present and node.inputs[present - 1] is None:
            present -= 1
        if present > len(self.inputs) and not self.open_ended:
            return
        if any(not output.is_unused for output in node.outputs[self.outputs :]):
            return
        inputs = [node.input(index) for index in range(len(self.inputs))]
        orders = [inputs] if self._may_take(inputs) else []
        if len(inputs) == 2 and node.op_type in COMMUTATIVE and inputs[0] is not inputs[1]:
            inputs = inputs[::-1]
            if self._may_take(inputs):
                orders.append(inputs)
        if not orders:
            return
        if not all(_attribute_matches(node, k, wanted) for k, wanted in self.attributes.items()):
            return
        for _ in bindings.bind(self, node):
            for order in orders:
                if self._ranks_are_kept(order):
                    yield from self._solve_inputs(0, order, bindings)

    def _may_take(self, inputs: list[Value | None]) -> bool:
        """A quick look, as most rules fit few nodes."""
        return all(pattern.may_match(inputs[i]) for i, pattern in self._wanted)

    def _solve_inputs(
        self, index: int, inputs: list[Value | None], bindings: Bindings
    ) -> Iterator[None]:
        if index == len(inputs):
            yield
            return
        pattern, value = self.inputs[index], inputs[index]
        if pattern is None:
            if value is None:
                yield from self._solve_inputs(index + 1, inputs, bindings)
            return
        for _ in pattern.solve(value, bindings):
            yield from self._solve_inputs(index + 1, inputs, bindings)

    def _ranks_are_kept(self, inputs: list[Value | None]) -> bool:
        """A number in a pattern stands for a factor that does not broadcast the other operand."""
        if not self._has_numbers:
            return True
        numbers, ranks = [], [0]
        for pattern, value in zip(self.inputs, inputs):
            if isinstance(pattern, _Const):
                numbers.append(0 if pattern.uniform or value is None else value.rank or 0)
            elif value is not None and value.rank is not None:
                ranks.append(value.rank)
        return all(rank <= max(ranks) for rank in numbers)


class Bindings(dict[Pattern, Any]):
    """What each pattern object stands for, while one node is tried."""

    def __init__(self, root: Node) -> None:
        self.root = root

    def bind(self, pattern: Pattern, item: Any) -> Iterator[None]:
        """Yield once with `pattern` bound to `item`; not at all if it stands for another one."""
        if pattern in self:
            if self[pattern] is item:
                yield
            return
        self[pattern] = item
        yield
        del self[pattern]

    def are_private(self) -> bool:
        """True when no value inside the match is read outside of it."""
        nodes = {id(item) for item in self.values() if isinstance(item, Node)}
        for pattern, node in self.items():
            if not isinstance(node, Node) or node is self.root:
                continue
            if isinstance(pattern, Operation) and pattern.shared:
                continue
            for output in node.outputs:
                if output.output_count or any(id(use.node) not in nodes for use in output.uses):
                    return False
        return True


class OperationMaker:
    """``op.Add(a, b)``, ``op["Add", "Sub"](a, b)``: patterns for nodes of one domain.

    Keywords are attributes: a value, or a predicate of the attribute's value. A last operand
    ``...`` lets any further inputs be. `outputs` is how many of the outputs may have readers.
    """

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def __getitem__(self, op_types: str | tuple[str, ...]) -> Callable[..., Operation]:
        names = (op_types,) if isinstance(op_types, str) else op_types

        def make(*inputs: Operand, outputs: int = 1, **attributes: Any) -> Operation:
            return Operation(names, self._domain, inputs, attributes, outputs)

        return make

    def __getattr__(self, op_type: str) -> Callable[..., Operation]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)
        return self[op_type]


op = OperationMaker(ONNX_DOMAIN)
fused = OperationMaker(FUSED_DOMAIN)


def values(*names: str) -> tuple[Variable, ...]:
    """Variables that match any value."""
    return tuple(Variable(name) for name in names)


def constants(*names: str) -> tuple[Variable, ...]:
    """Variables that match only constants that a caller cannot override."""
    return tuple(Variable(name, lambda value: constant_of(value) is not None) for name in names)


def const(number: Number, *, uniform: bool = False) -> Pattern:
    """A one-element constant that is `number`; with `uniform` a larger one of equal elements too.

    Where the constant's type has `number` exactly, nothing else matches; otherwise what its
    precision cannot tell from it. A uniform constant may broadcast: look at the shapes.
    """
    return _Const(number, uniform)


def any_of(*patterns: Pattern) -> Pattern:
    """The first of these that matches."""
    return _AnyOf(patterns)


def optional(pattern: Pattern) -> Pattern:
    """`pattern`, or an input that is left out; a variable in it is then not bound."""
    return _Optional(pattern)


def shared(operation: Operation) -> Operation:
    """`operation`, whose outputs may have readers outside of the match."""
    operation.shared = True
    return operation


def roots(pattern: Pattern) -> list[Operation]:
    """The operations that the root of a rule's pattern can be."""
    if isinstance(pattern, _AnyOf):
        return [root for each in pattern.patterns for root in roots(each)]
    if isinstance(pattern, Operation):
        return [pattern]
    raise TypeError("the root of a rule's pattern is an operation")


def find_matches(pattern: Operation, node: Node) -> Iterator[Bindings]:
    """Each way in which `pattern` matches with `node` as its root."""
    bindings = Bindings(node)
    for _ in pattern.solve_node(node, bindings):
        if bindings.are_private():
            yield bindings


def constant_of(value: Value | None) -> Constant | None:
    """The constant that `value` always is; None for the default of an input."""
    if value is None or value.constant is None:
        return None
    owner = value.owner
    if owner is not None and any(value is each for each in owner.inputs):
        return None
    return value.constant


def uniform_value(constant: Constant) -> Any:
    """The element that all elements equal (a Python number), or None."""
    if constant.size == 0 or constant.size > _UNIFORM_LIMIT or constant.strings is not None:
        return None
    array = constant.numpy().reshape(-1)
    first = array[0]
    if constant.size > 1 and not (array == first).all():
        return None
    if constant.size > 1 and first == 0 and constant.dtype.is_float:
        signs = np.signbit(array.astype(np.float64))
        if signs.any() and not signs.all():
            return None
    return first.item()


def _is_close(found: Any, number: Number, dtype: DataType) -> bool:
    if isinstance(found, (bool, complex)):
        return bool(found == number)
    if found == number:
        return number != 0 or math.copysign(1, found) == math.copysign(1, number)
    if not dtype.is_float or float(np.asarray(number).astype(dtype.numpy)) == number:
        return False
    relative = {DataType.FLOAT16: 2e-3, DataType.BFLOAT16: 1.6e-2}.get(dtype, 1e-5)
    return abs(float(found) - number) <= relative * abs(number)


def _as_pattern(operand: Operand) -> Pattern | None:
    if operand is None or isinstance(operand, Pattern):
        return operand
    if isinstance(operand, (int, float)):
        return const(operand)
    raise TypeError(f"{operand!r} is not a pattern")


def _attribute_matches(node: Node, name: str, wanted: Any) -> bool:
    found = attribute_of(node, name)
    if callable(wanted):
        return bool(wanted(found))
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(found, wanted, rel_tol=1e-6)
    if isinstance(wanted, tuple):
        wanted = list(wanted)
    return bool(found == wanted)


def attribute_of(node: Node, name: str) -> Any:
    """An attribute's value, or the schema's default, or None."""
    if name in node.attributes:
        return node.attributes[name]
    return _defaults(node.domain, node.op_type).get(name)


@functools.cache
def _defaults(domain: str, op_type: str) -> dict[str, Any]:
    try:
        schema = onnx.defs.get_schema(op_type, domain)
    except onnx.defs.SchemaError:
        return {}
    defaults = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            defaults[name] = value.decode() if isinstance(value, bytes) else value
    return defaults
