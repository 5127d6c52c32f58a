# SPDX-License-Identifier: Apache-2.0
"""A ModelProto whose float32 values become float16 or bfloat16, but for those of some nodes.

A value has one form, or both: what makes it decides which it is made in, and a Cast behind that
makes the other one if somebody reads it. The form that it is made in keeps its name, except at the
border of a graph, where the name belongs to the type that is promised there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bascule.ir.walk import graphs_in, graphs_in_attribute, graphs_of

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16

TYPE_NAMES = {HALF: "float16", BFLOAT: "bfloat16"}
_SUFFIXES = {FLOAT: "fp32", HALF: "fp16", BFLOAT: "bf16"}
_LARGEST = {HALF: 65504.0, BFLOAT: 3.3895313892515355e38}

_TYPED = ("to", "dtype", "output_datatype", "output_dtype")
"""Attributes that name an element type."""

_FLOAT_BY_DEFAULT = {
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
    "HannWindow": "output_datatype",
    "HammingWindow": "output_datatype",
    "BlackmanWindow": "output_datatype",
    "MelWeightMatrix": "output_datatype",
}
"""Operators whose results are float32 unless this attribute says otherwise."""

_ENTERED = ("If", "Loop", "Scan")
"""Operators whose graphs are converted; those of others are left as they are, in float32."""

_DEFAULT_OPSET = 13
"""Of Cast, where a model has no opset of the standard's domain."""

_PIECE = 1 << 22
"""Elements that are narrowed at a time."""

Narrow = Callable[[onnx.TensorProto], None]
Forms = dict[bool, str]
"""The names of a value: of its wide form (True) and its narrow one (False)."""


def narrow_tensor(
    tensor: onnx.TensorProto, to: int = HALF, least: float = 0.0, most: float | None = None
) -> None:
    """Make a float32 tensor narrow, in place; as narrow_array."""
    values = narrow_array(numpy_helper.to_array(tensor), to, least, most)
    kept = tensor.doc_string, list(tensor.metadata_props)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    if kept[0]:
        tensor.doc_string = kept[0]
    tensor.metadata_props.extend(kept[1])


def narrow_array(
    values: np.ndarray[Any, Any], to: int, least: float = 0.0, most: float | None = None
) -> np.ndarray[Any, Any]:
    """float32 values rounded to a narrow type.

    Those nearer to zero than `least` are moved to it, and finite ones beyond `most`, by default the
    largest number of the type, are clipped.
    """
    most = _LARGEST[to] if most is None else most
    found = np.empty(values.shape, helper.tensor_dtype_to_np_dtype(to))
    source, target = values.reshape(-1), found.reshape(-1)
    for start in range(0, source.size, _PIECE):
        piece = source[start : start + _PIECE]
        if least:
            small = (np.abs(piece) < least) & (piece != 0)
            piece = np.where(small, np.copysign(np.float32(least), piece), piece)
        finite = np.clip(piece, -most, most)
        target[start : start + _PIECE] = np.where(np.isinf(piece), piece, finite)
    return found


class Rewriting:
    """Makes one model narrow."""

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        floats: Collection[str],
        is_blocked: Callable[[onnx.NodeProto], bool],
        to: int = HALF,
        narrow: Narrow | None = None,
    ) -> None:
        """`floats` are the names of all float32 tensors; `narrow` makes a tensor narrow in place.

        Nodes for which `is_blocked` keep all their float32 inputs and outputs.
        """
        self._model = model
        self._floats = frozenset(floats)
        self._blocks = is_blocked
        self._to = to
        self._type = f"tensor({TYPE_NAMES[to]})"
        self._narrow = narrow or (lambda tensor: narrow_tensor(tensor, to))
        self._versions = {each.domain: each.version for each in model.opset_import}
        self._demands: dict[str, set[bool]] = {}
        self._taken: set[str] = set()

    def run(self, kept: Collection[str] = ()) -> None:
        """Convert in place; inputs and outputs named in `kept` stay float32."""
        graph = self._model.graph
        for each in graphs_in(graph):
            self._taken |= {name for node in each.node for name in (*node.input, *node.output)}
            self._taken |= {tensor.name for tensor in each.initializer}
            self._taken |= {value.name for value in (*each.input, *each.output)}
        wide = {name for name in kept if name in self._floats}
        self._collect_demands(graph, wide)
        self._graph(graph, wide, {})
        has_casts = any(node.op_type == "Cast" for each in graphs_in(graph) for node in each.node)
        if has_casts and not {"", "ai.onnx"} & set(self._versions):
            self._model.opset_import.add(domain="", version=_DEFAULT_OPSET)

    # --- which forms are read

    def _collect_demands(self, graph: onnx.GraphProto, wide: Collection[str]) -> None:
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name in self._floats:
                    self._demands.setdefault(name, set()).add(self.is_wide(node, i))
            for inner in graphs_of(node):
                if self.is_blocked(node):
                    for name in _read_in(inner) & self._floats:
                        self._demands.setdefault(name, set()).add(True)
                else:
                    self._collect_demands(inner, self._wide_border(node, inner))
        for value in graph.output:
            if value.name in self._floats:
                self._demands.setdefault(value.name, set()).add(value.name in wide)

    def _wide_border(self, node: onnx.NodeProto, inner: onnx.GraphProto) -> set[str]:
        """The inputs and outputs of a nested graph that are float32, as its node has no others."""
        schema = self._schema(node)
        if schema is None or self._type in schema.outputs[0].types:
            return set()
        return {value.name for value in (*inner.input, *inner.output)} & self._floats

    def is_blocked(self, node: onnx.NodeProto) -> bool:
        """Whether a node stays in float32 as a whole."""
        if any(True for _ in graphs_of(node)):
            return node.op_type not in _ENTERED
        return self._blocks(node)

    def is_wide(self, node: onnx.NodeProto, i: int, of_output: bool = False) -> bool:
        """Whether an input, or an output, of a node is float32 in any case."""
        if self.is_blocked(node):
            return True
        schema = self._schema(node)
        if schema is None:
            return False
        if of_output and i > 0 and node.op_type == "LayerNormalization":  # by its stash_type
            return True
        formals = schema.outputs if of_output else schema.inputs
        if formals and i >= len(formals):  # one of many of the last
            i = len(formals) - 1
        return bool(formals) and self._type not in formals[i].types

    def _schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
        try:
            version = self._versions.get(node.domain, 1)
            return onnx.defs.get_schema(node.op_type, version, node.domain)
        except onnx.defs.SchemaError:
            return None

    def _made_wide(self, node: onnx.NodeProto, i: int) -> bool:
        name = node.output[i]
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            is_sparse = any(each.name == "sparse_value" for each in node.attribute)
            return is_sparse or True in self._demands.get(name, ())
        return self.is_wide(node, i, of_output=True)

    # --- the graph

    def _graph(
        self, graph: onnx.GraphProto, wide: Collection[str], outer: Mapping[str, Forms]
    ) -> None:
        """Convert a graph whose inputs and outputs named in `wide` stay float32."""
        scope = dict(outer)
        border = {value.name: value.name in wide for value in (*graph.output, *graph.input)}
        nodes: list[onnx.NodeProto] = []
        inputs = {value.name for value in graph.input}
        for name in inputs & self._floats:
            self._define(name, border[name], border, scope, nodes)
        self._weights(graph, inputs, border, scope, nodes)
        casts: list[list[onnx.NodeProto]] = []
        for node in graph.node:  # all of them first: nodes may stand in any order
            casts.append([])
            for i, name in enumerate(node.output):
                if name in self._floats:
                    self._define(name, self._made_wide(node, i), border, scope, casts[-1])
        for node, more in zip(graph.node, casts):
            nodes += [self._node(node, scope), *more]
        _replace(graph.node, nodes)
        for value in (*graph.input, *graph.output, *graph.value_info):
            forms = scope.get(value.name, {})
            if value.type.tensor_type.elem_type == FLOAT and forms.get(False) == value.name:
                value.type.tensor_type.elem_type = self._to

    def _define(
        self,
        name: str,
        is_wide: bool,
        border: Mapping[str, bool],
        scope: dict[str, Forms],
        nodes: list[onnx.NodeProto],
    ) -> None:
        """Name the forms of a value that is made wide or narrow, and make the other one."""
        wanted = {is_wide, *self._demands.get(name, ())}
        own = border.get(name, is_wide)
        forms = {form: name if form is own else self._other_name(name, form) for form in wanted}
        scope[name] = forms
        if len(forms) > 1:
            target = self._to if is_wide else FLOAT
            nodes.append(self._cast(forms[is_wide], forms[not is_wide], target))

    def _other_name(self, name: str, is_wide: bool) -> str:
        return self._unique(f"{name}_{_SUFFIXES[FLOAT if is_wide else self._to]}")

    def _weights(
        self,
        graph: onnx.GraphProto,
        inputs: Collection[str],
        border: Mapping[str, bool],
        scope: dict[str, Forms],
        nodes: list[onnx.NodeProto],
    ) -> None:
        """Initializers in the forms that are read: a weight of both is there twice."""
        for tensor in list(graph.initializer):
            name = tensor.name
            if tensor.data_type != FLOAT:
                continue
            if name in inputs:  # the default of an input
                if not border[name]:
                    self._narrow(tensor)
                continue
            wanted = set(self._demands.get(name, ())) or {False}
            own = border.get(name, wanted == {True})
            forms = {form: name if form is own else self._other_name(name, form) for form in wanted}
            scope[name] = forms
            if len(forms) > 1:
                copy = graph.initializer.add()
                copy.CopyFrom(tensor)
                copy.name = forms[not own]
                if own:
                    self._narrow(copy)
            if not own:
                self._narrow(tensor)
        for sparse in graph.sparse_initializer:
            if sparse.values.data_type == FLOAT:
                self._define(sparse.values.name, True, border, scope, nodes)

    def _node(self, node: onnx.NodeProto, scope: Mapping[str, Forms]) -> onnx.NodeProto:
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for i, name in enumerate(node.input):
            if name in self._floats and name in scope:
                made.input[i] = scope[name][self.is_wide(node, i)]
        keeps = False
        for i, name in enumerate(node.output):
            if name in self._floats:
                keeps = self._made_wide(node, i)
                made.output[i] = scope[name][keeps]
        if self.is_blocked(node):
            wide = {name: forms[True] for name, forms in scope.items() if True in forms}
            for inner in graphs_of(made):
                _rename(inner, wide)
        if self.is_blocked(node) or (keeps and node.op_type == "Constant"):
            return made
        given = {attribute.name for attribute in made.attribute}
        name = _FLOAT_BY_DEFAULT.get(node.op_type, "dtype")
        if node.op_type in _FLOAT_BY_DEFAULT and name not in given and not keeps:
            made.attribute.append(helper.make_attribute(name, self._to))
        if node.op_type == "ConstantOfShape" and not given and not keeps:
            zero = numpy_helper.from_array(np.zeros(1, np.float32))
            made.attribute.append(helper.make_attribute("value", zero))
        for attribute in made.attribute:
            if not keeps:
                self._attribute(made, attribute)
            for inner in graphs_in_attribute(attribute):
                self._graph(inner, self._wide_border(node, inner), scope)
        return made

    def _attribute(self, node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
        if attribute.name in _TYPED and attribute.i == FLOAT:
            attribute.i = self._to
        elif attribute.HasField("t") and attribute.t.data_type == FLOAT:
            self._narrow(attribute.t)
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value = helper.get_attribute_value(attribute)
            tensor = numpy_helper.from_array(np.asarray(value, np.float32), "")
            self._narrow(tensor)
            attribute.CopyFrom(helper.make_attribute("value", tensor))

    def _cast(self, source: str, target: str, to: int) -> onnx.NodeProto:
        name = self._unique(f"{target}_cast")
        return helper.make_node("Cast", [source], [target], name=name, to=to)

    def _unique(self, name: str) -> str:
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found


def _read_in(graph: onnx.GraphProto) -> set[str]:
    """All names that the nodes of a graph and of those in it read."""
    return {name for each in graphs_in(graph) for node in each.node for name in node.input}


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Other names for what the nodes of a graph read of the graphs around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    outer = {name: other for name, other in names.items() if name not in own}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = outer.get(name, name)
        for inner in graphs_of(node):
            _rename(inner, outer)


def declared_floats(model: onnx.ModelProto) -> set[str]:
    """The names of the float32 tensors whose type the model states."""
    found: set[str] = set()
    for graph in graphs_in(model.graph):
        found |= {each.name for each in graph.initializer if each.data_type == FLOAT}
        found |= {
            each.values.name for each in graph.sparse_initializer if each.values.data_type == FLOAT
        }
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.elem_type == FLOAT:
                found.add(value.name)
    return found


def _replace(field: Any, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del field[:]
    field.extend(copies)
