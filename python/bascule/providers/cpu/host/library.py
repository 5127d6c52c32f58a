# SPDX-License-Identifier: Apache-2.0
"""Types of nodes that a library of operators runs, as its rules give them."""

from __future__ import annotations

from typing import Any

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.ir.types import Dim, TensorType, Type
from bascule.native import _native
from bascule.providers.cpu.lower import native_attribute

_TENSOR = 1
"""ValueKind of csrc/core/value.h."""

_UNKNOWN = -1
_FIRST_NAME = -(1 << 62)
"""Names of sizes are numbers from here downwards: far from what a rule might compute of them."""


class _Sizes:
    """Sizes as numbers: those with a name have one below -1, the same for the same name."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, dim: Dim) -> int:
        if isinstance(dim, int):
            return dim
        if dim is None:
            return _UNKNOWN
        return self._numbers.setdefault(dim, _FIRST_NAME - len(self._numbers))

    def dim(self, number: int) -> Dim:
        if number >= 0:
            return number
        return next((name for name, each in self._numbers.items() if each == number), None)


def library_types(node: Node, operator: Any) -> tuple[Type | None, ...]:
    """What the library's `operator` says of the outputs of `node`.

    Raises:
        InvalidGraph: the node is none of the operator's, or its rule refuses it.
    """
    if any(v is not None and not isinstance(v.type, TensorType) for v in node.inputs):
        return ()  # a later round knows more
    builder = _native.GraphBuilder("types")
    sizes = _Sizes()
    numbers: dict[int, int] = {}
    for value in node.inputs:
        if value is None or id(value) in numbers:
            continue
        assert isinstance(value.type, TensorType)
        shape = None if value.shape is None else [sizes.number(dim) for dim in value.shape]
        number = builder.value(value.name, _TENSOR, False, int(value.type.dtype), shape)
        numbers[id(value)] = number
        constant = value.constant
        if constant is not None and constant.strings is None:
            builder.constant(number, list(constant.shape), constant.raw, constant.mapped)
    outputs = [builder.value(value.name, _TENSOR, False, 0, None) for value in node.outputs]
    inputs = [-1 if value is None else numbers[id(value)] for value in node.inputs]
    attributes = {key: native_attribute(node, key, value) for key, value in node.attributes.items()}
    index = builder.node(
        node.op_type, node.domain, node.name, inputs, outputs, attributes, operator
    )
    found: list[Type | None] = []
    for item in builder.types_of(index):
        dtype, shape = item if item is not None else (0, None)
        dims = None if shape is None else tuple(sizes.dim(number) for number in shape)
        found.append(TensorType(DataType(dtype), dims) if dtype else None)
    return tuple(found)
