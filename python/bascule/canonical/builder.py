# SPDX-License-Identifier: Apache-2.0
"""Making newest-form nodes around the node that is being rewritten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from bascule.canonical.types_on_demand import TypeFinder
from bascule.errors import InvalidGraph
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.fixed import fixed_constant
from bascule.ir.graph import ONNX_DOMAIN, Attribute, Graph, Node, Value
from bascule.ir.replaced import replaced_by
from bascule.ir.types import TensorType, Type

INT64_MAX = (1 << 63) - 1

_Builder = TypeVar("_Builder", bound="Builder")


class Builder:
    """Inserts nodes and constants for the rewrite of `node`, whose old version is `version`."""

    def __init__(
        self,
        node: Node,
        version: int,
        graph: Graph | None = None,
        types: TypeFinder | None = None,
    ) -> None:
        """With `graph`, new nodes go to the end of that graph instead of before `node`."""
        assert node.graph is not None
        self.node = node
        self.version = version
        self.types = types if types is not None else TypeFinder()
        self.graph = graph if graph is not None else node.graph
        self._appends = graph is not None

    # --- nested graphs

    def within(self: _Builder, graph: Graph) -> _Builder:
        """A builder that adds to the end of `graph`, for an attribute of a node made here."""
        return type(self)(self.node, self.version, graph=graph, types=self.types)

    def body(self: _Builder, name: str) -> _Builder:
        """A builder of a new graph, whose names are fresh in the whole model."""
        graph = Graph(name)
        graph.parent = self.node
        return self.within(graph)

    def parameter(self, name: str, type: Type | None) -> Value:
        """A new input of the graph that is built."""
        return self.graph.add_input(Value(self.graph.fresh_name(name), type))

    # --- new nodes

    def op(
        self,
        op_type: str,
        *inputs: Value | None,
        outputs: int | Sequence[Value] = 1,
        **attributes: Attribute,
    ) -> Value:
        """Insert a node; returns its first output."""
        node = self._new(op_type, inputs, outputs, attributes)
        if self._appends:
            self.graph.append(node)
        else:
            self.graph.insert_before(self.node, node)
        return node.output

    def ops(
        self, op_type: str, *inputs: Value | None, outputs: int, **attributes: Any
    ) -> list[Value]:
        """Insert a node; returns all its outputs. Attributes that are None are left out."""
        present = {name: value for name, value in attributes.items() if value is not None}
        first = self.op(op_type, *inputs, outputs=outputs, **present)
        assert first.producer is not None
        return first.producer.outputs

    def become(self, op_type: str, *inputs: Value | None, **attributes: Attribute) -> None:
        """Turn the node itself into another call; it keeps its name and its outputs."""
        self.node.replaced = replaced_by(self.node)
        self.node.op_type = op_type
        self.node.domain = ONNX_DOMAIN
        self.node.set_inputs(inputs)
        self.node.attributes = attributes

    def convert_output(
        self, index: int, op_type: str, *inputs: Value | None, **attributes: Attribute
    ) -> None:
        """Send an output of the node through `op_type`, with more `inputs`, to its readers."""
        old = self.node.outputs[index]
        new = Value(self.graph.fresh_name(f"{old.name}_before_{op_type}"))
        new.producer = self.node
        self.node.outputs[index] = new
        self.graph.insert_after(self.node, self._new(op_type, (new, *inputs), [old], attributes))

    def through_double(self) -> None:
        """Compute in float64 what used to be defined for integers, if the input is one."""
        x = self.node.inputs[0]
        if x is None or x.dtype is None or not x.dtype.is_integer:
            return
        self.node.set_input(0, self.op("Cast", x, to=int(DataType.DOUBLE)))
        self.convert_output(0, "Cast", to=int(x.dtype))

    def drop_outputs(self, count: int) -> list[Value]:
        """Leave the node `count` outputs; returns the others, which now need a new producer."""
        dropped = self.node.outputs[count:]
        self.node.outputs = self.node.outputs[:count]
        return dropped

    def _new(
        self,
        op_type: str,
        inputs: Iterable[Value | None],
        outputs: int | Sequence[Value],
        attributes: dict[str, Attribute],
    ) -> Node:
        name = f"{self.node.name}/{op_type}" if self.node.name else ""
        node = Node(op_type, inputs, outputs, attributes, name=name)
        node.doc, node.metadata = self.node.doc, dict(self.node.metadata)
        node.replaced = replaced_by(self.node)
        return node

    # --- constants

    def constant(self, array: np.ndarray[Any, Any] | np.generic | Constant) -> Value:
        data = array if isinstance(array, Constant) else np.asarray(array)
        return self.graph.constant(data, f"{self.node.name or self.node.op_type}_constant")

    def ints(self, *values: int) -> Value:
        """An int64 vector."""
        return self.constant(np.array(values, dtype=np.int64))

    def int_scalar(self, value: int) -> Value:
        return self.constant(np.array(value, dtype=np.int64))

    def floats(self, *values: float) -> Value:
        """A float32 vector."""
        return self.constant(np.array(values, dtype=np.float32))

    def like(self, number: float | np.ndarray[Any, Any], reference: Value) -> Value:
        """A constant with the element type of `reference`, even if that is not known yet."""
        array = np.array(number, dtype=np.float32)
        if reference.dtype is None:
            return self.op("CastLike", self.constant(array), reference)
        with np.errstate(over="ignore"):
            return self.constant(array.astype(reference.dtype.numpy))

    # --- types and shapes, as constants where they are known

    def cast(self, value: Value, dtype: DataType) -> Value:
        if value.dtype is dtype:
            return value
        cast = self.op("Cast", value, to=int(dtype))
        cast.type = TensorType(dtype, value.shape)
        return cast

    def typed(self, value: Value) -> Value:
        """`value`, with its type found as far as that can be."""
        self.types.find(value)
        return value

    def rank_of(self, value: Value, otherwise: int) -> int:
        """The rank, or `otherwise` when it cannot be found."""
        rank = self.typed(value).rank
        return otherwise if rank is None else rank

    def known_dim(self, value: Value, axis: int) -> int | None:
        """One size, when it is a known number."""
        shape = self.typed(value).shape
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        dim = shape[axis]
        return dim if isinstance(dim, int) else None

    def dim(self, value: Value, axis: int) -> Value:
        """One size of `value`, as an int64 vector of one element."""
        known = self.known_dim(value, axis)
        if known is not None:
            return self.ints(known)
        if axis == -1:
            return self.op("Shape", value, start=-1)
        return self.op("Shape", value, start=axis, end=axis + 1)

    def shape(self, value: Value) -> Value:
        """The shape as an int64 vector."""
        if value.static_shape is not None:
            return self.ints(*value.static_shape)
        return self.op("Shape", value)

    def rank(self, value: Value) -> Value:
        """The rank as an int64 scalar."""
        if value.rank is not None:
            return self.int_scalar(value.rank)
        return self.op("Size", self.op("Shape", value))

    def axes_from(self, start: int, value: Value) -> Value:
        """The axes of `value` from `start` on, as an int64 vector."""
        if value.rank is not None:
            return self.ints(*range(start, value.rank))
        return self.op("Range", self.int_scalar(start), self.rank(value), self.int_scalar(1))

    def ones(self, count: Value) -> Value:
        """An int64 vector of as many ones as the int64 scalar says, none if it is negative."""
        length = self.op("Max", self.op("Unsqueeze", count, self.ints(0)), self.ints(0))
        one = Constant.from_numpy(np.ones(1, dtype=np.int64))
        return self.op("ConstantOfShape", length, value=one)

    def as_scalar(self, value: Value) -> Value:
        """A tensor of one element, brought to rank 0."""
        return value if value.rank == 0 else self.op("Reshape", value, self.ints())

    def as_vector(self, value: Value) -> Value:
        """A tensor of any shape, brought to rank 1."""
        if value.rank == 0:
            return self.op("Unsqueeze", value, self.ints(0))
        return value if value.rank == 1 else self.op("Reshape", value, self.ints(-1))

    # --- errors

    def invalid(self, problem: str) -> InvalidGraph:
        """The error to raise when the old form makes no sense."""
        return invalid_node(self.node, self.version, problem)


def invalid_node(node: Node, version: int, problem: str) -> InvalidGraph:
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    name = node.name or (node.outputs[0].name if node.outputs else "")
    return InvalidGraph(f"{operator} version {version}: {problem}", node=name, op=node.op_type)


def known_constant(value: Value | None) -> np.ndarray[Any, Any] | None:
    """The elements of a value that no caller can replace, else None."""
    constant = None if value is None else fixed_constant(value)
    return None if constant is None else constant.numpy()
