# SPDX-License-Identifier: Apache-2.0
"""Hand a graph, nested graphs included, to the native compiler."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from bascule import errors
from bascule.ir.constant import Constant
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from bascule.native import _native
from bascule.providers.cpu.choice import (
    ALTERNATIVE,
    FLOAT16_SUMS,
    THREADS,
    UNPACKED,
    WHOLE_PRODUCTS,
    Choice,
)
from bascule.providers.cpu.host import host_function

# ValueKind of csrc/core/value.h.
_TENSOR, _SEQUENCE, _MAP, _SPARSE = 1, 2, 3, 4

# Nested graphs hand their captured values to the node in this order.
_SUBGRAPHS = ("then_branch", "else_branch", "body")


class GraphLowering:
    """Builds the native form of one graph; `indices` gives the number of each node in it."""

    def __init__(self, graph: Graph, captures: Sequence[Value] = ()) -> None:
        self.builder = _native.GraphBuilder(graph.name)
        self.indices: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        for value in graph.inputs:
            self.builder.input(self._number(value, constant=False))
        for value in captures:
            self.builder.capture(self._number(value))
        for node in graph:
            self.indices[id(node)] = self._add(node)
        for value in graph.outputs:
            self.builder.output(self._number(value))

    def _number(self, value: Value, constant: bool = True) -> int:
        """The native number of a value, which is added when it is new."""
        number = self._numbers.get(id(value))
        if number is None:
            kind, optional, dtype = _describe(value.type)
            number = self.builder.value(value.name, kind, optional, dtype, _sizes(value))
            self._numbers[id(value)] = number
            if value.constant is not None and constant:
                data = value.constant
                buffer: Any = data.strings if data.strings is not None else data.raw
                self.builder.constant(number, list(data.shape), buffer, data.mapped)
        return number

    def _add(self, node: Node) -> int:
        inputs = [-1 if v is None else self._number(v) for v in node.inputs]
        attributes: dict[str, Any] = {}
        host = host_function(node)
        if host is not None:
            if isinstance(host, _native.HostOperator):  # a function has its attributes already
                attributes = {k: native_attribute(node, k, v) for k, v in node.attributes.items()}
            return self._append(node, inputs, attributes, host)
        nested = [key for key, value in node.attributes.items() if isinstance(value, Graph)]
        for key, value in node.attributes.items():
            if key not in nested:
                attributes[key] = native_attribute(node, key, value)
        choice = Choice.of(node)
        if choice.alternative:
            attributes[ALTERNATIVE] = choice.alternative
        if choice.threads:
            attributes[THREADS] = choice.threads
        for flag in (FLOAT16_SUMS, UNPACKED, WHOLE_PRODUCTS):
            if flag in node.metadata:
                attributes[flag] = 1
        order = {name: position for position, name in enumerate(_SUBGRAPHS)}
        for key in sorted(nested, key=lambda k: (order.get(k, len(order)), k)):
            graph = node.attributes[key]
            captures = [v for v in graph.captures() if v.constant is None]
            attributes[key] = GraphLowering(graph, captures).builder
            inputs.extend(self._number(v) for v in captures)
        return self._append(node, inputs, attributes)

    def _append(
        self, node: Node, inputs: list[int], attributes: dict[str, Any], host: Any = None
    ) -> int:
        outputs = [-1 if v.is_unused else self._number(v) for v in node.outputs]
        return int(
            self.builder.node(
                node.op_type, node.domain, node.name, inputs, outputs, attributes, host
            )
        )

    def kernel_of(self, node: Node) -> tuple[str | None, str]:
        """(name of the kernel, "") or (None, the reasons of every kernel that was asked)."""
        found: tuple[str | None, str] = self.builder.kernel_of(self.indices[id(node)])
        return found

    def alternatives_of(self, node: Node, threads: int) -> list[str]:
        """Names of other ways in which the node's kernel could compute it."""
        found: list[str] = self.builder.alternatives_of(self.indices[id(node)], threads)
        return found


def _describe(type: Type | None) -> tuple[int, bool, int]:
    """(ValueKind, whether it may be nothing, element type)."""
    if isinstance(type, TensorType):
        return _TENSOR, False, int(type.dtype)
    if isinstance(type, SparseTensorType):
        return _SPARSE, False, int(type.dtype)
    if isinstance(type, SequenceType):
        return _SEQUENCE, False, _describe(type.element)[2]
    if isinstance(type, MapType):
        return _MAP, False, _describe(type.value)[2]
    if isinstance(type, OptionalType):
        kind, _, dtype = _describe(type.element)
        return kind, True, dtype
    return _TENSOR, False, 0


def _sizes(value: Value) -> list[int] | None:
    if value.shape is None:
        return None
    return [dim if isinstance(dim, int) else -1 for dim in value.shape]


def native_constant(constant: Constant) -> Any:
    """A native tensor over the constant's memory."""
    buffer: Any = constant.strings if constant.strings is not None else constant.raw
    return _native.tensor(int(constant.dtype), list(constant.shape), buffer)


def native_attribute(node: Node, key: str, value: Any) -> Any:
    """An attribute as the native compiler takes it."""
    if isinstance(value, str):
        _require_utf8(node, key, value)
        return value
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Constant):
        return native_constant(value)
    if isinstance(value, (TensorType, SequenceType, OptionalType, SparseTensorType, MapType)):
        return str(value)
    if isinstance(value, array):
        return value
    if isinstance(value, list):
        if value and isinstance(value[0], str):  # all items are of one kind
            _require_utf8(node, key, "".join(value))
            return value
        if not value or isinstance(value[0], (int, float)):
            return value
        raise errors.NotImplemented(
            f"{node.op_type} node '{node.name}': attribute '{key}' is a list of "
            f"{type(value[0]).__name__}, which no kernel takes"
        )
    raise errors.InvalidGraph(
        f"{node.op_type} node '{node.name}': attribute '{key}' has an unexpected value {value!r}"
    )


def _require_utf8(node: Node, key: str, text: str) -> None:
    """Refuse bytes that are no UTF-8, which stand in texts as surrogates: kernels take none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[max(error.start - 10, 0) : error.end + 10]
        raise errors.InvalidGraph(
            f"{node.op_type} node '{node.name}': attribute '{key}' is no UTF-8, near {near!r}"
        ) from None
