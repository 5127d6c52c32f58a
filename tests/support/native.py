# SPDX-License-Identifier: Apache-2.0
"""Run one operator, or a graph as it stands, straight on the CPU provider's kernels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.native import _native
from bascule.providers.cpu.lower import GraphLowering


def compile_graph(graph: Graph, threads: int = 1) -> Any:
    """A native Runner for `graph`, with no optimization."""
    return _native.Runner(
        GraphLowering(graph).builder,
        [v.name for v in graph.inputs],
        [v.name for v in graph.outputs],
        threads,
    )


def node_graph(
    op_type: str,
    inputs: Sequence[np.ndarray | None],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    constants: Collection[int] = (),
    static: bool = False,
) -> Graph:
    """A graph of one node. Inputs named in `constants` are initializers."""
    graph = Graph("test")
    values: list[Value | None] = []
    for index, array in enumerate(inputs):
        if array is None:
            values.append(None)
            continue
        array = np.asarray(array)
        if index in constants:
            values.append(graph.constant(array, f"input_{index}"))
            continue
        shape = array.shape if static else tuple(None for _ in array.shape)
        type = TensorType(DataType.from_numpy(array.dtype), shape)
        values.append(graph.add_input(Value(f"input_{index}", type)))
    converted = {
        key: Constant.from_numpy(value) if isinstance(value, np.ndarray) else value
        for key, value in (attributes or {}).items()
    }
    node = graph.append(Node(op_type, values, outputs, converted, domain=domain, name="node"))
    for value in node.outputs:
        graph.add_output(value)
    return graph


def run_node(
    op_type: str,
    inputs: Sequence[np.ndarray | None],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    threads: int = 1,
    constants: Collection[int] = (),
    static: bool = False,
    runs: int = 1,
) -> list[Any]:
    """The outputs of one node. With `runs` > 1 the memory plan of the first run is used too."""
    graph = node_graph(op_type, inputs, attributes, outputs, domain, constants, static)
    runner = compile_graph(graph, threads)
    feeds = [
        np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a)
        for i, a in enumerate(inputs)
        if a is not None and i not in constants
    ]
    for _ in range(runs):
        results: list[Any] = runner.run_values(feeds, [])
    return results
