# SPDX-License-Identifier: Apache-2.0
"""convert_float_to_float16: a ModelProto whose float32 tensors are float16."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16

DEFAULT_OP_BLOCK_LIST = (
    *("NonMaxSuppression", "TopK", "RoiAlign", "Range", "CumSum", "Min", "Max", "Upsample"),
    *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"),
)
"""Operators that stay in float32: for some runtimes lack them in float16, or their results show."""

_TYPED = ("to", "dtype", "output_datatype")
"""Attributes that name an element type."""

_FLOAT_BY_DEFAULT = {
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
    "HannWindow": "output_datatype",
    "HammingWindow": "output_datatype",
    "BlackmanWindow": "output_datatype",
}
"""Operators whose results are float32 unless this attribute says otherwise."""


def convert_float_to_float16(
    model: onnx.ModelProto | str,
    min_positive_val: float = 5.96e-08,
    max_finite_val: float = 65504.0,
    keep_io_types: bool | Collection[str] = False,
    disable_shape_infer: bool = False,
    op_block_list: Collection[str] | None = None,
    node_block_list: Collection[str] | None = None,
    force_fp16_initializers: bool = False,
    **ignored: Any,
) -> onnx.ModelProto:
    """A copy of a model that computes in float16.

    Args:
        model: a ModelProto, or the path of one.
        min_positive_val: weights nearer to zero are moved to this size.
        max_finite_val: greater weights are clipped to this size.
        keep_io_types: all inputs and outputs, or those of these names, stay float32.
        disable_shape_infer: take types from the model alone, without inference.
        op_block_list: operators that stay in float32, by default DEFAULT_OP_BLOCK_LIST.
        node_block_list: names of nodes that stay in float32.
        force_fp16_initializers: accepted; weights of nodes in float32 stay exact.
        **ignored: other options of onnxruntime's function.

    Operators of domain ai.onnx.ml stay, too, and so does what a schema does not have in float16.
    Nested graphs are converted as the graph around them.
    """
    converted = onnx.load(model) if isinstance(model, str) else onnx.ModelProto()
    if isinstance(model, onnx.ModelProto):
        converted.CopyFrom(model)
    source = converted if disable_shape_infer else onnx.shape_inference.infer_shapes(converted)
    ops = set(DEFAULT_OP_BLOCK_LIST if op_block_list is None else op_block_list)
    work = _Conversion(converted, ops, set(node_block_list or ()), min_positive_val, max_finite_val)
    names = [value.name for value in (*converted.graph.input, *converted.graph.output)]
    if keep_io_types is True:
        kept = set(names)
    else:
        kept = set(keep_io_types or ())
    work.run(source, kept)
    return converted


class _Conversion:
    def __init__(
        self,
        model: onnx.ModelProto,
        ops: set[str],
        nodes: set[str],
        least: float,
        most: float,
    ) -> None:
        self.model = model
        self.ops = ops
        self.nodes = nodes
        self.least, self.most = least, most
        self.versions = {each.domain: each.version for each in model.opset_import}
        self.floats: set[str] = set()
        """What was float32."""
        self.taken: set[str] = set()

    def run(self, inferred: onnx.ModelProto, kept: set[str]) -> None:
        """Convert in place; values named in `kept` are float32 at the border of the model."""
        for graph in _graphs(inferred.graph):
            self.taken |= {name for node in graph.node for name in (*node.input, *node.output)}
            self.floats |= {each.name for each in graph.initializer if each.data_type == FLOAT}
            for value in (*graph.input, *graph.value_info, *graph.output):
                if value.type.tensor_type.elem_type == FLOAT:
                    self.floats.add(value.name)
        self._graph(self.model.graph, kept & self.floats)

    def _graph(self, graph: onnx.GraphProto, kept: set[str]) -> None:
        nodes: list[onnx.NodeProto] = []
        narrow: dict[str, str] = {}
        for value in graph.input:
            if value.name in kept:
                narrow[value.name] = self._unique(f"{value.name}_fp16")
                nodes.append(self._cast(value.name, narrow[value.name], HALF))
        wide_weights = self._weights(graph)
        last: list[onnx.NodeProto] = []
        for node in graph.node:
            self._node(node, nodes, wide_weights, narrow)
        written = {name for node in nodes for name in node.output}
        for value in graph.output:
            if value.name in kept and value.name in written:
                inner = self._unique(f"{value.name}_fp16")
                _rename(nodes, {value.name: inner})
                last.append(self._cast(inner, value.name, FLOAT))
        _replace(graph.node, nodes + last)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == FLOAT and value.name not in kept:
                value.type.tensor_type.elem_type = HALF

    def _weights(self, graph: onnx.GraphProto) -> set[str]:
        """Make initializers narrow, but for those that only float32 is wanted of."""
        readers: dict[str, list[bool]] = {}
        for each in _graphs(graph):
            for node in each.node:
                for i, name in enumerate(node.input):
                    readers.setdefault(name, []).append(self._is_wide(node, i))
        wide = set()
        for tensor in graph.initializer:
            if tensor.data_type != FLOAT:
                continue
            if readers.get(tensor.name) and all(readers[tensor.name]):
                wide.add(tensor.name)
            else:
                self._narrow(tensor)
        return wide

    def _narrow(self, tensor: onnx.TensorProto) -> None:
        values = numpy_helper.to_array(tensor)
        small = (np.abs(values) < self.least) & (values != 0)
        values = np.where(small, np.copysign(self.least, values), values)
        finite = np.clip(values, -self.most, self.most)
        narrow = np.where(np.isfinite(values), finite, values).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))

    def _is_blocked(self, node: onnx.NodeProto) -> bool:
        if any(each.HasField("g") or each.graphs for each in node.attribute):
            return False
        return node.op_type in self.ops or node.name in self.nodes or node.domain == "ai.onnx.ml"

    def _is_wide(self, node: onnx.NodeProto, i: int, of_output: bool = False) -> bool:
        """Whether an input, or an output, of a node is float32 in any case."""
        if self._is_blocked(node):
            return True
        try:
            version = self.versions.get(node.domain, 1)
            schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        except onnx.defs.SchemaError:
            return False
        formals = schema.outputs if of_output else schema.inputs
        if not formals or i >= len(formals):  # one of many of the last
            return False
        return "tensor(float16)" not in formals[i].types

    def _node(
        self,
        node: onnx.NodeProto,
        nodes: list[onnx.NodeProto],
        wide_weights: set[str],
        narrow: dict[str, str],
    ) -> None:
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for i, name in enumerate(node.input):
            if name not in self.floats:
                continue
            if self._is_wide(node, i):
                if name not in wide_weights:
                    made.input[i] = self._unique(f"{name}_fp32")
                    nodes.append(self._cast(narrow.get(name, name), made.input[i], FLOAT))
            elif name in wide_weights or name in narrow:
                made.input[i] = narrow.get(name, name)
        nodes.append(made)
        for i, name in enumerate(node.output):
            if name in self.floats and self._is_wide(node, i, of_output=True):
                made.output[i] = self._unique(f"{name}_fp32")
                nodes.append(self._cast(made.output[i], name, HALF))
        if self._is_blocked(node):
            return
        given = {attribute.name for attribute in made.attribute}
        name = _FLOAT_BY_DEFAULT.get(node.op_type, "dtype")
        if node.op_type in _FLOAT_BY_DEFAULT and name not in given:
            made.attribute.append(helper.make_attribute(name, HALF))
        if node.op_type == "ConstantOfShape" and not given:
            zero = numpy_helper.from_array(np.zeros(1, np.float16))
            made.attribute.append(helper.make_attribute("value", zero))
        for attribute in made.attribute:
            self._attribute(made, attribute, narrow)

    def _attribute(
        self, node: onnx.NodeProto, attribute: onnx.AttributeProto, narrow: dict[str, str]
    ) -> None:
        if attribute.name in _TYPED and attribute.i == FLOAT:
            attribute.i = HALF
        elif attribute.HasField("t") and attribute.t.data_type == FLOAT:
            self._narrow(attribute.t)
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value = helper.get_attribute_value(attribute)
            tensor = numpy_helper.from_array(np.asarray(value, np.float32), "")
            self._narrow(tensor)
            attribute.CopyFrom(helper.make_attribute("value", tensor))
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            self._graph(graph, set())
            _rename(graph.node, narrow)

    def _cast(self, source: str, target: str, to: int) -> onnx.NodeProto:
        name = self._unique(f"{target}_cast")
        return helper.make_node("Cast", [source], [target], name=name, to=to)

    def _unique(self, name: str) -> str:
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found


def _rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Other names for values, those that nested graphs read included."""
    for node in nodes:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = names.get(name, name)
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _rename(graph.node, names)


def _replace(field: Any, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del field[:]
    field.extend(copies)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)
