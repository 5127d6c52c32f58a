# SPDX-License-Identifier: Apache-2.0
"""Graphs as text for people: one node per line, with the types of what it makes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from bascule.ir.constant import Constant
from bascule.ir.graph import Attribute, AttributeReference, Graph, Node, SparseConstant, Value
from bascule.ir.types import SparseTensorType, TensorType, Type

_SHOWN_ELEMENTS = 8
_SHOWN_CHARACTERS = 60


def format_graph(graph: Graph, describe: Callable[[Constant], str] | None = None) -> str:
    """The graph as text, nested graphs indented below the node that holds them.

    `describe` may say more of a large constant than that it is one.
    """
    return "\n".join(_lines(graph, graph.name or "graph", "", describe))


def format_type(type: Type | None) -> str:
    """``float[N,3]``, ``seq(int64)``; ``?`` when nothing is known."""
    if type is None:
        return "?"
    if not isinstance(type, (TensorType, SparseTensorType)):
        return str(type)
    name = type.dtype.onnx_name
    if isinstance(type, SparseTensorType):
        name = f"sparse {name}"
    if type.shape is None:
        return f"{name}[...]"
    sizes = ",".join("?" if dim is None else str(dim) for dim in type.shape)
    return f"{name}[{sizes}]"


def format_node(node: Node) -> str:
    """One line, without nested graphs."""
    outputs = ", ".join(_declaration(value) for value in node.outputs)
    domain = f"{node.domain}." if node.domain else ""
    overload = f":{node.overload}" if node.overload else ""
    attributes = ", ".join(
        f"{name}={format_attribute(value)}" for name, value in node.attributes.items()
    )
    inputs = ", ".join("_" if value is None else _operand(value) for value in node.inputs)
    shown = f"<{attributes}>" if attributes else ""
    return f"{outputs} = {domain}{node.op_type}{overload}{shown}({inputs})  # {node.name}"


def _lines(
    graph: Graph, title: str, indent: str, describe: Callable[[Constant], str] | None = None
) -> Iterator[str]:
    inputs = ", ".join(_declaration(value) for value in graph.inputs)
    outputs = ", ".join(_declaration(value) for value in graph.outputs)
    yield f"{indent}{title} ({inputs}) => ({outputs}) {{"
    for value in graph.initializers.values():
        if value.constant is not None and not _is_short(value.constant):
            more = f" {describe(value.constant)}" if describe is not None else ""
            yield f"{indent}  {_declaration(value)} = constant{more}"
    for node in graph:
        yield f"{indent}  {format_node(node)}"
        for name, value in node.attributes.items():
            graphs = value if isinstance(value, list) else [value]
            for index, nested in enumerate(graphs):
                if isinstance(nested, Graph):
                    suffix = f"[{index}]" if isinstance(value, list) else ""
                    yield from _lines(nested, name + suffix, indent + "    ", describe)
    yield f"{indent}}}"


def _declaration(value: Value) -> str:
    return f"{value.name}: {format_type(value.type)}"


def _operand(value: Value) -> str:
    if value.constant is not None and value.producer is None and _is_short(value.constant):
        return format_constant(value.constant)
    return value.name


def _is_short(constant: Constant) -> bool:
    return constant.size <= _SHOWN_ELEMENTS


def format_constant(constant: Constant) -> str:
    if not _is_short(constant):
        return format_type(TensorType(constant.dtype, constant.shape))
    array = constant.numpy()
    text = str(array.item() if array.ndim == 0 else array.tolist())
    return f"{constant.dtype.onnx_name}({text})"


def format_attribute(value: Attribute) -> str:
    if isinstance(value, Constant):
        return format_constant(value)
    if isinstance(value, SparseConstant):
        return format_type(SparseTensorType(value.values.dtype, value.shape))
    if isinstance(value, Graph):
        return "{...}"
    if isinstance(value, AttributeReference):
        return f"@{value.name}"
    if isinstance(value, (list, array)):
        text = ", ".join(format_attribute(item) for item in value[: _SHOWN_ELEMENTS * 2])
        return f"[{text}{', ...' if len(value) > _SHOWN_ELEMENTS * 2 else ''}]"
    text = repr(value) if isinstance(value, (str, int, float)) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
