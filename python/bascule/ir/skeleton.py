# SPDX-License-Identifier: Apache-2.0
"""The form of a model that onnx's type inference sees.

It is small: big constants are a type without elements. And it leaves out what onnx's inference is
not safe with. It follows computed shapes through every one-dimensional value of a fixed size by
making that many dimension objects, weights of a million elements included; so long sizes are
written as names, and nodes whose result may turn out one-dimensional wait until that is known.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import onnx

from bascule.ir import check
from bascule.ir.constant import Constant
from bascule.ir.deserialize import SIZE_MARK
from bascule.ir.dtype import DataType
from bascule.ir.einsum import repeating_einsum_type
from bascule.ir.graph import FUSED_DOMAIN, Attribute, Model, Node, Value
from bascule.ir.merge import merge_types
from bascule.ir.resize import type_resized_by_scales, type_resized_to_unknown
from bascule.ir.serialize import Definitions, ModelWriter, write_inline, write_type
from bascule.ir.symbols import is_invented
from bascule.ir.types import SparseTensorType, TensorType, Type

_INLINE_BYTES = 1024
"""Constants up to this size take part in inference by their elements: shapes, axes, sizes."""

_TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_TREE_LISTS = ("nodes_", "class_", "target_")
"""No type depends on the elements or the length of these, which have millions of elements."""

_UNSAFE = {
    ("", "RegexFullMatch"): None,
    ("ai.onnx.ml", "DictVectorizer"): None,
    ("ai.onnx.ml", "LabelEncoder"): 1,
    ("ai.onnx.ml", "TreeEnsemble"): None,
}
"""Operators whose inference crashes where the type of the input is unknown, up to a version."""

_GRAPH, _GRAPHS = onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS

_LARGEST_STRIDE = 1 << 31

_LONGEST = 64
"""A longer one-dimensional value is no shape."""


class SkeletonWriter(ModelWriter):
    """Writes skeletons of a model, as many as there are rounds of inference: it must not change.

    The nodes of a skeleton are named by their number in `nodes`. What is the same in all of them is
    written once and then copied.
    """

    def __init__(self, model: Model, definitions: Definitions | None) -> None:
        super().__init__(model, _write_small, definitions)
        self._inputs = {id(v) for graph in model.graph.walk_graphs() for v in graph.inputs}
        self._written_nodes: dict[Node, onnx.NodeProto] = {}
        self._written_constants: dict[int, onnx.TensorProto] = {}
        self._written_types: dict[Type, onnx.TypeProto] = {}
        self._begin(False, False, {})

    def _begin(self, types_known: bool, compute_shapes: bool, results: Mapping[Node, Type]) -> None:
        self.types_known = types_known
        self.compute_shapes = compute_shapes
        self._results = results
        self._stated: dict[int, Type] = {}
        self.nodes: list[Node] = []
        self.hidden = 0
        """How many nodes were left out."""

    def write_round(
        self,
        results: Mapping[Node, Type],
        *,
        types_known: bool,
        compute_shapes: bool = False,
    ) -> onnx.ModelProto:
        """The skeleton for a round of inference.

        At first only inputs and constants have types; with `types_known`, inner values do as well.
        With `compute_shapes`, what is not safe for inference with propagation of data is left out.
        So are the nodes that inference would get wrong: `results` are their types.
        """
        self._begin(types_known, compute_shapes, results)
        return self.write()

    def initializer(self, value: Value, constant: Constant, proto: onnx.GraphProto) -> None:
        if id(value) in self._written_constants:
            proto.initializer.append(self._written_constants[id(value)])
        elif constant.nbytes <= _INLINE_BYTES:
            super().initializer(value, constant, proto)
            self._written_constants[id(value)] = proto.initializer[-1]
        elif id(value) not in self._inputs:
            self._state(value, TensorType(constant.dtype, constant.shape), proto)

    def node(self, node: Node, graph: onnx.GraphProto | onnx.FunctionProto) -> None:
        if isinstance(graph, onnx.GraphProto):
            constant = node.attributes.get("value") if node.is_op("Constant") else None
            if isinstance(constant, Constant) and constant.nbytes > _INLINE_BYTES:
                self._state(node.output, TensorType(constant.dtype, constant.shape), graph)
                return
            if self._is_hidden(node):
                self.hidden += 1
                for value in node.outputs:
                    self._state(value, self._stand_in(node, value), graph)
                return
        number = len(self.nodes)
        self.nodes.append(node)
        if node in self._written_nodes:
            graph.node.append(self._written_nodes[node])
        else:
            super().node(node, graph)
        written = graph.node[-1]
        written.name = str(number)
        if node.is_op("LayerNormalization") and not (self.types_known and has_safe_axis(node)):
            written.op_type = "Identity"
            del written.attribute[:], written.input[1:], written.output[1:]
        elif node.is_op("RMSNormalization") and len(node.inputs) == 2:
            # By the schema the result has the type of the scale; onnx gives it that of the input.
            written.op_type = "CastLike"
            del written.attribute[:]
        elif isinstance(graph, onnx.GraphProto) and not _holds_graph(written):
            self._written_nodes[node] = written

    def node_metadata(self, node: Node) -> Mapping[str, str]:
        return {}

    def shown_attribute(self, node: Node, name: str, value: Attribute) -> Attribute:
        is_tree_list = node.op_type in _TREES and name.startswith(_TREE_LISTS)
        return value[:1] if is_tree_list and isinstance(value, (list, array)) else value

    def declare(self, value: Value, proto: onnx.GraphProto) -> None:
        if self.types_known:
            super().declare(value, proto)

    def value_info(self, value: Value, proto: onnx.ValueInfoProto) -> None:
        proto.name = self.name(value)
        if id(value) in self._stated:
            self._write_type(self._stated[id(value)], proto)
        elif value.type is not None and (self.types_known or value.producer is None):
            # What a caller calls the sizes of an output proves nothing about the nodes behind it.
            is_claim = value.is_graph_output and value.producer is not None
            type = _without_names(value.type) if is_claim else value.type
            self._write_type(type, proto)

    def _write_type(self, type: Type, proto: onnx.ValueInfoProto) -> None:
        """Write a type; most are those of other values, too, and are copied."""
        written = self._written_types.get(type)
        if written is None:
            written = self._written_types[type] = onnx.TypeProto()
            write_type(_marked(type), written)
        proto.type.CopyFrom(written)

    def _state(self, value: Value, type: Type | None, graph: onnx.GraphProto) -> None:
        """State a value's type in place of its origin."""
        info = graph.value_info.add(name=self.name(value))
        if type is not None:
            self._stated[id(value)] = type
            self._write_type(type, info)

    def _stand_in(self, node: Node, value: Value) -> Type | None:
        """What to state of an output whose node is left out; of declared sizes at first nothing."""
        known = value.type if self.types_known else _without_sizes(value.type)
        if node in self._results and value is node.outputs[0]:
            return merge_types(self._results[node], known, keep_names=False)
        return known or _element_type_only(node)

    def _is_hidden(self, node: Node) -> bool:
        if node in self._results:
            return True
        if node.opset is not None and self._means_another_form(node, node.opset):
            return True
        if self._is_unsafe(node):
            return True
        if node.is_op("ConstantOfShape"):
            shape = node.input(0)
            if shape is not None and not _is_constant(shape):
                # The result has as many dimensions as the input has elements.
                length = shape.static_shape if self.types_known else None
                return length is None or len(length) != 1 or length[0] > _LONGEST
        if not self.compute_shapes or node.subgraphs:
            return False
        return any(_may_be_long(value.type) for value in node.outputs if not value.is_unused)

    def _is_unsafe(self, node: Node) -> bool:
        key = node.domain, node.op_type
        if key not in _UNSAFE:
            return False
        last = _UNSAFE[key]
        if last is not None and self._opsets.get(node.domain, 1) > last:
            return False
        value = node.input(0)
        if value is None or value.producer is None:
            return value is None or value.type is None
        return not self.types_known or value.type is None

    def _means_another_form(self, node: Node, opset: int) -> bool:
        own = check.schema(node.op_type, opset, node.domain)
        models = check.schema(node.op_type, self._opsets.get(node.domain, opset), node.domain)
        return own != models


def _holds_graph(proto: onnx.NodeProto) -> bool:
    return any(each.type in (_GRAPH, _GRAPHS) for each in proto.attribute)


def has_safe_axis(node: Node) -> bool:
    """Whether a LayerNormalization's axis is in range: else onnx reads past the shape."""
    value = node.input(0)
    rank = None if value is None else value.rank
    axis = node.attribute("axis", -1)
    return rank is not None and isinstance(axis, int) and -rank <= axis < rank


def type_got_wrong(node: Node, types: Sequence[Type | None]) -> TensorType | None:
    """The type of a node's result where onnx would get it wrong, by the types of its inputs."""
    if node.is_op("Attention"):
        return _type_without_width(types)
    if node.is_op("Resize") or node.is_op("Upsample"):
        return type_resized_by_scales(node, types) or type_resized_to_unknown(node, types)
    if node.is_op("ConvTranspose") or node.is_op("ConvTranspose", domain=FUSED_DOMAIN):
        return _type_of_no_elements(node, types) or _type_of_same_size(node, types)
    if node.is_op("Einsum"):
        return repeating_einsum_type(node.attributes.get("equation"), types)
    return _type_without_sizes(node, types) if node.is_op("Slice") else None


def _type_without_sizes(node: Node, types: Sequence[Type | None]) -> TensorType | None:
    """The type of Slice's result: onnx overlooks axes and steps whose shape is unknown."""
    cut = [type for value, type in zip(node.inputs[3:], types[3:]) if value is not None]
    if all(isinstance(type, TensorType) and type.shape is not None for type in cut):
        return None
    source = types[0]
    if not isinstance(source, TensorType):
        return None
    return TensorType(source.dtype, None if source.shape is None else (None,) * len(source.shape))


def _type_of_no_elements(node: Node, types: Sequence[Type | None]) -> TensorType | None:
    """The type of a ConvTranspose with a size of 0 in `output_shape`: onnx leaves out that axis."""
    x = types[0] if types else None
    if all(size > 0 for size in node.attribute("output_shape", None) or ()):
        return None
    if not isinstance(x, TensorType) or x.shape is None:
        return None
    return TensorType(x.dtype, (None,) * len(x.shape))


def _type_of_same_size(node: Node, types: Sequence[Type | None]) -> TensorType | None:
    """The type of a ConvTranspose that keeps sizes but for its strides, whatever its kernel is."""
    x, w = (*types, None, None)[:2]
    is_same = str(node.attribute("auto_pad", "")).startswith("SAME")
    if not is_same or "output_shape" in node.attributes:
        return None
    if not isinstance(x, TensorType) or not isinstance(w, TensorType) or x.shape is None:
        return None
    rank = len(x.shape) - 2
    strides = node.attribute("strides", None) or [1] * rank
    if w.shape is None or len(w.shape) != len(x.shape) or len(strides) != rank or rank < 1:
        return None
    if not all(0 < step < _LARGEST_STRIDE for step in strides):
        return None  # the kernel says so
    group, depth = node.attribute("group", 1), w.shape[1]
    channels = depth * group if isinstance(depth, int) else None
    is_last = bool(node.attribute("channels_last", 0))
    before = x.shape[1:-1] if is_last else x.shape[2:]
    sizes = [n * step if isinstance(n, int) else None for n, step in zip(before, strides)]
    return TensorType(
        x.dtype, (x.shape[0], *((*sizes, channels) if is_last else (channels, *sizes)))
    )


def _type_without_width(types: Sequence[Type | None]) -> TensorType | None:
    """The type of Attention's result where onnx takes an unknown size of the values for 0."""
    query, _, value = (*types, None, None, None)[:3]
    if not isinstance(query, TensorType) or query.shape is None or len(query.shape) != 3:
        return None
    shape = value.shape if isinstance(value, TensorType) else None
    if shape and isinstance(shape[-1], int):
        return None
    return TensorType(query.dtype, (*query.shape[:2], None))


def restore_sizes(type: onnx.TypeProto) -> None:
    """Put the fixed sizes back in place of their names."""
    for dim in type.tensor_type.shape.dim:
        if dim.dim_param.startswith(SIZE_MARK):
            dim.dim_value = int(dim.dim_param[1:])


def _without_sizes(type: Type | None) -> Type | None:
    if not isinstance(type, TensorType) or type.shape is None:
        return type
    return TensorType(type.dtype, (None,) * len(type.shape))


def _without_names(type: Type) -> Type:
    if not isinstance(type, TensorType) or type.shape is None:
        return type
    return TensorType(type.dtype, tuple(d if isinstance(d, int) else None for d in type.shape))


def _marked(type: Type) -> Type:
    """The type with a name for a long size, and without sizes that only have an invented name."""
    if not isinstance(type, TensorType) or type.shape is None:
        return type
    shape = tuple(None if is_invented(dim) else dim for dim in type.shape)
    if len(shape) == 1 and isinstance(shape[0], int) and shape[0] > _LONGEST:
        shape = (f"{SIZE_MARK}{shape[0]}",)
    return TensorType(type.dtype, shape)


def _may_be_long(type: Type | None) -> bool:
    """Whether a value is, or may turn out, a long one-dimensional one."""
    if type is None:
        return True
    if not isinstance(type, (TensorType, SparseTensorType)):
        return False
    if type.shape is None:
        return True
    size = type.shape[0] if len(type.shape) == 1 else 0
    return not isinstance(size, int) or size > _LONGEST


def _element_type_only(node: Node) -> Type | None:
    if not node.is_op("ConstantOfShape"):
        return None
    value = node.attribute("value")
    return TensorType(value.dtype if isinstance(value, Constant) else DataType.FLOAT)


def _is_constant(value: Value) -> bool:
    if value.producer is None:
        return value.constant is not None
    return value.producer.is_op("Constant")


def _write_small(constant: Constant, proto: onnx.TensorProto) -> None:
    if constant.nbytes <= _INLINE_BYTES:
        write_inline(constant, proto)
