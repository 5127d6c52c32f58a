# SPDX-License-Identifier: Apache-2.0
"""The graph: values that know their producer and uses, and nodes in a linked order.

A nested graph (the body of If, Loop, Scan) refers to values of the graphs around it directly;
`Graph.captures` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.replaced import Replaced
from bascule.ir.types import Shape, SparseTensorType, TensorType, Type

ONNX_DOMAIN = ""
FUSED_DOMAIN = "bascule"


@dataclass(frozen=True, slots=True)
class AttributeReference:
    """Inside a function body: the value of the caller's attribute `name`.

    `kind` is the number of onnx.AttributeProto.AttributeType.
    """

    name: str
    kind: int


@dataclass(frozen=True, slots=True, eq=False)
class SparseConstant:
    """A sparse initializer in COO form: `values` of shape [NNZ], `indices` [NNZ] or [NNZ, rank]."""

    values: Constant
    indices: Constant
    shape: tuple[int, ...]


Attribute = Any
"""int, float, str, Constant, SparseConstant, Graph, Type, a list of one of these, or an
AttributeReference. Python's int and float stand for INT and FLOAT: never mix them up. A long list
of numbers may come as an array.array of type "q" or "f", which never changes."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The operator that a node calls, where it is of one model alone."""

    types: Callable[[Node], tuple[Type | None, ...]]
    """What is known of the outputs."""
    function: Callable[[Node], Any]
    """What runs the node on the CPU."""
    origin: str
    """The name of the file that the operator is from."""


@dataclass(frozen=True, slots=True)
class Use:
    """`node.inputs[index]` reads the value."""

    node: Node
    index: int


class Value:
    """An edge of the graph: made by one node, a graph input, or a constant."""

    __slots__ = (
        "constant",
        "metadata",
        "name",
        "origins",
        "output_count",
        "owner",
        "producer",
        "type",
        "uses",
    )

    def __init__(
        self, name: str = "", type: Type | None = None, constant: Constant | None = None
    ) -> None:
        if type is None and constant is not None:
            type = TensorType(constant.dtype, constant.shape)
        self.name = name
        self.type = type
        self.constant = constant
        self.producer: Node | None = None
        self.owner: Graph | None = None
        """The graph whose input or initializer this is."""
        self.uses: list[Use] = []
        self.output_count = 0
        """How many graph outputs (nested graphs included) are this value."""
        self.metadata: dict[str, str] = {}
        self.origins: tuple[str, ...] = ()
        """The values of the model as it was read that this one stands for, where somebody asked."""

    @property
    def dtype(self) -> DataType | None:
        """The element type of a (sparse) tensor; None when unknown or not a tensor."""
        return self.type.dtype if isinstance(self.type, (TensorType, SparseTensorType)) else None

    @property
    def shape(self) -> Shape | None:
        return self.type.shape if isinstance(self.type, (TensorType, SparseTensorType)) else None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape when every size is a number, else None."""
        shape = self.shape
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            return None
        return shape  # type: ignore[return-value]

    @property
    def is_graph_output(self) -> bool:
        return self.output_count > 0

    @property
    def is_unused(self) -> bool:
        return not self.uses and not self.output_count

    @property
    def graph(self) -> Graph | None:
        """The graph that this value belongs to."""
        return self.producer.graph if self.producer is not None else self.owner

    def only_use(self) -> Node | None:
        """The single node input that reads this value; None if there are more, or an output."""
        return self.uses[0].node if len(self.uses) == 1 and not self.output_count else None

    def replace_uses(self, other: Value) -> None:
        """Make every reader of this value, graph outputs included, read `other`.

        Graph outputs keep their names: `other` takes this value's name if it may.
        """
        if other is self:
            return
        if self.origins:
            other.origins = tuple(dict.fromkeys(other.origins + self.origins))
        for use in list(self.uses):
            use.node.set_input(use.index, other)
        if self.output_count:
            graph = self.graph
            assert graph is not None
            root = graph
            while root.parent is not None and root.parent.graph is not None:
                root = root.parent.graph
            for each in root.walk_graphs():
                for index, output in enumerate(each.outputs):
                    if output is self:
                        each.set_output(index, other)

    def __repr__(self) -> str:
        return f"<Value {self.name}: {self.type} {list(self.shape) if self.shape else ''}>"


class Node:
    """One operator call. Inputs left out are None; trailing outputs may be left out."""

    __slots__ = (
        "_next",
        "_previous",
        "attributes",
        "binding",
        "doc",
        "domain",
        "graph",
        "inputs",
        "metadata",
        "name",
        "op_type",
        "opset",
        "outputs",
        "overload",
        "replaced",
    )

    def __init__(
        self,
        op_type: str,
        inputs: Iterable[Value | None],
        outputs: int | Sequence[Value] = 1,
        attributes: dict[str, Attribute] | None = None,
        *,
        domain: str = ONNX_DOMAIN,
        name: str = "",
        overload: str = "",
    ) -> None:
        self.op_type = op_type
        self.domain = domain
        self.overload = overload
        self.name = name
        self.doc = ""
        self.opset: int | None = None
        """The opset that the node is written for, when it is not the model's."""
        self.binding: Binding | None = None
        """Where the operator is neither of the standard nor of the process."""
        self.attributes: dict[str, Attribute] = dict(attributes or {})
        self.metadata: dict[str, str] = {}
        self.replaced: tuple[Replaced, ...] = ()
        """The nodes of the model that this one stands for, where it is none of them itself."""
        self.graph: Graph | None = None
        self._next: Node | None = None
        self._previous: Node | None = None
        self.inputs: list[Value | None] = []
        for value in inputs:
            self.append_input(value)
        self.outputs: list[Value] = (
            [Value() for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        )
        for value in self.outputs:
            value.producer = self

    @property
    def output(self) -> Value:
        """The first output."""
        return self.outputs[0]

    def input(self, index: int) -> Value | None:
        """Input `index`, or None when it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def set_input(self, index: int, value: Value | None) -> None:
        """Replace input `index`, keeping the uses of both values right; grows the list."""
        while len(self.inputs) <= index:
            self.inputs.append(None)
        old = self.inputs[index]
        if old is not None:
            old.uses.remove(Use(self, index))
        self.inputs[index] = value
        if value is not None:
            value.uses.append(Use(self, index))

    def append_input(self, value: Value | None) -> None:
        self.inputs.append(None)
        if value is not None:
            self.inputs[-1] = value
            value.uses.append(Use(self, len(self.inputs) - 1))

    def set_inputs(self, values: Iterable[Value | None]) -> None:
        """Replace the whole input list."""
        self.detach()
        for value in values:
            self.append_input(value)

    def detach(self) -> None:
        """Let go of all inputs."""
        for index, value in enumerate(self.inputs):
            if value is not None:
                value.uses.remove(Use(self, index))
        self.inputs = []

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def is_op(self, *op_types: str, domain: str = ONNX_DOMAIN) -> bool:
        return self.domain == domain and self.op_type in op_types

    @property
    def subgraphs(self) -> list[Graph]:
        found = []
        for value in self.attributes.values():
            if isinstance(value, Graph):
                found.append(value)
            elif isinstance(value, list) and value and isinstance(value[0], Graph):
                found.extend(value)  # the items of a list are of one kind
        return found

    def __repr__(self) -> str:
        inputs = ", ".join("" if v is None else v.name for v in self.inputs)
        outputs = ", ".join(v.name for v in self.outputs)
        domain = f"{self.domain}." if self.domain else ""
        return f"<Node {self.name}: {outputs} = {domain}{self.op_type}({inputs})>"


class Graph:
    """Nodes in execution order, with inputs, outputs and initializers.

    Iterating is safe while the current node is removed and while nodes are inserted.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.doc = ""
        self.metadata: dict[str, str] = {}
        self.parent: Node | None = None
        """The node that holds this graph as an attribute."""
        self.interface: tuple[list[str], list[str]] | None = None
        """The names of inputs and outputs as they were written, where those of a copy differ."""
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.initializers: dict[str, Value] = {}
        """Constants by name. One that is also in `inputs` is the default of that input."""
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0
        self._names: set[str] = set()
        self._counter = 0

    # --- inputs, outputs, constants

    def add_input(self, value: Value) -> Value:
        value.owner = self
        self._claim(value)
        self.inputs.append(value)
        return value

    def add_output(self, value: Value) -> Value:
        value.output_count += 1
        self.outputs.append(value)
        return value

    def set_output(self, index: int, value: Value) -> None:
        """Make `value` output `index`, under the name that this output had."""
        old = self.outputs[index]
        if old is value:
            return
        old.output_count -= 1
        value.output_count += 1
        self.outputs[index] = value
        public = value.output_count > 1 or value.owner is not None or value.constant is not None
        if self.parent is None and not public and old.output_count == 0:
            old.name, value.name = self.fresh_name(old.name), old.name
            value.metadata = value.metadata or old.metadata
            self._names.add(value.name)
        elif self.parent is None:
            # The output needs its own name, so it needs a node of its own.
            value.output_count -= 1
            identity = Node("Identity", [value], name=f"Identity_{old.name}")
            identity.output.type = value.type
            identity.output.origins = old.origins
            if old.output_count == 0:
                old.name, identity.output.name = self.fresh_name(old.name), old.name
            self.append(identity)
            identity.output.output_count += 1
            self.outputs[index] = identity.output

    def add_initializer(self, value: Value) -> Value:
        """Add a named constant of this graph."""
        value.owner = self
        self._claim(value)
        self.initializers[value.name] = value
        return value

    def constant(self, array: Any, name: str = "constant") -> Value:
        """A new initializer that holds `array` (a NumPy array or a Constant)."""
        data = array if isinstance(array, Constant) else Constant.from_numpy(array)
        return self.add_initializer(Value(self.fresh_name(name), constant=data))

    def remove_unused_initializers(self) -> int:
        """Drop initializers that nothing reads and that are not inputs; returns how many."""
        inputs = {id(v) for v in self.inputs}
        unused = [n for n, v in self.initializers.items() if v.is_unused and id(v) not in inputs]
        for name in unused:
            del self.initializers[name]
        return len(unused)

    # --- names

    def fresh_name(self, hint: str) -> str:
        """A value name that no value of this model has yet."""
        root = self
        while root.parent is not None and root.parent.graph is not None:
            root = root.parent.graph
        if not hint:
            hint = "value"
        name = hint
        while name in root._names:
            root._counter += 1
            name = f"{hint}_{root._counter}"
        root._names.add(name)
        return name

    def _claim(self, value: Value) -> None:
        root = self
        while root.parent is not None and root.parent.graph is not None:
            root = root.parent.graph
        if value.name:
            root._names.add(value.name)

    # --- nodes

    def __iter__(self) -> Iterator[Node]:
        node = self._first
        while node is not None:
            yield node
            node = node._next
            while node is not None and node.graph is not self:
                node = node._next  # removed meanwhile: it still points onwards

    def __reversed__(self) -> Iterator[Node]:
        node = self._last
        while node is not None:
            yield node
            node = node._previous
            while node is not None and node.graph is not self:
                node = node._previous

    def __len__(self) -> int:
        return self._count

    @property
    def nodes(self) -> list[Node]:
        """A snapshot of the nodes in order."""
        return list(self)

    def append(self, node: Node) -> Node:
        return self._link(node, self._last)

    def insert_before(self, anchor: Node, node: Node) -> Node:
        return self._link(node, anchor._previous)

    def insert_after(self, anchor: Node, node: Node) -> Node:
        return self._link(node, anchor)

    def _link(self, node: Node, previous: Node | None) -> Node:
        assert node.graph is None, "the node is in a graph already"
        following = previous._next if previous is not None else self._first
        node.graph, node._previous, node._next = self, previous, following
        if previous is None:
            self._first = node
        else:
            previous._next = node
        if following is None:
            self._last = node
        else:
            following._previous = node
        self._count += 1
        for value in node.outputs:
            if value.name:
                self._claim(value)
            else:
                value.name = self.fresh_name(f"{node.name or node.op_type}_output")
        for graph in node.subgraphs:
            graph.parent = node
        return node

    def _unlink(self, node: Node) -> None:
        assert node.graph is self
        if node._previous is None:
            self._first = node._next
        else:
            node._previous._next = node._next
        if node._next is None:
            self._last = node._previous
        else:
            node._next._previous = node._previous
        node.graph = None  # the links stay, so that an iteration that stands here goes on
        self._count -= 1

    def remove(self, node: Node) -> None:
        """Take out a node that nothing reads any more, with its nested graphs' uses."""
        for value in node.outputs:
            assert value.is_unused, f"{value} is still used"
        for graph in node.subgraphs:
            graph.release()
        self._unlink(node)
        node.detach()

    def move_before(self, anchor: Node, node: Node) -> None:
        """Move `node`, of this or another graph, to stand before `anchor`."""
        assert node.graph is not None
        node.graph._unlink(node)
        self._link(node, anchor._previous)

    def release(self) -> None:
        """Drop all nodes and outputs, so that captured values lose these uses."""
        for value in self.outputs:
            value.output_count -= 1
        self.outputs = []
        for node in self.nodes:
            for graph in node.subgraphs:
                graph.release()
            self._unlink(node)
            node.detach()

    def sort(self) -> None:
        """Order the nodes topologically, keeping the present order where it is legal.

        Raises ValueError that names a node on a cycle if there is one.
        """
        nodes = self.nodes
        state: dict[int, int] = {}
        ordered: list[Node] = []
        for root in nodes:
            stack: list[tuple[Node, Iterator[Node]]] = []
            if id(root) not in state:
                state[id(root)] = 1
                stack.append((root, iter(self._producers(root))))
            while stack:
                node, producers = stack[-1]
                for producer in producers:
                    seen = state.get(id(producer), 0)
                    if seen == 1:
                        raise ValueError(
                            f"node '{producer.name}' ({producer.op_type}) is on a cycle"
                        )
                    if seen == 0:
                        state[id(producer)] = 1
                        stack.append((producer, iter(self._producers(producer))))
                        break
                else:
                    state[id(node)] = 2
                    ordered.append(node)
                    stack.pop()
        if ordered == nodes:
            return
        for node in nodes:
            self._unlink(node)
        for node in ordered:
            self._link(node, self._last)

    def _producers(self, node: Node) -> list[Node]:
        """The nodes of this graph that `node`, nested graphs included, waits for."""
        values = [v for v in node.inputs if v is not None]
        for graph in node.subgraphs:
            values.extend(graph.captures())
        return [v.producer for v in values if v.producer is not None and v.producer.graph is self]

    # --- nested graphs

    def walk_graphs(self) -> Iterator[Graph]:
        """This graph and every graph nested in it."""
        yield self
        for node in self:
            for graph in node.subgraphs:
                yield from graph.walk_graphs()

    def walk_nodes(self) -> Iterator[Node]:
        """Every node, those of nested graphs after the node that holds them."""
        for node in self:
            yield node
            for graph in node.subgraphs:
                yield from graph.walk_nodes()

    def captures(self) -> list[Value]:
        """Values of enclosing graphs that this graph or one nested in it reads, each once."""
        inner = {id(graph) for graph in self.walk_graphs()}
        found: dict[int, Value] = {}

        def look(value: Value | None) -> None:
            if value is not None and value.graph is not None and id(value.graph) not in inner:
                found[id(value)] = value

        for graph in self.walk_graphs():
            for node in graph:
                for value in node.inputs:
                    look(value)
            for value in graph.outputs:
                look(value)
        return list(found.values())


@dataclass(eq=False)
class Function:
    """A model-local function. Attributes in `body` may be AttributeReferences."""

    domain: str
    name: str
    overload: str
    body: Graph
    attributes: list[str] = field(default_factory=list)
    """Attributes without a default."""
    attribute_defaults: dict[str, Attribute] = field(default_factory=dict)
    opset_imports: dict[str, int] = field(default_factory=dict)
    doc: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Model:
    """A graph with what the file says about it."""

    graph: Graph
    opset_imports: dict[str, int] = field(default_factory=dict)
    functions: dict[tuple[str, str, str], Function] = field(default_factory=dict)
    """By (domain, name, overload)."""
    ir_version: int = 0
    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    doc: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    path: str | None = None
    """The file that the model came from; external data lies in its folder."""
    external_files: list[str] = field(default_factory=list)
    """The files with external data that were read, by their paths from that folder."""
