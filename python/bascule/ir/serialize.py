# SPDX-License-Identifier: Apache-2.0
"""Model to onnx.ModelProto."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import onnx

from bascule.ir import check
from bascule.ir.constant import Constant
from bascule.ir.deserialize import DENOTATION
from bascule.ir.graph import (
    FUSED_DOMAIN,
    Attribute,
    AttributeReference,
    Function,
    Graph,
    Model,
    Node,
    SparseConstant,
    Value,
)
from bascule.ir.replaced import main_of
from bascule.ir.source_trace import SOURCES, line_of, sources_of, stack_of
from bascule.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)

Definitions = Callable[[Node], Function | None]
"""The ONNX definition of a fused node, or None when it has none.

It depends on the node's operator, attributes and number of outputs, and on which inputs are there
and what their element types and ranks are.
"""

Payload = Callable[[Constant, "onnx.TensorProto"], None]
"""Puts a constant's elements into a TensorProto, or says there where they are."""

_BODY = "body"
"""The attribute of a fused node that holds its own definition as a graph."""


def write_inline(constant: Constant, proto: onnx.TensorProto) -> None:
    """Keep the elements in the proto itself."""
    if constant.strings is not None:
        proto.string_data.extend(
            s.encode("utf-8", "surrogateescape") for s in constant.strings.flat
        )
    else:
        proto.raw_data = bytes(constant.raw or b"")


class ModelWriter:
    """Writes one Model. Names are made unique where rewriting has made two values share one."""

    def __init__(
        self, model: Model, payload: Payload = write_inline, definitions: Definitions | None = None
    ) -> None:
        self._model = model
        self._payload = payload
        self._definitions = definitions
        self._names: dict[int, str] = {}
        self._used: set[str] = set()
        self._copies: list[Value] = []
        self._functions: list[onnx.FunctionProto] = []
        self._defined: dict[Hashable, Function | None] = {}
        self._written: dict[int, str] = {}
        self._kept: list[Function] = []  # `_written` goes by id: the objects must stay
        self._overloads: set[tuple[str, str]] = {
            (name, overload) for domain, name, overload in model.functions if domain == FUSED_DOMAIN
        }
        self._opsets: Mapping[str, int] = model.opset_imports

    def write(self) -> onnx.ModelProto:
        model = self._model
        proto = onnx.ModelProto()
        _put_texts(
            proto,
            producer_name=model.producer_name,
            producer_version=model.producer_version,
            domain=model.domain,
            doc_string=model.doc,
        )
        if model.model_version:
            proto.model_version = model.model_version
        _put_metadata(proto, model.metadata)
        self.write_graph(model.graph, proto.graph)
        own = [self._function(each, each.overload) for each in model.functions.values()]
        proto.functions.extend([*self._functions, *own])
        imports = dict(model.opset_imports)
        for function_proto in proto.functions:
            imports.setdefault(check.normal_domain(function_proto.domain), 1)
        for node in model.graph.walk_nodes():
            if node.domain in check.UNCHECKED_DOMAINS:
                imports.setdefault(node.domain, 1)
        _put_imports(proto, imports)
        # Overloads of functions, and metadata, need IR version 10.
        proto.ir_version = max(model.ir_version, 10 if proto.functions else 4)
        return proto

    # --- names

    def name(self, value: Value) -> str:
        name = self._names.get(id(value))
        if name is None:
            name, count = value.name or "value", 0
            while name in self._used:
                count += 1
                name = f"{value.name or 'value'}_{count}"
            self._names[id(value)] = name
            self._used.add(name)
        return name

    def _copy(self, value: Value, proto: onnx.GraphProto | onnx.FunctionProto) -> str:
        """Add an Identity of `value`; returns the new name."""
        copy = Value(value.name)
        self._copies.append(copy)  # names go by id: the object must stay
        proto.node.add(op_type="Identity", input=[self.name(value)], output=[self.name(copy)])
        return self.name(copy)

    # --- graphs

    def write_graph(self, graph: Graph, proto: onnx.GraphProto) -> None:
        proto.name = graph.name or "graph"
        _put_texts(proto, doc_string=graph.doc)
        _put_metadata(proto, graph.metadata)
        if graph.parent is None:  # the caller knows these names: they come first
            for value in (*graph.inputs, *graph.outputs):
                self.name(value)
        for value in graph.inputs:
            self.value_info(value, proto.input.add())
        for value in graph.initializers.values():
            assert value.constant is not None
            self.initializer(value, value.constant, proto)
        for node in graph:
            self.node(node, proto)
            for value in node.outputs:
                if value.type is not None and not value.is_graph_output:
                    self.declare(value, proto)
        seen: set[int] = set()
        for value in graph.outputs:
            info = proto.output.add()
            self.value_info(value, info)
            if id(value) in seen:
                # An output may be listed once only: give the second one a node of its own.
                info.name = self._copy(value, proto)
            seen.add(id(value))

    def initializer(self, value: Value, constant: Constant, proto: onnx.GraphProto) -> None:
        """Add a constant to its graph."""
        self.tensor(constant, proto.initializer.add(name=self.name(value)))

    def declare(self, value: Value, proto: onnx.GraphProto) -> None:
        """State the type of an inner value."""
        self.value_info(value, proto.value_info.add())

    def node_metadata(self, node: Node) -> Mapping[str, str]:
        """What is written beside a node: the lines of all nodes that it replaced, too."""
        if not node.replaced:
            return node.metadata
        found = {**node.metadata, **main_of(node.replaced).metadata}
        lines = sources_of(node)
        if len(lines) > 1 or (lines and line_of(node.doc, found) != lines[0]):
            found[SOURCES] = stack_of(lines)
        return found

    def node(self, node: Node, graph: onnx.GraphProto | onnx.FunctionProto) -> None:
        """Add a node."""
        proto = graph.node.add()
        proto.op_type = node.op_type
        _put_texts(
            proto,
            domain=node.domain,
            name=node.name,
            doc_string=node.doc,
            overload=node.overload,
        )
        proto.input.extend("" if value is None else self.name(value) for value in node.inputs)
        proto.output.extend(self.name(value) for value in node.outputs)
        _put_metadata(proto, self.node_metadata(node))
        attributes = node.attributes
        if node.domain == FUSED_DOMAIN:
            attributes = self._define(node, proto)
        version = self._opsets.get(node.domain)
        found = check.schema(node.op_type, version, node.domain) if version is not None else None
        kinds = found.attributes if found is not None else {}
        for name, attribute in attributes.items():
            written = self.shown_attribute(node, name, attribute)
            self._attribute(name, written, proto.attribute.add(), kinds.get(name, 0))

    def shown_attribute(self, node: Node, name: str, value: Attribute) -> Attribute:
        """What is written for an attribute."""
        return value

    def _define(self, node: Node, proto: onnx.NodeProto) -> dict[str, Attribute]:
        """Write the function behind a fused node; returns the attributes that stay on the node."""
        body = node.attributes.get(_BODY)
        if isinstance(body, Graph):
            function: Function | None = Function(FUSED_DOMAIN, node.op_type, "", body)
        elif (node.domain, node.op_type, node.overload) in self._model.functions:
            function = None
        else:
            function = self._definition(node)
        if function is None:
            return node.attributes
        written_as = self._written.get(id(function))
        if written_as is not None:
            proto.overload = written_as
        else:
            proto.overload = self._fresh_overload(node.op_type)
            self._written[id(function)] = proto.overload
            self._kept.append(function)
            self._functions.append(self._function(function, proto.overload, node.op_type))
        declared = {*function.attributes, *function.attribute_defaults}
        return {
            name: value
            for name, value in node.attributes.items()
            if name in declared or not isinstance(body, Graph)
        }

    def _definition(self, node: Node) -> Function | None:
        """What defines a fused node: the same object for nodes that share a definition."""
        if self._definitions is None:
            return None
        signature = _signature(node)
        if signature is None:
            return self._definitions(node)
        if signature not in self._defined:
            self._defined[signature] = self._definitions(node)
        return self._defined[signature]

    def _fresh_overload(self, op_type: str) -> str:
        index = len(self._overloads)
        while (op_type, str(index)) in self._overloads:
            index += 1
        self._overloads.add((op_type, str(index)))
        return str(index)

    def _function(
        self, function: Function, overload: str, called_as: str = ""
    ) -> onnx.FunctionProto:
        outer = (self._names, self._used, self._opsets)
        self._names, self._used = {}, set()
        self._opsets = {**self._model.opset_imports, **function.opset_imports}
        body = function.body
        proto = onnx.FunctionProto(
            domain=function.domain,
            name=called_as or function.name,
        )
        _put_texts(proto, overload=overload, doc_string=function.doc)
        _put_metadata(proto, function.metadata)
        proto.input.extend(self.name(value) for value in body.inputs)
        for value in body.outputs:
            self.name(value)
        proto.attribute.extend(function.attributes)
        for name, default in function.attribute_defaults.items():
            self._attribute(name, default, proto.attribute_proto.add(), 0)
        imports = dict(self._opsets if not function.opset_imports else function.opset_imports)
        for value in body.initializers.values():
            assert value.constant is not None
            node = proto.node.add(op_type="Constant", output=[self.name(value)])
            self._attribute("value", value.constant, node.attribute.add(), 0)
        for each in body:
            self.node(each, proto)
            if each.domain not in imports:
                imports[each.domain] = self._model.opset_imports.get(each.domain, 1)
        proto.output.extend(self._function_outputs(body, proto))
        _put_imports(proto, imports)
        self._names, self._used, self._opsets = outer
        return proto

    def _function_outputs(self, body: Graph, proto: onnx.FunctionProto) -> list[str]:
        """Output names; an input or a constant, or one listed twice, gets an Identity."""
        names: list[str] = []
        for value in body.outputs:
            name = self.name(value)
            if value.producer is None or name in names:
                name = self._copy(value, proto)
            names.append(name)
        return names

    # --- attributes and tensors

    def _attribute(
        self, name: str, value: Attribute, proto: onnx.AttributeProto, kind: int
    ) -> None:
        """`kind` is what the schema says, 0 if there is none."""
        proto.name = name
        if isinstance(value, AttributeReference):
            proto.ref_attr_name = value.name
            proto.type = value.kind
            return
        kind = kind or _kind(value)
        proto.type = kind
        if kind == 1:
            proto.f = value
        elif kind == 2:
            proto.i = value
        elif kind == 3:
            proto.s = _to_bytes(value)
        elif kind == 4:
            self.tensor(value, proto.t)
        elif kind == 5:
            self.write_graph(value, proto.g)
        elif kind == 6:
            proto.floats.extend(value)
        elif kind == 7:
            proto.ints.extend(value)
        elif kind == 8:
            proto.strings.extend(_to_bytes(item) for item in value)
        elif kind == 9:
            for item in value:
                self.tensor(item, proto.tensors.add())
        elif kind == 10:
            for item in value:
                self.write_graph(item, proto.graphs.add())
        elif kind == 11:
            self._sparse(value, proto.sparse_tensor)
        elif kind == 12:
            for item in value:
                self._sparse(item, proto.sparse_tensors.add())
        elif kind == 13:
            write_type(value, proto.tp)
        else:
            for item in value:
                write_type(item, proto.type_protos.add())

    def tensor(self, constant: Constant, proto: onnx.TensorProto) -> None:
        proto.data_type = int(constant.dtype)
        proto.dims.extend(constant.shape)
        self._payload(constant, proto)

    def _sparse(self, sparse: SparseConstant, proto: onnx.SparseTensorProto) -> None:
        self.tensor(sparse.values, proto.values)
        self.tensor(sparse.indices, proto.indices)
        proto.dims.extend(sparse.shape)

    # --- values

    def value_info(self, value: Value, proto: onnx.ValueInfoProto) -> None:
        proto.name = self.name(value)
        if value.type is not None:
            write_type(value.type, proto.type)
        for key, text in value.metadata.items():
            if not key.startswith(DENOTATION):
                proto.metadata_props.add(key=key, value=text)
            elif key == DENOTATION:
                proto.type.denotation = text
            else:
                index = key.partition(".")[2]
                dims = proto.type.tensor_type.shape.dim
                if index.isdigit() and int(index) < len(dims):
                    dims[int(index)].denotation = text


def node_proto(node: Node) -> onnx.NodeProto:
    """One node alone."""
    graph = onnx.GraphProto()
    imports = {node.domain: check.newest_opsets().get(node.domain, 1)}
    ModelWriter(Model(Graph(), imports)).node(node, graph)
    return graph.node[0]


def _signature(node: Node) -> Hashable:
    """What the definition of a fused node depends on; None if an attribute cannot be compared."""
    attributes: list[Hashable] = []
    for name, value in sorted(node.attributes.items()):
        items = list(value) if isinstance(value, (list, array)) else [value]
        if not all(isinstance(item, (int, float, str, bytes)) for item in items):
            return None
        kinds = {type(item) for item in items}  # 1 and 1.0 are equal
        attributes.append((name, type(value), frozenset(kinds), *items))
    inputs = tuple(None if value is None else (value.dtype, value.rank) for value in node.inputs)
    return (node.op_type, node.overload, len(node.outputs), inputs, tuple(attributes))


def _kind(value: Attribute) -> int:
    """The attribute type that a Python value stands for."""
    if isinstance(value, array):
        return {"f": 6, "q": 7}[value.typecode]
    if isinstance(value, list):
        # An empty list without a schema has lost its type: integers are by far the commonest.
        return {1: 6, 2: 7, 3: 8, 4: 9, 5: 10, 11: 12, 13: 14}[_kind(value[0])] if value else 7
    kinds: tuple[tuple[type, int], ...] = (
        (float, 1),
        (int, 2),
        (str, 3),
        (bytes, 3),
        (Constant, 4),
        (Graph, 5),
        (SparseConstant, 11),
    )
    for python_type, kind in kinds:
        if isinstance(value, python_type):
            return kind
    if isinstance(value, (TensorType, SparseTensorType, SequenceType, OptionalType, MapType)):
        return 13
    raise TypeError(f"{type(value)} cannot be an attribute")


def _to_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _put_texts(proto: Any, **fields: str) -> None:
    """Set the fields that are not empty."""
    for name, text in fields.items():
        if text:
            setattr(proto, name, text)


def _put_metadata(proto: Any, metadata: Mapping[str, str]) -> None:
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)


def _put_imports(proto: Any, imports: Mapping[str, int]) -> None:
    for domain, version in imports.items():
        proto.opset_import.add(domain=domain, version=version)


def write_type(type: Type, proto: onnx.TypeProto) -> None:
    if isinstance(type, (TensorType, SparseTensorType)):
        dense = isinstance(type, TensorType)
        tensor: Any = proto.tensor_type if dense else proto.sparse_tensor_type
        tensor.elem_type = int(type.dtype)
        if type.shape is not None:
            tensor.shape.SetInParent()
            for dim in type.shape:
                added = tensor.shape.dim.add()
                if isinstance(dim, int):
                    added.dim_value = dim
                elif dim is not None:
                    added.dim_param = dim
    elif isinstance(type, SequenceType):
        write_type(type.element, proto.sequence_type.elem_type)
    elif isinstance(type, OptionalType):
        write_type(type.element, proto.optional_type.elem_type)
    else:
        proto.map_type.key_type = int(type.key)
        write_type(type.value, proto.map_type.value_type)
