# SPDX-License-Identifier: Apache-2.0
"""Graphs as ONNX text: parsing, optimizing, comparing structure, and running on the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from bascule.canonical import canonicalize
from bascule.ir.constant import Constant
from bascule.ir.copy import copy_model
from bascule.ir.graph import FUSED_DOMAIN, Graph, Model, Node, Value
from bascule.ir.infer import infer_types
from bascule.ir.inline import inline_call, schema_function
from bascule.ir.save import to_proto
from bascule.ir.serialize import Definitions
from bascule.ir.text import parse_graph
from bascule.ir.types import TensorType
from bascule.optimizer.context import Array, Context
from bascule.optimizer.manager import run_stages
from bascule.optimizer.passes import Level, Pass, Stage
from bascule.optimizer.pattern import attribute_of
from bascule.optimizer.report import Report

OPSET = onnx.defs.onnx_opset_version()


def parse(text: str, definitions: Definitions | None = None) -> Model:
    """The canonical model of one graph in ONNX text."""
    model = parse_graph(text)
    canonicalize(model)
    infer_types(model, definitions)
    return model


def run_passes(model: Model, *passes: Pass, context: Context | None = None) -> Report:
    """Run `passes` as one stage, checking the structure after every change."""
    stage = Stage("test", Level.BASIC, passes)
    return run_stages(model, [stage], context or Context(fold=reference_fold), verify=True)


def reference_fold(node: Node, inputs: list[Array | None]) -> list[Array] | None:
    """Compute one standard node with the reference evaluator."""
    graph = Graph("fold")
    read = [
        None if array is None else graph.add_input(Value(f"i{index}", type_of(array)))
        for index, array in enumerate(inputs)
    ]
    copy = Node(node.op_type, read, len(node.outputs), dict(node.attributes), domain=node.domain)
    graph.append(copy)
    for output, original in zip(copy.outputs, node.outputs):
        output.type = original.type
        graph.add_output(output)
    proto = to_proto(Model(graph, {"": OPSET}, ir_version=10))
    feeds = {f"i{index}": array for index, array in enumerate(inputs) if array is not None}
    results = ReferenceEvaluator(proto).run(None, feeds)
    return [np.asarray(result) for result in results]


def type_of(array: Array) -> TensorType:
    constant = Constant.from_numpy(array)
    return TensorType(constant.dtype, constant.shape)


def structure(graph: Graph) -> list[str]:
    """The outputs as expressions over inputs and constants; equal for equal graphs."""
    return _Structure(graph, {}).outputs()


class _Structure:
    def __init__(self, graph: Graph, names: dict[int, str]) -> None:
        self._graph = graph
        self._names = dict(names)
        self._lines: list[str] = []
        for value in graph.inputs:
            self._names[id(value)] = f"{value.name}: {value.type} {value.shape}"

    def outputs(self) -> list[str]:
        return [self._value(value) for value in self._graph.outputs]

    def _value(self, value: Value | None) -> str:
        if value is None:
            return "_"
        if id(value) not in self._names:
            if value.producer is None:
                self._names[id(value)] = _constant(value.constant)
            else:
                text = self._node(value.producer)
                for index, output in enumerate(value.producer.outputs):
                    self._names[id(output)] = f"{text}" + (f"#{index}" if index else "")
        return self._names[id(value)]

    def _node(self, node: Node) -> str:
        inputs = ", ".join(self._value(value) for value in node.inputs)
        attributes = []
        default = Node(node.op_type, [], 0, domain=node.domain)
        for name, value in sorted(node.attributes.items()):
            if attribute_of(default, name) == value:
                continue
            if isinstance(value, Graph):
                value = _Structure(value, self._names).outputs()
            attributes.append(f"{name}={_attribute(value)}")
        return f"{node.domain}.{node.op_type}[{', '.join(attributes)}]({inputs})"


def _attribute(value: Any) -> str:
    if isinstance(value, Constant):
        return _constant(value)
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _constant(constant: Constant | None) -> str:
    assert constant is not None
    if constant.dtype.is_float:
        elements = [f"{float(each):.6g}" for each in constant.numpy().reshape(-1)]
    else:
        elements = [str(each) for each in constant.numpy().reshape(-1)]
    return f"{constant.dtype.name}{list(constant.shape)}{{{', '.join(elements)}}}"


_SIZES = {"M": 3, "N": 2, "K": 4, "B": 2, "S": 5, "H": 6, "W": 7, "C": 3}


def feeds_for(model: Model, seed: int = 0, sizes: dict[str, int] | None = None) -> dict[str, Any]:
    """Numbers for every input; the same for the same names and types."""
    generator = np.random.default_rng(seed)
    known = {**_SIZES, **(sizes or {})}
    feeds = {}
    for value in model.graph.inputs:
        assert isinstance(value.type, TensorType), value
        assert value.shape is not None, value
        shape = [d if isinstance(d, int) else known.setdefault(str(d), 3) for d in value.shape]
        dtype = value.type.dtype
        if dtype.is_float:
            array = generator.normal(size=shape)
        elif dtype.is_integer:
            array = generator.integers(0, 3, size=shape)
        else:
            array = generator.integers(0, 2, size=shape).astype(bool)
        feeds[value.name] = array.astype(dtype.numpy)
    return feeds


def run_reference(
    model: Model, feeds: dict[str, Any], definitions: Definitions | None = None
) -> Sequence[Any]:
    """The outputs by the reference evaluator; fused nodes by their definitions."""
    model = copy_model(model)
    for node in list(model.graph.walk_nodes()):
        function = None
        if node.domain == FUSED_DOMAIN and definitions is not None:
            function = definitions(node)
        elif node.is_op("Gelu"):  # the reference has it only with types
            function = schema_function(node, OPSET)
        if function is not None:
            inline_call(node, function)
    proto = to_proto(model)
    wanted = {value.name for value in proto.graph.input}
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(proto).run(
            None, {name: array for name, array in feeds.items() if name in wanted}
        )


def assert_close(actual: Sequence[Any], expected: Sequence[Any]) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected):
        a, e = np.asarray(a), np.asarray(e)
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        if a.dtype.kind in "OSU":
            assert a.tolist() == e.tolist()
            continue
        tolerance = 2e-2 if a.dtype.itemsize == 2 else 1e-4
        np.testing.assert_allclose(
            a.astype(np.float64), e.astype(np.float64), rtol=tolerance, atol=tolerance / 10
        )


def sections(doc: str) -> list[tuple[str, str | None, str]]:
    """The (kind, reason, graph text) of a pass's docstring."""
    found: list[tuple[str, str | None, list[str]]] = []
    for line in doc.splitlines():
        header = re.fullmatch(r'(Before|After|Rejects|Keeps)(?:, "(.*)")?:', line)
        if header:
            found.append((header[1], header[2], []))
        elif line.startswith("    ") and found:
            found[-1][2].append(line)
        elif line.strip() and found:
            break
    return [(kind, reason, "\n".join(lines)) for kind, reason, lines in found]
