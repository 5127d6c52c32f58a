# SPDX-License-Identifier: Apache-2.0
"""A model as text for tools that compare lines."""

from __future__ import annotations

from collections.abc import Iterator

from bascule.ir.constant import Constant
from bascule.ir.graph import Node
from bascule.ir.load import Source, load_model
from bascule.ir.printer import format_graph
from bascule.tools.digest.graph import constant_of
from bascule.tools.digest.tensors import TensorHasher

_DIGITS = 16
"""Hexadecimal digits of a tensor's hash that are shown."""


def listing(source: Source) -> Iterator[str]:
    """Lines: what the file says of itself, the graph, and functions; weights by their hashes."""
    model = load_model(source)
    yield f"producer: {model.producer_name} {model.producer_version}".rstrip()
    yield f"ir_version: {model.ir_version}"
    for domain, version in sorted(model.opset_imports.items()):
        yield f"opset: {domain or 'ai.onnx'} {version}"
    for key, text in sorted(model.metadata.items()):
        yield f"metadata: {key}: {text!r}"
    with TensorHasher() as tensors:

        def describe(constant: Constant) -> str:
            return tensors.hash(constant).hex()[:_DIGITS]

        graphs = {"": model.graph}
        graphs.update({".".join(filter(None, k)): f.body for k, f in model.functions.items()})
        for name, graph in graphs.items():
            yield f"function {name}" if name else "graph"
            yield format_graph(graph, describe)
            for node in graph.walk_nodes():
                yield from _large(node, describe)


def _large(node: Node, describe: object) -> Iterator[str]:
    """The hash of a tensor that a Constant holds, which the graph's text leaves out."""
    constant = constant_of(node)
    if constant is not None and constant.size > 1 and callable(describe):
        yield f"  {node.output.name} = constant {describe(constant)}"
