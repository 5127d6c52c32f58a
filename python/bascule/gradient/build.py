# SPDX-License-Identifier: Apache-2.0
"""Formulas over values: what the rules of the gradient are written in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Union

import numpy as np

from bascule.gradient.registry import Refusal
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import ONNX_DOMAIN, Attribute, Graph, Node, Value
from bascule.ir.types import TensorType

Operand = Union["Term", Value, float, None]
"""What goes into a node. A number becomes a constant, of the type of what it meets there."""

_BOOLEAN = frozenset(
    ["And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not"]
)
_INTEGER = frozenset(["NonZero", "Shape", "Size"])
_FOLDED: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Sub": np.subtract,
}


class Term:
    """A value in a formula: arithmetic on it, and comparing it, makes nodes."""

    __slots__ = ("build", "value")

    def __init__(self, value: Value, build: Builder) -> None:
        self.value = value
        self.build = build

    @property
    def dtype(self) -> DataType:
        dtype = self.value.dtype
        if dtype is None:
            raise Refusal(f"the type of '{self.value.name}' is not known")
        return dtype

    @property
    def rank(self) -> int:
        rank = self.value.rank
        if rank is None:
            raise Refusal(f"the rank of '{self.value.name}' is not known")
        return rank

    def __neg__(self) -> Term:
        return self.build.op("Neg", self)

    def __add__(self, other: Operand) -> Term:
        return self.build.op("Add", self, other)

    def __radd__(self, other: Operand) -> Term:
        return self.build.op("Add", other, self)

    def __sub__(self, other: Operand) -> Term:
        return self.build.op("Sub", self, other)

    def __rsub__(self, other: Operand) -> Term:
        return self.build.op("Sub", other, self)

    def __mul__(self, other: Operand) -> Term:
        return self.build.op("Mul", self, other)

    def __rmul__(self, other: Operand) -> Term:
        return self.build.op("Mul", other, self)

    def __truediv__(self, other: Operand) -> Term:
        return self.build.op("Div", self, other)

    def __rtruediv__(self, other: Operand) -> Term:
        return self.build.op("Div", other, self)

    def __matmul__(self, other: Operand) -> Term:
        return self.build.op("MatMul", self, other)

    def __gt__(self, other: Operand) -> Term:
        return self.build.op("Greater", self, other)

    def __ge__(self, other: Operand) -> Term:
        return self.build.op("GreaterOrEqual", self, other)

    def __lt__(self, other: Operand) -> Term:
        return self.build.op("Less", self, other)

    def __le__(self, other: Operand) -> Term:
        return self.build.op("LessOrEqual", self, other)

    def __and__(self, other: Operand) -> Term:
        return self.build.op("And", self, other)

    def __repr__(self) -> str:
        return f"<Term {self.value}>"


class Builder:
    """Appends the nodes of the gradient to `graph`: ``build.Exp(x)`` is a node.

    Calling it makes a Term of a Value. `node` is the node that is differentiated at present: new
    nodes take their names and their source location from it.
    """

    def __init__(self, graph: Graph, node_names: Iterable[str] = ()) -> None:
        """`node_names` are taken."""
        self.graph = graph
        self.node: Node | None = None
        self._node_names = set(node_names)
        self._made: list[Node] = []
        self._constants: list[Value] = []
        self._numbers: dict[tuple[DataType, str], Value] = {}

    def __call__(self, value: Value) -> Term:
        return Term(value, self)

    def inputs(self, node: Node) -> list[Term]:
        """The inputs of a node that has all of them."""
        return [Term(value, self) for value in node.inputs if value is not None]

    def optional(self, value: Value | None) -> Term | None:
        return None if value is None else Term(value, self)

    # --- nodes

    def op(self, op_type: str, *inputs: Operand, **attributes: Attribute) -> Term:
        """A new node's only output. Attributes that are None are left out."""
        folded = _fold(op_type, inputs)
        if folded is not None:
            return self.constant(folded)
        return self.node_of(op_type, inputs, attributes)[0]

    def node_of(
        self,
        op_type: str,
        inputs: Iterable[Operand],
        attributes: dict[str, Attribute] | None = None,
        outputs: int = 1,
        domain: str = ONNX_DOMAIN,
    ) -> list[Term]:
        """The outputs of a new node."""
        values = self._values(list(inputs))
        kept = {name: value for name, value in (attributes or {}).items() if value is not None}
        node = Node(op_type, values, outputs, kept, domain=domain, name=self._name(op_type))
        if self.node is not None:
            node.metadata = dict(self.node.metadata)
        for output in node.outputs:
            dtype = _result_dtype(node)
            output.type = None if dtype is None else TensorType(dtype)
        self.graph.append(node)
        self._made.append(node)
        return [Term(output, self) for output in node.outputs]

    def extra_output(self, node: Node, index: int) -> Term:
        """An output of a node of the graph that may have been left out: its last one."""
        if len(node.outputs) <= index:
            assert node.graph is not None
            value = Value(node.graph.fresh_name(f"{node.name or node.op_type}_output"))
            value.producer = node
            node.outputs.append(value)
        output = node.outputs[index]
        if output.type is None:
            dtype = DataType.INT64 if node.op_type == "MaxPool" else DataType.BOOL
            output.type = TensorType(dtype, node.output.shape)
        return Term(output, self)

    def __getattr__(self, op_type: str) -> Callable[..., Term]:
        if not op_type[:1].isupper():
            raise AttributeError(op_type)

        def make(*inputs: Operand, **attributes: Attribute) -> Term:
            return self.op(op_type, *inputs, **attributes)

        return make

    def _name(self, op_type: str) -> str:
        if self.node is None or not self.node.name:
            return ""
        first = name = f"{self.node.name}/gradient/{op_type}"
        counts = itertools.count(1)
        while name in self._node_names:
            name = f"{first}_{next(counts)}"
        self._node_names.add(name)
        return name

    def _values(self, inputs: list[Operand]) -> list[Value | None]:
        """Numbers take the type of the first other input that is not boolean."""
        values: list[Value | None] = []
        known = [each.value if isinstance(each, Term) else each for each in inputs]
        typed = [v for v in known if isinstance(v, Value) and v.dtype is not DataType.BOOL]
        for each in known:
            if each is None or isinstance(each, Value):
                values.append(each)
            else:
                values.append(self.number(each, Term(typed[0], self).dtype).value)
        while values and values[-1] is None:
            values.pop()
        return values

    def discard_unused(self, kept: Collection[Value] = ()) -> None:
        """Take out what was made and is not read, but for `kept`."""
        for node in reversed(self._made):
            if not any(value in kept or not value.is_unused for value in node.outputs):
                self.graph.remove(node)
        for value in self._constants:
            if value.is_unused and value not in kept:
                del self.graph.initializers[value.name]

    # --- constants

    def number(self, number: float, dtype: DataType) -> Term:
        """A scalar constant."""
        key = (dtype, repr(float(number)))
        known = self._numbers.get(key)
        if known is None:
            known = self.constant(np.array(number).astype(dtype.numpy)).value
            self._numbers[key] = known
        return Term(known, self)

    def constant(self, array: Any) -> Term:
        value = self.graph.constant(np.asarray(array), "constant")
        self._constants.append(value)
        return Term(value, self)

    def ints(self, *numbers: int) -> Term:
        """An int64 vector."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def fill(self, shape: Term, number: float, dtype: DataType) -> Term:
        """A tensor of one number. `shape` is an int64 vector."""
        value = Constant.from_numpy(np.array([number]).astype(dtype.numpy))
        filled = self.op("ConstantOfShape", shape, value=value)
        filled.value.type = TensorType(dtype)
        return filled

    def zeros_like(self, value: Term) -> Term:
        return self.fill(self.shape(value), 0, value.dtype)

    # --- types and shapes

    def cast(self, value: Term, dtype: DataType) -> Term:
        return value if value.dtype is dtype else self.op("Cast", value, to=int(dtype))

    def shape(self, value: Term, start: int = 0, end: int | None = None) -> Term:
        """The sizes of some axes as an int64 vector, a constant where they are known."""
        shape = value.value.shape
        if shape is not None and all(isinstance(dim, int) for dim in shape[start:end]):
            return self.ints(*shape[start:end])  # type: ignore[arg-type]
        return self.op("Shape", value, start=start or None, end=end)

    def dim(self, value: Term, axis: int) -> Term:
        """The size of one axis as an int64 vector of one."""
        return self.shape(value, axis, None if axis == -1 else axis + 1)

    def size(self, value: Term, axes: Iterable[int]) -> Term:
        """How many elements these axes, counted from the front, have together: a scalar."""
        axes = sorted(axes)
        shape = value.value.shape
        known = [] if shape is None else [d for d in (shape[a] for a in axes) if isinstance(d, int)]
        if len(known) == len(axes):
            return self.constant(np.array(math.prod(known), dtype=np.int64))
        sizes = self.gather(self.shape(value), self.ints(*axes))
        return self.ReduceProd(sizes, keepdims=0)

    def concat(self, *vectors: Term) -> Term:
        """Vectors one after the other, a constant if they all are."""
        if len(vectors) == 1:
            return vectors[0]
        arrays = [known_constant(vector.value) for vector in vectors]
        if all(array is not None for array in arrays):
            return self.constant(np.concatenate([a for a in arrays if a is not None]))
        return self.op("Concat", *vectors, axis=0)

    def gather(self, vector: Term, places: Term) -> Term:
        """Elements of an int64 vector."""
        arrays = known_constant(vector.value), known_constant(places.value)
        if arrays[0] is not None and arrays[1] is not None:
            return self.constant(arrays[0][arrays[1]])
        return self.op("Gather", vector, places)

    def divide(self, a: Term, b: Term) -> Term:
        """One size by another that divides it."""
        arrays = known_constant(a.value), known_constant(b.value)
        if arrays[0] is not None and arrays[1] is not None:
            return self.constant(arrays[0] // arrays[1])
        return self.op("Div", a, b)

    def reshape(self, value: Term, shape: Term) -> Term:
        """To sizes none of which is inferred."""
        return self.op("Reshape", value, shape, allowzero=1)

    def reshape_like(self, value: Term, reference: Term) -> Term:
        return self.reshape(value, self.shape(reference))

    def expand_like(self, value: Term, reference: Term) -> Term:
        return self.op("Expand", value, self.shape(reference))

    def squeeze(self, value: Term, *axes: int) -> Term:
        return self.op("Squeeze", value, self.ints(*axes)) if axes else value

    def unsqueeze(self, value: Term, *axes: int) -> Term:
        return self.op("Unsqueeze", value, self.ints(*axes)) if axes else value

    def transpose(self, value: Term, perm: list[int]) -> Term:
        if perm == sorted(perm):
            return value
        return self.op("Transpose", value, perm=perm)

    def sum(self, value: Term, axes: Iterable[int], keepdims: bool = False) -> Term:
        """Over some axes; over none if there are none."""
        listed = list(axes)
        if not listed:
            return value
        return self.op("ReduceSum", value, self.ints(*listed), keepdims=int(keepdims))

    def mean(self, value: Term, axes: Iterable[int], keepdims: bool = False) -> Term:
        listed = list(axes)
        if not listed:
            return value
        return self.op("ReduceMean", value, self.ints(*listed), keepdims=int(keepdims))

    def indices(self, count: Term) -> Term:
        """0, 1, ... up to `count`, an int64 scalar or vector of one."""
        limit = self.op("Reshape", count, self.ints())
        zero, one = (self.constant(np.array(i, dtype=np.int64)) for i in (0, 1))
        return self.op("Range", zero, limit, one)


def known_constant(value: Value | None) -> np.ndarray[Any, Any] | None:
    """The elements of a value that no caller can replace, else None."""
    if value is None or value.constant is None:
        return None
    if value.owner is not None and any(each is value for each in value.owner.inputs):
        return None
    return value.constant.numpy()


def _fold(op_type: str, inputs: Sequence[Operand]) -> np.ndarray[Any, Any] | None:
    """The result of a node that computes sizes from constant sizes."""
    function = _FOLDED.get(op_type)
    if function is None or not any(isinstance(each, Term) for each in inputs):
        return None
    arrays = []
    for each in inputs:
        value = each.value if isinstance(each, Term) else each
        array = known_constant(value) if isinstance(value, Value) else np.array(value)
        if array is None or array.dtype != np.int64:
            return None
        arrays.append(array)
    return np.asarray(function(*arrays))


def axis_of(axis: int, rank: int) -> int:
    """Counted from the front."""
    return axis + rank if axis < 0 else axis


def _result_dtype(node: Node) -> DataType | None:
    """The element type of a new node's output, as far as rules want to know it."""
    if node.domain != ONNX_DOMAIN:
        return None
    if node.op_type in _BOOLEAN:
        return DataType.BOOL
    if node.op_type in _INTEGER:
        return DataType.INT64
    if node.op_type == "Cast":
        return DataType(node.attributes["to"])
    value = node.input({"Where": 1, "OneHot": 2}.get(node.op_type, 0))
    return None if value is None else value.dtype
