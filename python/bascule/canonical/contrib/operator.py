# SPDX-License-Identifier: Apache-2.0
"""Operators of domain ``com.microsoft``, written as functions of their inputs and attributes.

The signature of such a function is the schema of its operator:

    @operator("BiasGelu")
    def bias_gelu(build: ContribBuilder, a: Value, b: Value) -> Value:
        return build.op("Gelu", build.op("Add", a, b))

After the builder, positional parameters are the inputs in order, optional where the annotation ends
in ``| None``. Keyword-only parameters are the attributes, of the annotated type; those without a
default are required. ``**attributes`` takes those of the standard's operator ``attributes_of``, as
far as the node has them. What is returned, one value or a tuple of them, takes the place of the
node's outputs; None stands for an output that cannot be had.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import onnx.defs

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.canonical.types_on_demand import TypeFinder
from bascule.errors import NotImplemented as NotSupported
from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Attribute, Graph, Node, Value
from bascule.ir.types import Type

MICROSOFT_DOMAIN = "com.microsoft"

Outputs = Value | None | tuple["Value | None", ...]

_KINDS: dict[str, tuple[type, type, str]] = {
    "int": (int, int, "an integer"),
    "float": (float, float, "a float"),
    "str": (str, str, "a string"),
    "Graph": (Graph, Graph, "a graph"),
    "list[int]": (list, int, "a list of integers"),
    "list[float]": (list, float, "a list of floats"),
    "list[str]": (list, str, "a list of strings"),
}
"""The type of an attribute by its annotation, that of its elements, and both in words."""

_ANNOTATIONS = {
    onnx.defs.OpSchema.AttrType.INT: "int",
    onnx.defs.OpSchema.AttrType.FLOAT: "float",
    onnx.defs.OpSchema.AttrType.STRING: "str",
    onnx.defs.OpSchema.AttrType.INTS: "list[int]",
    onnx.defs.OpSchema.AttrType.FLOATS: "list[float]",
    onnx.defs.OpSchema.AttrType.STRINGS: "list[str]",
}
_OPTIONAL = " | None"


class ContribBuilder(Builder):
    """Builds what an operator consists of, and tells what is asked of the node."""

    def __init__(
        self, node: Node, version: int, types: TypeFinder, graph: Graph | None = None
    ) -> None:
        super().__init__(node, version, graph, types)
        self.added: set[Node] = set()
        """The nodes that were made here."""

    def _new(
        self,
        op_type: str,
        inputs: Iterable[Value | None],
        outputs: int | Sequence[Value],
        attributes: dict[str, Attribute],
    ) -> Node:
        node = super()._new(op_type, inputs, outputs, attributes)
        self.added.add(node)
        return node

    def wants(self, index: int) -> bool:
        """Whether anybody reads output `index`."""
        outputs = self.node.outputs
        return index < len(outputs) and not outputs[index].is_unused

    def fused(
        self, op_type: str, *inputs: Value | None, outputs: int = 1, **attributes: Any
    ) -> list[Value]:
        """Insert a node of the fused operators' domain; returns its outputs."""
        made = self.ops(op_type, *inputs, outputs=outputs, **attributes)
        assert made[0].producer is not None
        made[0].producer.domain = FUSED_DOMAIN
        return made

    def numbers(self, count: Value) -> Value:
        """The int64 numbers from 0 on; `count` has one element, and says how many."""
        limit = self.as_scalar(self.typed(count))
        return self.op("Range", self.int_scalar(0), limit, self.int_scalar(1))

    def expect_shape(self, name: str, value: Value, expected: Sequence[int | None]) -> None:
        """Refuse an input whose shape is known to be another one; None stands for any size."""
        shape = self.typed(value).shape
        if shape is None:
            return
        fits = len(shape) == len(expected) and all(
            size == wanted or wanted is None or not isinstance(size, int)
            for size, wanted in zip(shape, expected)
        )
        if not fits:
            sizes = ["?" if size is None else size for size in expected]
            raise self.invalid(f"input '{name}' has shape {list(shape)}, expected {sizes}")

    def give_type(self, value: Value, type: Type | None) -> Value:
        """State the type of a new value."""
        value.type = type
        return value

    def plus(self, value: Value, addend: Value | None) -> Value:
        """`value` with `addend`, if there is one, added."""
        return value if addend is None else self.op("Add", value, addend)

    def int64(self, value: Value) -> Value:
        return self.cast(self.typed(value), DataType.INT64)

    def not_supported(self, what: str) -> NotSupported:
        """The error to raise for a form that has no equivalent here."""
        node = self.node
        return NotSupported(
            f"{node.domain}.{node.op_type}: {what} is not supported",
            node=node.name or (node.outputs[0].name if node.outputs else ""),
            op=node.op_type,
        )


def operator(
    *op_types: str, attributes_of: str = "", domain: str = MICROSOFT_DOMAIN
) -> Callable[[Any], Any]:
    """Register the function that says what operators of the domain consist of."""

    def register(function: Callable[..., Outputs]) -> Callable[..., Outputs]:
        def apply(node: Node, build: Builder) -> None:
            contrib = ContribBuilder(node, build.version, types=build.types)
            inputs, attributes = _arguments(node, contrib, _signature(function, attributes_of))
            results = function(contrib, *inputs, **attributes)
            _replace(node, contrib, results if isinstance(results, tuple) else (results,))

        rewrite(*op_types, until=0, domain=domain)(apply)
        return function

    return register


class _Signature:
    """What the parameters of a function say of its operator."""

    def __init__(self, function: Callable[..., Outputs], attributes_of: str) -> None:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        self.inputs = [
            (each.name, not each.annotation.endswith(_OPTIONAL))
            for each in parameters
            if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        self.attributes = {
            each.name: (each.annotation.removesuffix(_OPTIONAL), each.default)
            for each in parameters
            if each.kind is keyword_only
        }
        standard = onnx.defs.get_schema(attributes_of).attributes if attributes_of else {}
        self.passed_on = {name: _ANNOTATIONS[each.type] for name, each in standard.items()}


@functools.cache
def _signature(function: Callable[..., Outputs], attributes_of: str) -> _Signature:
    return _Signature(function, attributes_of)


def _arguments(
    node: Node, build: Builder, signature: _Signature
) -> tuple[list[Value | None], dict[str, Any]]:
    """The node's inputs and attributes, checked against the signature."""
    inputs = list(node.inputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    if len(inputs) > len(signature.inputs):
        raise build.invalid(
            f"{len(inputs)} inputs are too many, it takes {len(signature.inputs)} at most"
        )
    inputs += [None] * (len(signature.inputs) - len(inputs))
    for value, (name, required) in zip(inputs, signature.inputs):
        if value is None and required:
            raise build.invalid(f"input '{name}' is missing")
    attributes = {}
    for name, value in node.attributes.items():
        annotation = signature.passed_on.get(name) or signature.attributes.get(name, ("",))[0]
        if not annotation:
            raise build.invalid(f"attribute '{name}' is unknown")
        kind, element, text = _KINDS[annotation]
        elements = value if isinstance(value, list) else [value]
        if not isinstance(value, kind) or not all(isinstance(each, element) for each in elements):
            raise build.invalid(f"attribute '{name}' must be {text}")
        attributes[name] = value
    for name, (_, default) in signature.attributes.items():
        if name not in attributes and default is inspect.Parameter.empty:
            raise build.invalid(f"required attribute '{name}' is missing")
        attributes.setdefault(name, default)
    return inputs, attributes


def _replace(node: Node, build: ContribBuilder, results: tuple[Value | None, ...]) -> None:
    """Let `results` take the place of the node's outputs, under these outputs' names."""
    graph = node.graph
    assert graph is not None
    taken: dict[Value, Value] = {}
    for index, old in enumerate(node.outputs):
        new = results[index] if index < len(results) else None
        if new is None:
            if not old.is_unused:
                raise build.invalid(f"output {index} ('{old.name}') is not known")
        elif new in taken or new.producer not in build.added:
            build.op("Identity", taken.get(new, new), outputs=[old])
        else:
            made_by = new.producer
            made_by.outputs[made_by.outputs.index(new)] = old
            old.producer, old.type = made_by, old.type or new.type
            new.replace_uses(old)
            taken[new] = old
    node.outputs = []
    graph.remove(node)
