# SPDX-License-Identifier: Apache-2.0
"""The CPU provider. The native kernel registry is the one source of what it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType, shared_sizes
from bascule.native import _native, usable_cpus
from bascule.providers.base import Answer
from bascule.providers.cpu.choice import (
    FLOAT16_SUMS,
    UNPACKED,
    WHOLE_PRODUCTS,
    forbid_winograd,
    mark_products,
)
from bascule.providers.cpu.lower import GraphLowering

if TYPE_CHECKING:
    from bascule.providers.cpu.tuning import Tuner


class CpuProvider:
    """Runs graphs through native Programs with up to `threads` threads a loop.

    With `record`, its Programs can be written to plan files.
    """

    name = "CPUExecutionProvider"
    hosts_others = False

    def __init__(self, threads: int = 0, record: bool = False) -> None:
        self.threads = threads if threads > 0 else usable_cpus()
        self.tuner: Tuner | None = None
        self.winograd = True
        """Whether convolutions may save multiplications at the price of some rounding."""
        self.float16_sums = False
        """Whether products of float16 may make short sums in float16."""
        self.product_parts = True
        """Whether products of float32 may be made of parts of their numbers."""
        self.packs_weights = True
        """Whether kernels keep weights in the order in which they read them."""
        self._record = record

    def capabilities(self, graph: Graph) -> dict[Node, Answer]:
        lowering = GraphLowering(graph)
        answers = {}
        for node in graph:
            kernel, reason = lowering.kernel_of(node)
            if kernel is not None:
                reason = self._nested_reason(node)
            answers[node] = Answer(None if reason else kernel, reason)
        return answers

    def _nested_reason(self, node: Node) -> str:
        """Why a node of a nested graph cannot run; empty when all can."""
        for graph in node.subgraphs if node.domain == "" else ():
            captures = [v for v in graph.captures() if v.constant is None]
            lowering = GraphLowering(graph, captures)
            for inner in graph:
                kernel, reason = lowering.kernel_of(inner)
                if kernel is None:
                    return f"its {inner.op_type} node '{inner.name}': {reason}"
                reason = self._nested_reason(inner)
                if reason:
                    return reason
        return ""

    def tune(self, graph: Graph) -> None:
        """Choose how its nodes are computed, if this provider is to do that."""
        if self.tuner is not None:
            self.tuner.tune(graph, self.threads)
        if not self.winograd:
            forbid_winograd(graph)
        if self.float16_sums:
            mark_products(graph, FLOAT16_SUMS)
        if not self.product_parts:
            mark_products(graph, WHOLE_PRODUCTS)
        if not self.packs_weights:
            mark_products(graph, UNPACKED)

    def compile(self, graph: Graph) -> Any:
        return _native.Runner(
            GraphLowering(graph).builder,
            [v.name for v in graph.inputs],
            [v.name for v in graph.outputs],
            self.threads,
            shared_sizes([v.type for v in graph.inputs]),
            self._record,
        )


def fold_node(node: Node, inputs: list[np.ndarray[Any, Any] | None]) -> list[Any] | None:
    """Run one node on constant inputs; None when no kernel takes it or it fails."""
    graph = Graph("fold")
    values: list[Value | None] = [
        None if array is None else graph.constant(array) for array in inputs
    ]
    copy = Node(node.op_type, values, len(node.outputs), node.attributes, domain=node.domain)
    copy.name = node.name
    for value, original in zip(copy.outputs, node.outputs):
        value.type = original.type
    graph.append(copy)
    for value in copy.outputs:
        graph.add_output(value)
    try:
        runner = CpuProvider(1).compile(graph)
        results: list[Any] = runner.run_values([], [])
    except Exception:  # an invalid node: the error belongs to the run, not to the optimizer
        return None
    for array, value in zip(results, node.outputs):
        if not isinstance(array, np.ndarray):
            return None
        if isinstance(value.type, TensorType) and array.dtype != value.type.dtype.numpy:
            return None
    return results
