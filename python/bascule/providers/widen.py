# SPDX-License-Identifier: Apache-2.0
"""Computing a node in a wider element type, where a provider has a kernel for that one only.

Casts widen what the node reads and round, once, what it makes: floats to nearest even, integers
modulo their range, as arithmetic in the narrow type would. All inputs and outputs that the
operator's schema gives one type parameter are widened together. Operators whose results depend on
how wide a type is are left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.inline import schema_function
from bascule.ir.replaced import replaced_by
from bascule.ir.types import TensorType
from bascule.providers.base import Provider
from bascule.providers.partition import assign

NOTE = "bascule.computed_in"
"""The key in a node's metadata under which explain() finds the reason."""

_FLOATS = (DataType.FLOAT, DataType.DOUBLE)
_SIGNED = (DataType.INT8, DataType.INT32, DataType.INT64)
_UNSIGNED = (DataType.UINT8, DataType.UINT32, DataType.UINT64)

_DECIDED_BY_TYPE = frozenset(
    ("BitCast", "Cast", "CastLike", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")
)
"""Operators that round, saturate or reinterpret by the types of their inputs and outputs."""

Types = Mapping[str, DataType]
"""Element types of a schema's type parameters."""


@dataclass(frozen=True, slots=True)
class _Signature:
    """The type parameter of each formal input and output, and the types it may stand for."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    allowed: Mapping[str, frozenset[str]]

    def input(self, index: int) -> str:
        return self.inputs[min(index, len(self.inputs) - 1)]

    def output(self, index: int) -> str:
        return self.outputs[min(index, len(self.outputs) - 1)]


@functools.lru_cache(maxsize=1024)
def _signature(op_type: str, version: int, domain: str) -> _Signature | None:
    import onnx.defs

    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    return _Signature(
        tuple(formal.type_str for formal in schema.inputs),
        tuple(formal.type_str for formal in schema.outputs),
        {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints},
    )


def widen(node: Node, version: int, providers: Sequence[Provider]) -> bool:
    """Compute a node, which no provider takes, in wider types; False where that does not help.

    The next wider types that a provider takes are chosen. Without any, an operator that others
    define is computed by these in float32, not in a narrower type that rounds at each of them.
    """
    signature = _signature(node.op_type, version, node.domain)
    if signature is None or node.subgraphs or node.op_type in _DECIDED_BY_TYPE:
        return False
    candidates = list(_candidates(_parameter_types(node, signature), signature))
    for types in candidates:
        copy = _retyped(node, signature, types)
        assert copy.graph is not None
        if assign(copy.graph, providers)[copy].provider is not None:
            _insert_casts(node, signature, types)
            return True
    for types in candidates:
        if DataType.FLOAT in types.values() and schema_function(
            _retyped(node, signature, types), version
        ):
            _insert_casts(node, signature, types)
            return True
    return False


def _parameter_types(node: Node, signature: _Signature) -> dict[str, DataType]:
    """What the type parameters of the inputs stand for; outputs tell it of inputs left out."""
    types: dict[str, DataType] = {}
    for index, result in enumerate(node.outputs):
        if isinstance(result.type, TensorType) and signature.output(index) in signature.inputs:
            types[signature.output(index)] = result.type.dtype
    for index, value in enumerate(node.inputs):
        if value is not None and isinstance(value.type, TensorType):
            types[signature.input(index)] = value.type.dtype
    return types


def _candidates(types: Types, signature: _Signature) -> Iterator[Types]:
    """Wider types, the narrowest first: of the floats, of the integers, of both."""

    def raised(*targets: DataType) -> dict[str, DataType]:
        return {
            parameter: target
            for parameter, dtype in types.items()
            for target in targets
            if _family(dtype) == _family(target)
            and dtype.bits < target.bits
            and f"tensor({target.onnx_name})" in signature.allowed.get(parameter, ())
        }

    floats = [wider for wider in map(raised, _FLOATS) if wider]
    integers = [wider for wider in map(raised, _SIGNED, _UNSIGNED) if wider]
    yield from floats
    yield from integers
    yield from (f | i for f in floats for i in integers)


def _family(dtype: DataType) -> str:
    if dtype.is_float:
        return "float"
    # Zero and one; anything but zero is true again.
    return "INT" if dtype is DataType.BOOL else dtype.name.rstrip("0123456789")


def _retyped(node: Node, signature: _Signature, types: Types) -> Node:
    """A copy of the node in the given types, alone in a graph of its own."""
    graph = Graph("widened")
    inputs: list[Value | None] = []
    for index, value in enumerate(node.inputs):
        if value is None:
            inputs.append(None)
        elif value.constant is not None:
            wide = _cast_constant(value.constant, types.get(signature.input(index)))
            inputs.append(graph.constant(wide, value.name))
        else:
            fed = graph.add_input(Value(graph.fresh_name(value.name), value.type))
            _set_dtype(fed, types.get(signature.input(index)))
            inputs.append(fed)
    outputs = [Value(value.name, value.type) for value in node.outputs]
    copy = Node(node.op_type, inputs, outputs, node.attributes, domain=node.domain, name=node.name)
    graph.append(copy)
    for index, value in enumerate(node.outputs):
        _set_dtype(outputs[index], types.get(signature.output(index)))
        if not value.is_unused:
            graph.add_output(outputs[index])
    return copy


def _cast_constant(constant: Constant, dtype: DataType | None) -> Constant:
    if dtype is None or constant.dtype is dtype:
        return constant
    return Constant.from_numpy(constant.numpy().astype(dtype.numpy))


def _set_dtype(value: Value, dtype: DataType | None) -> None:
    if dtype is not None and isinstance(value.type, TensorType):
        value.type = TensorType(dtype, value.type.shape)


def _insert_casts(node: Node, signature: _Signature, types: Types) -> None:
    graph = node.graph
    assert graph is not None
    node.metadata[NOTE] = _note(_parameter_types(node, signature), types)
    widened: dict[int, Value] = {}
    for index, value in enumerate(node.inputs):
        dtype = types.get(signature.input(index))
        if value is None or dtype is None or value.dtype is dtype:
            continue
        if id(value) not in widened:
            if value.constant is not None:
                constant = _cast_constant(value.constant, dtype)
                widened[id(value)] = graph.constant(constant, value.name)
            else:
                cast = _cast(node, value, Value(), dtype)
                widened[id(value)] = graph.insert_before(node, cast).output
        node.set_input(index, widened[id(value)])
    for index, value in enumerate(node.outputs):
        dtype = types.get(signature.output(index))
        if dtype is None or value.dtype is None:
            continue
        wide = Value(graph.fresh_name(value.name), value.type)
        wide.producer = node
        node.outputs[index] = wide
        graph.insert_after(node, _cast(node, wide, value, value.dtype))
        _set_dtype(wide, dtype)


def _cast(node: Node, source: Value, result: Value, dtype: DataType) -> Node:
    name = f"{node.name}/Cast" if node.name else ""
    cast = Node("Cast", [source], [result], {"to": int(dtype)}, name=name)
    cast.metadata, cast.replaced = dict(node.metadata), replaced_by(node)
    result.type = source.type
    _set_dtype(result, dtype)
    return cast


def _note(before: Types, after: Types) -> str:
    def names(types: Types) -> str:
        return ", ".join(dict.fromkeys(types[parameter].numpy.name for parameter in after))

    return f"computed in {names(after)}: no kernel for {names(before)}"
