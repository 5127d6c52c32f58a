# SPDX-License-Identifier: Apache-2.0
"""onnx.ModelProto to Model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bascule.errors import Fail, InvalidArgument, InvalidGraph, add_details
from bascule.ir import check, check_nodes
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import (
    Attribute,
    AttributeReference,
    Function,
    Graph,
    Model,
    Node,
    Value,
)
from bascule.ir.source_trace import line_of
from bascule.ir.tensors import TensorReader, densify
from bascule.ir.types import (
    Dim,
    MapType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
)

if TYPE_CHECKING:
    import onnx

SIZE_MARK = "\x01"
"""No name of a size may start like this: it stands for a fixed size during inference."""

DENOTATION = "denotation"
"""Prefix of the Value.metadata keys that keep a type's denotation, and `denotation.<i>` a
dimension's."""


class ModelReader:
    """Reads one ModelProto; `tensors` knows where its payloads are."""

    def __init__(self, proto: onnx.ModelProto, tensors: TensorReader) -> None:
        self._proto = proto
        self._tensors = tensors
        self._functions = check.function_keys(proto)
        self._scope = check_nodes.Scope({}, self._functions)
        self._untyped = proto.ir_version < 2

    def read(self) -> Model:
        proto = self._proto
        check.check_ir_version(proto)
        check.require_text(proto.producer_name, proto.producer_version, proto.domain)
        check.require_text(proto.doc_string)
        imports = check.opset_imports(proto)
        functions = {}
        for function_proto in proto.functions:
            function = self.function(function_proto, imports)
            functions[function.domain, function.name, function.overload] = function
        check.call_order(functions)  # refuses recursion
        self._scope = check_nodes.Scope(imports, self._functions, False, self._untyped)
        graph = self._graph(proto.graph, {}, None)
        for value in graph.inputs:
            if value.type is None:
                raise InvalidGraph(f"Graph input ({value.name}) does not say its type.")
        for training in proto.training_info:
            self._tensors.check_unread(training)
        return Model(
            graph,
            opset_imports=imports,
            functions=functions,
            ir_version=proto.ir_version,
            producer_name=proto.producer_name,
            producer_version=proto.producer_version,
            domain=proto.domain,
            model_version=proto.model_version,
            doc=proto.doc_string,
            metadata=_metadata(proto),
        )

    # --- graphs

    def function(self, proto: onnx.FunctionProto, imports: dict[str, int]) -> Function:
        opsets = check.function_opset_imports(proto, imports)
        self._scope = check_nodes.Scope(opsets, self._functions, True, self._untyped)
        body = Graph(proto.name)
        scope: dict[str, Value] = {}
        types = self._value_infos(proto.value_info)
        for name in proto.input:
            _define(scope, _described(name, types))
            body.add_input(scope[name])
        self._fill(body, proto.node, proto.output, scope, {}, types)
        defaults = {a.name: self._attribute(a, scope, proto.name) for a in proto.attribute_proto}
        if len(defaults) < len(proto.attribute_proto) or len(set(proto.attribute)) < len(
            proto.attribute
        ):
            raise InvalidGraph(f"Function '{proto.name}' declares an attribute twice.")
        if any(isinstance(default, AttributeReference) for default in defaults.values()):
            raise InvalidGraph(
                f"Function '{proto.name}' has a default that refers to an attribute."
            )
        return Function(
            domain=check.normal_domain(proto.domain),
            name=proto.name,
            overload=proto.overload,
            body=body,
            attributes=list(proto.attribute),
            attribute_defaults=defaults,
            opset_imports=opsets,
            doc=proto.doc_string,
            metadata=_metadata(proto),
        )

    def _graph(self, proto: onnx.GraphProto, outer: dict[str, Value], parent: Node | None) -> Graph:
        check.require_text(proto.name, proto.doc_string)
        check.require_text(*(info.name for info in (*proto.input, *proto.output)))
        check.require_text(*(tensor.name for tensor in proto.initializer))
        check.require_text(*(sparse.values.name for sparse in proto.sparse_initializer))
        graph = Graph(proto.name)
        graph.doc = proto.doc_string
        graph.metadata = _metadata(proto)
        graph.parent = parent
        scope: dict[str, Value] = {}
        types = self._value_infos(proto.value_info)
        for info in proto.input:
            value = Value(info.name)
            self._describe(value, info)
            if not info.name:
                raise InvalidGraph("A graph input has no name.")
            _define(scope, value)
            graph.add_input(value)
        for tensor in proto.initializer:
            self._initializer(graph, scope, tensor.name, self._tensors.read(tensor, tensor.name))
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            dense = densify(self._tensors.read_sparse(sparse, name), name)
            self._initializer(graph, scope, name, dense)
        for info in proto.output:
            value = types.setdefault(info.name, Value(info.name))
            self._describe(value, info)
        self._fill(graph, proto.node, [o.name for o in proto.output], scope, outer, types)
        return graph

    def _initializer(
        self, graph: Graph, scope: dict[str, Value], name: str, constant: Constant
    ) -> None:
        if not name:
            raise InvalidGraph("An initializer has no name.")
        if name in graph.initializers:
            raise Fail(f"Duplicate definition of name ({name}).")
        default_of = scope.get(name)
        if default_of is None:
            scope[name] = graph.add_initializer(Value(name, constant=constant))
            return
        default_of.constant = constant
        graph.initializers[name] = default_of
        expected = default_of.type
        if not isinstance(expected, TensorType) or expected.dtype is not constant.dtype:
            raise Fail(
                f"Type Error: Type '{TensorType(constant.dtype)}' of initializer ({name}) does not "
                f"match expected type ({expected}) of the graph input of this name."
            )

    def _fill(
        self,
        graph: Graph,
        protos: Iterable[onnx.NodeProto],
        outputs: Iterable[str],
        scope: dict[str, Value],
        outer: dict[str, Value],
        types: dict[str, Value],
    ) -> None:
        """Add the nodes, in whatever order they come, and the outputs."""
        produced: list[list[Value]] = []
        for proto in protos:
            names = list(proto.output)
            check.require_text(*names)
            if names and not names[-1] and not check.counts_outputs(proto, self._scope.imports):
                while names and not names[-1]:
                    names.pop()
            values = [_described(name, types) for name in names]
            for value in values:
                if value.name:
                    _define(scope, value, node=proto.name, op=proto.op_type)
            produced.append(values)
        visible = {**outer, **scope} if outer else scope
        used_names = {proto.name for proto in protos}
        check.require_text(*used_names)
        for index, (proto, values) in enumerate(zip(protos, produced)):
            name = proto.name
            if not name:
                name = f"{proto.op_type}_{index}"
                while name in used_names:
                    name += "_"
                used_names.add(name)
            try:
                graph.append(self._node(proto, name, values, visible, graph))
            except (Fail, InvalidGraph) as error:
                line = line_of(proto.doc_string, _metadata(proto))
                add_details(error, source=line)
                raise
        for name in outputs:
            if not name or name not in visible:
                raise Fail(f"Graph output ({name}) does not exist in the graph.")
            graph.add_output(visible[name])
        try:
            graph.sort()
        except ValueError as error:
            raise Fail(
                f"This is an invalid model. Error: the graph is not acyclic. The {error}."
            ) from None

    def _node(
        self,
        proto: onnx.NodeProto,
        name: str,
        outputs: list[Value],
        visible: dict[str, Value],
        graph: Graph,
    ) -> Node:
        least = check_nodes.check_node(proto, name, self._scope)
        inputs = [self._input(i, visible, name, proto.op_type) for i in proto.input]
        while len(inputs) > least and inputs[-1] is None:
            inputs.pop()
        node = Node(
            proto.op_type,
            inputs,
            outputs,
            domain=check.normal_domain(proto.domain),
            name=name,
            overload=proto.overload,
        )
        node.doc = proto.doc_string
        node.metadata = _metadata(proto)
        node.graph = graph  # nested graphs look for the names of the graphs around them
        for attribute in proto.attribute:
            where = f"{name}.{attribute.name} ({proto.op_type})"
            node.attributes[attribute.name] = self._attribute(attribute, visible, where, node)
        node.graph = None
        return node

    def _input(self, name: str, visible: dict[str, Value], node: str, op_type: str) -> Value | None:
        if not name:
            return None
        value = visible.get(name)
        if value is None:
            raise InvalidArgument(
                f"This is an invalid model. Error in Node:{node} : Node input '{name}' is not a "
                "graph input, initializer, or output of a previous node.",
                op=op_type,
            )
        return value

    # --- attributes

    def _attribute(
        self,
        proto: onnx.AttributeProto,
        scope: dict[str, Value],
        where: str,
        node: Node | None = None,
    ) -> Attribute:
        holder = f"function '{where}'"
        if node is not None:
            holder = check_nodes.node_label(node.op_type, node.name)
        kind = check_nodes.attribute_kind(proto, holder, self._scope.untyped_attributes)
        if proto.ref_attr_name:
            if not self._scope.in_function:
                raise InvalidGraph(f"Attribute '{where}' refers to one of a function, outside one.")
            return AttributeReference(proto.ref_attr_name, kind)
        if kind == 1:
            return float(proto.f)
        if kind == 2:
            return int(proto.i)
        if kind == 3:
            return proto.s.decode("utf-8", "surrogateescape")
        if kind == 4:
            return self._tensors.read(proto.t, where)
        if kind == 5:
            return self._graph(proto.g, scope, node)
        if kind in (6, 7):
            return self._tensors.read_numbers(proto)
        if kind == 8:
            # Long lists repeat a few texts.
            texts = {item: item.decode("utf-8", "surrogateescape") for item in set(proto.strings)}
            return [texts[item] for item in proto.strings]
        if kind == 9:
            return [self._tensors.read(item, where) for item in proto.tensors]
        if kind == 10:
            return [self._graph(item, scope, node) for item in proto.graphs]
        if kind == 11:
            return self._tensors.read_sparse(proto.sparse_tensor, where)
        if kind == 12:
            return [self._tensors.read_sparse(item, where) for item in proto.sparse_tensors]
        found = [read_type(item) for item in ([proto.tp] if kind == 13 else proto.type_protos)]
        if None in found:
            raise InvalidGraph(f"Attribute '{where}' holds an incomplete or opaque type.")
        return found[0] if kind == 13 else found

    # --- values

    def _value_infos(self, infos: Iterable[onnx.ValueInfoProto]) -> dict[str, Value]:
        """What the file says about values, by name, on Values that stand for them."""
        found = {}
        for info in infos:
            check.require_text(info.name)
            value = found[info.name] = Value(info.name)
            self._describe(value, info)
        return found

    def _describe(self, value: Value, info: onnx.ValueInfoProto) -> None:
        if info.HasField("type"):
            value.type = read_type(info.type)
            check.require_text(info.type.denotation)
            if info.type.denotation:
                value.metadata[DENOTATION] = info.type.denotation
            for index, dim in enumerate(info.type.tensor_type.shape.dim):
                check.require_text(dim.denotation)
                if dim.denotation:
                    value.metadata[f"{DENOTATION}.{index}"] = dim.denotation
        if info.metadata_props:
            value.metadata.update(_metadata(info))


def read_function(proto: onnx.FunctionProto, imports: dict[str, int]) -> Function:
    """A function that stands alone, as those of operator schemas; `imports` fills its own."""
    import onnx

    def no_files(tensor: str, entries: dict[str, str], nbytes: int) -> memoryview:
        raise InvalidGraph(f"Tensor '{tensor}' of a function has external data.")

    reader = ModelReader(onnx.ModelProto(), TensorReader([], 0, no_files, False))
    return reader.function(proto, imports)


def _described(name: str, types: dict[str, Value]) -> Value:
    value = Value(name)
    known = types.get(name)
    if known is not None and name:
        value.type, value.metadata = known.type, known.metadata
    return value


def _define(scope: dict[str, Value], value: Value, **by: str) -> None:
    if value.name in scope:
        raise Fail(
            f"This is an invalid model. Error: Duplicate definition of name ({value.name}).", **by
        )
    scope[value.name] = value


def _metadata(proto: Any) -> dict[str, str]:
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    if entries:
        check.require_text(*entries, *entries.values())
    return entries


def read_type(proto: onnx.TypeProto) -> Type | None:
    """The type; None when it is left open or opaque."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type" or kind == "sparse_tensor_type":
        tensor = proto.tensor_type if kind == "tensor_type" else proto.sparse_tensor_type
        dtype = _dtype(tensor.elem_type)
        if dtype is DataType.UNDEFINED:
            return None
        shape = read_shape(tensor.shape) if tensor.HasField("shape") else None
        if kind == "tensor_type":
            return TensorType(dtype, shape)
        return SparseTensorType(dtype, shape)
    if kind == "sequence_type":
        element = read_type(proto.sequence_type.elem_type)
        return None if element is None else SequenceType(element)
    if kind == "optional_type":
        element = read_type(proto.optional_type.elem_type)
        return None if element is None else OptionalType(element)
    if kind == "map_type":
        element = read_type(proto.map_type.value_type)
        key = _dtype(proto.map_type.key_type)
        return None if element is None or key is DataType.UNDEFINED else MapType(key, element)
    return None


def read_shape(proto: onnx.TensorShapeProto) -> Shape:
    return tuple(_dim(dim) for dim in proto.dim)


def _dim(proto: onnx.TensorShapeProto.Dimension) -> Dim:
    kind = proto.WhichOneof("value")
    if kind == "dim_value":
        return int(proto.dim_value) if proto.dim_value >= 0 else None
    check.require_text(proto.dim_param)
    if proto.dim_param.startswith(SIZE_MARK):
        raise InvalidGraph("A size has a name that starts with a control character.")
    return proto.dim_param or None


def _dtype(number: int) -> DataType:
    try:
        return DataType(number)
    except ValueError:
        raise InvalidGraph(f"A type has the unknown element type {number}.") from None
