# SPDX-License-Identifier: Apache-2.0
"""Types of single values, inferred from the nodes behind them when a rewrite asks.

Inference over the whole model stops at every operator that onnx does not know. These are rewritten
one after the other, so what stands before the node that is being rewritten is of the newest form
and can be looked at, node by node.
"""

from __future__ import annotations

import onnx
import onnx.defs
from onnx.shape_inference import infer_node_outputs

from bascule.ir.constant import Constant
from bascule.ir.deserialize import read_type
from bascule.ir.dtype import DataType
from bascule.ir.fixed import fixed_constant
from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Node, Value
from bascule.ir.infer import INFERENCE_ERRORS, declared_wrongly
from bascule.ir.merge import merge_types
from bascule.ir.serialize import Definitions, node_proto, write_inline, write_type
from bascule.ir.skeleton import has_safe_axis, type_got_wrong
from bascule.ir.types import TensorType

_SMALL = 1024
"""Constants up to this many bytes take part by their elements: shapes, axes, sizes."""

_MOST_AXES = 64

# The shape of the result is what an input says, which may be of any size: only its rank is taken.
_SHAPED_BY_INPUT = {"ConstantOfShape": 0, "Reshape": 1, "Expand": 1}


class TypeFinder:
    """Finds the types of values, each node being looked at once.

    `definitions` gives the functions behind fused nodes.
    """

    def __init__(self, definitions: Definitions | None = None) -> None:
        self._definitions = definitions
        self._seen: set[Node] = set()

    def find(self, value: Value) -> None:
        """Set the type of `value`, and of what it is made of, where it is not known yet."""
        pending = [value]
        while pending:
            top = pending[-1]
            node = top.producer
            if node is None or node in self._seen or _is_known(top):
                pending.pop()
                continue
            unknown = [
                each
                for each in node.inputs
                if each is not None
                and not _is_known(each)
                and each.producer is not None
                and each.producer not in self._seen
            ]
            if unknown:
                pending.extend(unknown)
                continue
            self._seen.add(node)
            if node.domain == FUSED_DOMAIN:
                self._infer_fused(node)
            else:
                _infer(node)
            pending.pop()

    def _infer_fused(self, node: Node) -> None:
        """By the nodes of its definition, whose formal inputs have the types of the node's."""
        function = None if self._definitions is None else self._definitions(node)
        if function is None:
            return
        for inner in function.body:
            _infer(inner)
        for value, formal in zip(node.outputs, function.body.outputs):
            value.type = merge_types(formal.type, value.type, keep_names=False)


def _is_known(value: Value) -> bool:
    return value.type is not None and (
        not isinstance(value.type, TensorType) or value.type.shape is not None
    )


def _infer(node: Node) -> None:
    if node.domain != ONNX_DOMAIN or node.subgraphs:
        return
    if node.op_type in _SHAPED_BY_INPUT:
        _take_rank(node, node.input(_SHAPED_BY_INPUT[node.op_type]))
        if node.op_type != "Reshape":
            return
    if node.is_op("LayerNormalization") and not has_safe_axis(node):
        return
    result = type_got_wrong(node, [None if v is None else v.type for v in node.inputs])
    if result is not None:
        node.output.type = merge_types(result, node.output.type, keep_names=False)
        return
    proto = onnx.NodeProto()
    proto.CopyFrom(node_proto(node))
    del proto.input[:], proto.output[:]
    types, data = {}, {}
    for index, value in enumerate(node.inputs):
        name = "" if value is None else f"input_{index}"
        proto.input.append(name)
        if value is None:
            continue
        type_proto = onnx.TypeProto()
        if value.type is not None:
            write_type(value.type, type_proto)
        types[name] = type_proto
        constant = fixed_constant(value)
        if constant is not None and constant.nbytes <= _SMALL:
            tensor = onnx.TensorProto(data_type=int(constant.dtype), dims=constant.shape)
            write_inline(constant, tensor)
            data[name] = tensor
    proto.output.extend(f"output_{index}" for index in range(len(node.outputs)))
    try:
        found = infer_node_outputs(onnx.defs.get_schema(node.op_type), proto, types, data)
    except (*INFERENCE_ERRORS, onnx.defs.SchemaError):
        return
    for index, value in enumerate(node.outputs):
        inferred = found.get(f"output_{index}")
        type = None if inferred is None else read_type(inferred)
        # What is declared wrongly stays, and is refused when all types are inferred.
        if type is not None and not any(declared_wrongly(value, type)):
            value.type = merge_types(type, value.type, keep_names=False)


def _take_rank(node: Node, shape: Value | None) -> None:
    """The result has as many axes as the shape has elements."""
    source, length = node.input(0), None if shape is None else shape.static_shape
    if source is None or length is None or len(length) != 1:
        return
    if node.op_type == "Expand":
        if source.rank is None:
            return
        length = (max(length[0], source.rank),)
    dtype = source.dtype
    if node.op_type == "ConstantOfShape":
        value = node.attribute("value")
        dtype = value.dtype if isinstance(value, Constant) else DataType.FLOAT
    if dtype is not None and length[0] <= _MOST_AXES:
        node.output.type = TensorType(dtype, (None,) * length[0])
