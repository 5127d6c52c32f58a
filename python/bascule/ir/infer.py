# SPDX-License-Identifier: Apache-2.0
"""Type and shape inference, by onnx, on a skeleton of the model without its big constants."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import onnx
from onnx.shape_inference import InferenceError, infer_shapes

from bascule.errors import Fail
from bascule.ir.check_types import check_types
from bascule.ir.constant import Constant
from bascule.ir.deserialize import read_type
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.serialize import Definitions, ModelWriter, write_inline, write_type
from bascule.ir.symbols import settle_names
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

_INLINE_BYTES = 1024
"""Constants up to this size take part in inference by their elements: shapes, axes, sizes."""

_GRAPH, _GRAPHS = 5, 10

_ERROR_STEP = re.compile(r"\(op_type:\w+(?:, node name: (\d+))?\): ")


def infer_types(
    model: Model, definitions: Definitions | None = None, *, check: bool = True
) -> None:
    """Give every value the type and shape that follow from the inputs, nested graphs included.

    What the file declares fills the gaps; where it contradicts, what is inferred holds, except for
    graph inputs. `definitions` gives the functions behind fused nodes. With `check`, types that a
    schema forbids, declared element types that are wrong, and static shapes that contradict each
    other are refused.
    """
    skeleton = _SkeletonWriter(model, definitions, with_types=False)
    inferred, errors = _run(skeleton)
    inferred = settle_names(inferred, _known(model, skeleton))
    improved = False
    for graph in model.graph.walk_graphs():
        fixed = {id(value) for value in graph.inputs} if graph.parent is None else set()
        for value in _values(graph):
            found = inferred.get(skeleton.name(value))
            if id(value) in fixed:
                continue
            if check:
                _check_declared(value, found)
            merged = merge_types(found, value.type, keep_names=value.is_graph_output)
            improved = improved or merged != found
            value.type = merged
    if check:
        check_types(model)
        _raise_contradiction(skeleton, errors)
    if not improved:
        return
    # Something was declared that inference did not know: with it, more may follow.
    skeleton = _SkeletonWriter(model, definitions, with_types=True)
    inferred, _ = _run(skeleton)
    inferred = settle_names(inferred, _known(model, skeleton))
    for graph in model.graph.walk_graphs():
        for value in _values(graph):
            if value.owner is None or graph.parent is not None:
                found = inferred.get(skeleton.name(value))
                value.type = merge_types(found, value.type, keep_names=value.is_graph_output)


def _known(model: Model, skeleton: ModelWriter) -> Iterator[tuple[str, Type | None, bool]]:
    """Each value's name, type so far, and whether inference did not see that type."""
    for graph in model.graph.walk_graphs():
        for value in _values(graph):
            is_input = value.producer is None and graph.parent is None
            yield skeleton.name(value), value.type, not is_input and not value.is_graph_output


def merge_types(inferred: Type | None, declared: Type | None, *, keep_names: bool) -> Type | None:
    """The inferred type, its gaps filled from the declared one.

    `keep_names` prefers the declared names of symbolic sizes.
    """
    if inferred is None or declared is None or type(inferred) is not type(declared):
        return declared if inferred is None else inferred
    if isinstance(inferred, (TensorType, SparseTensorType)):
        assert isinstance(declared, (TensorType, SparseTensorType))
        shape = _merge_shapes(inferred.shape, declared.shape, keep_names)
        return type(inferred)(inferred.dtype, shape)
    if isinstance(inferred, (SequenceType, OptionalType)):
        assert isinstance(declared, (SequenceType, OptionalType))
        element = merge_types(inferred.element, declared.element, keep_names=keep_names)
        assert element is not None
        return type(inferred)(element)
    assert isinstance(declared, MapType)
    element = merge_types(inferred.value, declared.value, keep_names=keep_names)
    assert element is not None
    return MapType(inferred.key, element)


def _merge_shapes(inferred: Shape | None, declared: Shape | None, keep_names: bool) -> Shape | None:
    if inferred is None or declared is None:
        return declared if inferred is None else inferred
    if len(inferred) != len(declared):
        return inferred
    return tuple(_merge_dims(i, d, keep_names) for i, d in zip(inferred, declared))


def _merge_dims(inferred: Dim, declared: Dim, keep_names: bool) -> Dim:
    if isinstance(inferred, int) or declared is None:
        return inferred
    if inferred is None or isinstance(declared, int) or keep_names:
        return declared
    return inferred


class _SkeletonWriter(ModelWriter):
    """Writes what inference needs: small constants with their elements, others as a type only.

    Nodes are named by their number in `nodes`, so that an error leads back to the node.
    """

    def __init__(self, model: Model, definitions: Definitions | None, with_types: bool) -> None:
        super().__init__(model, _write_small, definitions)
        self._with_types = with_types
        self._inputs = {id(v) for graph in model.graph.walk_graphs() for v in graph.inputs}
        self.nodes: list[Node] = []

    def initializer(self, value: Value, constant: Constant, proto: onnx.GraphProto) -> None:
        if constant.nbytes <= _INLINE_BYTES:
            super().initializer(value, constant, proto)
        elif id(value) not in self._inputs:
            self._state(value, TensorType(constant.dtype, constant.shape), proto)

    def node(self, node: Node, graph: onnx.GraphProto | onnx.FunctionProto) -> None:
        constant = node.attributes.get("value")
        if (
            node.is_op("Constant")
            and isinstance(constant, Constant)
            and constant.nbytes > _INLINE_BYTES
            and isinstance(graph, onnx.GraphProto)
        ):
            self._state(node.output, TensorType(constant.dtype, constant.shape), graph)
            return
        long_range = _long_range(node)
        if long_range is not None and isinstance(graph, onnx.GraphProto):
            self._state(node.output, long_range, graph)
            return
        number = len(self.nodes)
        self.nodes.append(node)
        super().node(node, graph)
        graph.node[-1].name = str(number)

    def declare(self, value: Value, proto: onnx.GraphProto) -> None:
        if self._with_types:
            super().declare(value, proto)

    def value_info(self, value: Value, proto: onnx.ValueInfoProto) -> None:
        proto.name = self.name(value)
        if value.type is not None and (self._with_types or value.producer is None):
            write_type(value.type, proto.type)

    def _state(self, value: Value, type: TensorType, graph: onnx.GraphProto) -> None:
        """State a value's type in place of its origin."""
        write_type(type, graph.value_info.add(name=self.name(value)).type)


def _long_range(node: Node) -> TensorType | None:
    """The type of a Range of many constant numbers, all of which onnx would write down."""
    bounds = [None if value is None else value.constant for value in node.inputs]
    if not node.is_op("Range") or len(bounds) != 3 or None in bounds:
        return None
    start, limit, delta = (float(c.numpy().reshape(-1)[0]) for c in bounds if c is not None)
    count = (limit - start) / delta if delta else 0.0
    if not math.isfinite(count) or count <= _INLINE_BYTES or bounds[0] is None:
        return None
    return TensorType(bounds[0].dtype, (math.ceil(count),))


def _write_small(constant: Constant, proto: onnx.TensorProto) -> None:
    if constant.nbytes <= _INLINE_BYTES:
        write_inline(constant, proto)


def _run(skeleton: _SkeletonWriter) -> tuple[dict[str, Type], str]:
    """The types that onnx infers, by name, and the errors that it found."""
    serialized = skeleton.write().SerializeToString()
    errors = ""
    try:
        result = infer_shapes(serialized, strict_mode=True, data_prop=True)
    except InferenceError as error:
        errors = str(error)
        try:
            result = infer_shapes(serialized, strict_mode=False, data_prop=True)
        except InferenceError as fatal:
            raise Fail(f"Types cannot be inferred: {fatal}") from None
    found: dict[str, Type] = {}
    _collect(result.graph, found)
    return found, errors


def _collect(graph: onnx.GraphProto, found: dict[str, Type]) -> None:
    for infos in (graph.input, graph.value_info, graph.output):
        for info in infos:
            type = read_type(info.type)
            if type is not None:
                found[info.name] = type
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == _GRAPH:
                _collect(attribute.g, found)
            elif attribute.type == _GRAPHS:
                for nested in attribute.graphs:
                    _collect(nested, found)


def _values(graph: Graph) -> Iterator[Value]:
    """Inputs and what nodes make; the type of an initializer is its own."""
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _check_declared(value: Value, found: Type | None) -> None:
    declared = value.dtype
    if not isinstance(found, TensorType) or not isinstance(value.type, TensorType):
        return
    if declared is not found.dtype and value.producer is not None:
        node = value.producer
        raise Fail(
            f"Type Error: Type ({value.type}) of output arg ({value.name}) of node ({node.name}) "
            f"does not match expected type ({found}).",
            op=node.op_type,
        )


def _raise_contradiction(skeleton: _SkeletonWriter, errors: str) -> None:
    """Raise the first error that no feed could make good: all sizes it speaks of are numbers."""
    for line in errors.splitlines():
        # "(op_type:If, node name: 1): ... (op_type:Add, node name: 2): reason": the last is at
        # fault. It has no number in the function of an operator, where onnx itself may be wrong.
        steps = list(_ERROR_STEP.finditer(line))
        if not steps or steps[-1][1] is None:
            continue
        node, reason = skeleton.nodes[int(steps[-1][1])], line[steps[-1].end() :]
        if "Inferred shape and existing shape differ" in reason:
            continue
        if "expected to have type but instead is null" in reason:  # what made it has no inference
            continue
        shapes = [None if v is None else v.static_shape for v in node.inputs]
        if any(v is not None and shape is None for v, shape in zip(node.inputs, shapes)):
            continue
        listed = ", ".join(
            f"{v.name} {list(shape)}"
            for v, shape in zip(node.inputs, shapes)
            if v is not None and shape is not None
        )
        raise Fail(f"Node ({node.name}) Op ({node.op_type}) {reason}", inputs=listed)
