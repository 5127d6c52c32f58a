# SPDX-License-Identifier: Apache-2.0
"""Loops that threads share: whatever the callers, threads and shapes, the bits are the same."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from tests.support.native import compile_graph

FLOAT = TensorType(DataType.FLOAT, (None, 64))
Array = np.ndarray[Any, Any]


def layers(count: int) -> Graph:
    """Products, rows and views whose results live shorter and longer, two of them outputs."""
    generator = np.random.default_rng(5)
    graph = Graph("layers")
    value = first = graph.add_input(Value("x", FLOAT))
    flat = graph.constant(np.array([-1], np.int64))
    square = graph.constant(np.array([-1, 64], np.int64))

    def append(op_type: str, inputs: list[Value], type: TensorType = FLOAT) -> Value:
        node = graph.append(Node(op_type, inputs, name=f"{op_type}{len(list(graph))}"))
        node.output.type = type
        return node.output

    for i in range(count):
        weight = graph.constant(generator.standard_normal((64, 64)).astype(np.float32) / 8)
        value = append("Softmax", [append("MatMul", [value, weight])])
        if i % 2:
            view = append("Reshape", [value, flat], TensorType(DataType.FLOAT, (None,)))
            value = append("Reshape", [append("Neg", [view], view.type), square])
        value = append("Add", [value, first])
        if i == count // 2:
            graph.add_output(append("Reshape", [value, square]))
    graph.add_output(value)
    return graph


def inputs(sizes: list[int]) -> list[Array]:
    generator = np.random.default_rng(6)
    return [generator.standard_normal((size, 64)).astype(np.float32) for size in sizes]


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("spins", [True, False])
def test_many_callers_at_once(threads: int, spins: bool) -> None:
    graph = layers(4)
    feeds = inputs([300, 1, 700, 64, 1111])
    alone = compile_graph(graph)
    expected = [alone.run_values([x], []) for x in feeds]
    runner = compile_graph(graph, threads=threads)
    runner.spins = spins
    assert runner.spins is spins
    failures: list[str] = []

    def work(caller: int) -> None:
        for i in range(30):
            pick = (caller + i) % len(feeds)
            results = runner.run_values([feeds[pick]], [])
            if any((a != e).any() for a, e in zip(results, expected[pick])):
                failures.append(f"caller {caller}, run {i}")

    callers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert failures == []


def test_results_of_new_shapes_stay_as_they_are() -> None:
    graph = layers(3)
    runner = compile_graph(graph, threads=2)
    feeds = inputs([200, 300, 201, 299, 200, 150, 151, 152, 300])
    kept = [runner.run_values([x], []) for x in feeds]
    # Memory of one run is used by the next ones, but never that of a result that somebody holds.
    expected = [compile_graph(graph).run_values([x], []) for x in feeds]
    for results, wanted in zip(kept, expected):
        for a, e in zip(results, wanted):
            np.testing.assert_array_equal(a, e)


def test_an_error_on_some_thread_is_that_of_the_run() -> None:
    graph = Graph("g")
    table = graph.constant(np.ones((10, 4096), np.float32))
    indices = graph.add_input(Value("i", TensorType(DataType.INT64, (None,))))
    node = graph.append(Node("Gather", [table, indices], attributes={"axis": 0}, name="pick"))
    node.output.type = TensorType(DataType.FLOAT, (None, 4096))
    graph.add_output(node.output)
    runner = compile_graph(graph, threads=2)
    good, bad = np.zeros(500, np.int64), np.zeros(500, np.int64)
    bad[-1] = 10
    for _ in range(5):
        with pytest.raises(Exception, match=r"Gather node\. Name:'pick'"):
            runner.run_values([bad], [])
        assert (runner.run_values([good], [])[0] == 1).all()
