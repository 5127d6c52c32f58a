# SPDX-License-Identifier: Apache-2.0
"""Memory plans, views, threads and errors of native Programs, on random graphs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from tests.support.native import compile_graph

FLOAT = TensorType(DataType.FLOAT, (None, None))


def random_graph(seed: int, nodes: int = 40) -> Graph:
    """Elementwise nodes and views of [2, 6] matrices, with several inputs, outputs and reuse."""
    generator = np.random.default_rng(seed)
    graph = Graph("random")
    values = [graph.add_input(Value(f"x{i}", FLOAT)) for i in range(2)]
    values.append(graph.constant(generator.standard_normal((2, 6)).astype(np.float32)))
    target = graph.constant(np.array([2, 6], np.int64))
    turned = graph.constant(np.array([6, 2], np.int64))
    for i in range(nodes):
        # Mostly recent values, so that older ones die and their memory is used again.
        steps = generator.exponential(3, size=2).astype(int)
        pick = [values[max(0, len(values) - 1 - step)] for step in steps]
        kind = generator.choice(
            ["Add", "Mul", "Sub", "Relu", "Neg", "Sigmoid", "views", "Identity"]
        )
        if kind in ("Add", "Mul", "Sub"):
            node = Node(str(kind), pick, name=f"n{i}")
        elif kind == "views":
            first = graph.append(Node("Reshape", [pick[0], turned], name=f"n{i}a"))
            first.output.type = FLOAT
            node = Node("Reshape", [first.output, target], name=f"n{i}")
        else:
            node = Node(str(kind), pick[:1], name=f"n{i}")
        graph.append(node)
        node.output.type = FLOAT
        values.append(node.output)
    for index in generator.choice(len(values), 3, replace=False):
        graph.add_output(values[index])
    graph.add_output(values[-1])
    return graph


def reference(graph: Graph, feeds: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    held: dict[int, np.ndarray[Any, Any]] = {
        id(value): array for value, array in zip(graph.inputs, feeds)
    }

    def read(value: Value | None) -> np.ndarray[Any, Any]:
        assert value is not None
        return held[id(value)] if value.constant is None else value.constant.numpy()

    for node in graph:
        a = read(node.inputs[0])
        b = read(node.inputs[1]) if len(node.inputs) > 1 else a
        held[id(node.output)] = {
            "Add": lambda a=a, b=b: a + b,
            "Sub": lambda a=a, b=b: a - b,
            "Mul": lambda a=a, b=b: a * b,
            "Relu": lambda a=a: np.maximum(a, 0),
            "Neg": lambda a=a: -a,
            "Sigmoid": lambda a=a: 1 / (1 + np.exp(-a.astype(np.float64))),
            "Identity": lambda a=a: a,
            "Reshape": lambda a=a, b=b: a.reshape(b),
        }[node.op_type]().astype(np.float32)
    return [read(value) for value in graph.outputs]


@pytest.mark.parametrize("seed", range(60))
def test_planned_runs_equal_the_recorded_one(seed: int) -> None:
    graph = random_graph(seed)
    runner = compile_graph(graph)
    generator = np.random.default_rng(seed + 1000)
    for _ in range(4):
        feeds = [generator.standard_normal((2, 6)).astype(np.float32) for _ in graph.inputs]
        kept = [feed.copy() for feed in feeds]
        results = runner.run_values(feeds, [])
        for actual, expected in zip(results, reference(graph, kept)):
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-5)
        for feed, copy in zip(feeds, kept):
            np.testing.assert_array_equal(feed, copy)
        # Results are the caller's: writing to them changes neither each other nor a later run.
        addresses = {array.ctypes.data for array in [*results, *feeds]}
        assert len(addresses) == len(results) + len(feeds)
        for array in results:
            array[...] = np.nan


def chain(length: int) -> Graph:
    graph = Graph("chain")
    value = graph.add_input(Value("x", TensorType(DataType.FLOAT, (None,))))
    for i in range(length):
        node = graph.append(Node(("Neg", "Sigmoid", "Relu")[i % 3], [value], name=f"n{i}"))
        node.output.type = value.type
        value = node.output
    graph.add_output(value)
    return graph


def test_a_chain_runs_in_one_buffer() -> None:
    runner = compile_graph(chain(50))
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    for _ in range(2):
        runner.run_values([x], [])
    assert runner.arena_bytes == 0  # the only buffer is the output's own


@pytest.mark.parametrize("of_itself", [False, True])
def test_what_a_node_reads_twice_is_not_overwritten(of_itself: bool) -> None:
    """A scatter writes over the data that dies there, unless these are its updates, too."""
    graph = Graph("scatter")
    x, u = (graph.add_input(Value(name, FLOAT)) for name in "xu")
    rows = graph.constant(np.array([[1], [2], [3], [0]]))
    data = graph.append(Node("Neg", [x], name="data")).output
    updates = data if of_itself else u
    scattered = graph.append(Node("ScatterND", [data, rows, updates], name="scatter")).output
    graph.append(Node("Sigmoid", [scattered], name="last"))
    for node in graph:
        node.output.type = FLOAT
    graph.add_output(node.output)
    runner = compile_graph(graph)
    arrays = [np.arange(64, dtype=np.float32).reshape(4, 16) + i for i in range(2)]
    changes = -arrays[0] if of_itself else arrays[1]
    for _ in range(2):
        (y,) = runner.run_values(arrays, [])
        np.testing.assert_allclose(y, 1 / (1 + np.exp(-np.roll(changes, 1, 0))), rtol=1e-6)
    # Else all three are in the output's own memory.
    assert (runner.arena_bytes >= arrays[0].nbytes) == of_itself


def test_shapes_may_change_from_run_to_run() -> None:
    runner = compile_graph(chain(7))
    for size in [5, 0, 1000, 5, 3, 1000, *range(100)]:
        x = np.linspace(-1, 1, size, dtype=np.float32)
        (result,) = runner.run_values([x], [])
        assert result.shape == (size,)


def test_many_threads_share_a_program() -> None:
    graph = random_graph(3)
    runner = compile_graph(graph, threads=2)
    generator = np.random.default_rng(0)
    feeds = [
        [generator.standard_normal((2, 6)).astype(np.float32) for _ in graph.inputs]
        for _ in range(8)
    ]
    expected = [runner.run_values(each, []) for each in feeds]
    failures: list[str] = []

    def work(index: int) -> None:
        for _ in range(100):
            results = runner.run_values(feeds[index], [])
            if any((a != e).any() for a, e in zip(results, expected[index])):
                failures.append(f"caller {index}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_error_names_the_node_and_leaves_the_program_usable() -> None:
    graph = Graph("g")
    inputs = [graph.add_input(Value(n, FLOAT)) for n in "ab"]
    node = graph.append(Node("Add", inputs, name="sum"))
    node.output.type = FLOAT
    graph.add_output(node.output)
    runner = compile_graph(graph)
    good = np.ones((2, 3), np.float32)
    for _ in range(3):
        with pytest.raises(Exception, match=r"Add node. Name:'sum'.*float\{2,3\}, float\{4,3\}"):
            runner.run_values([good, np.ones((4, 3), np.float32)], [])
        np.testing.assert_array_equal(runner.run_values([good, good], [])[0], 2 * good)
