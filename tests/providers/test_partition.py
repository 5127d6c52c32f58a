# SPDX-License-Identifier: Apache-2.0
"""Two providers that share a graph: who gets what, why, and that the numbers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.canonical import canonicalize
from bascule.compiler import compile_model
from bascule.errors import NotImplemented
from bascule.ir.graph import Graph, Model, Node
from bascule.ir.infer import infer_types
from bascule.ir.text import parse_graph
from bascule.optimizer import Level
from bascule.providers.base import Answer
from bascule.providers.cpu.provider import CpuProvider
from bascule.providers.partition import assign, partition

DIAMOND = """
g (float[N,4] x, float[4,4] w) => (float[N,4] y, float[N,4] z, float[N,4] same)
{
   a = MatMul(x, w)
   b = Relu(a)
   c = Sigmoid(a)
   d = MatMul(b, w)
   y = Add(d, c)
   z = Relu(d)
   same = Identity(x)
}
"""


class Picky:
    """Takes only some operators, and runs them as the CPU provider does."""

    name = "PickyProvider"

    def __init__(self, *op_types: str) -> None:
        self._op_types = op_types
        self._cpu = CpuProvider(1)

    hosts_others = False

    def capabilities(self, graph: Graph) -> dict[Node, Answer]:
        return {
            node: Answer("Kernel") if node.op_type in self._op_types else Answer(None, "too plain")
            for node in graph
        }

    def compile(self, graph: Graph) -> Any:
        assert all(node.op_type in self._op_types for node in graph)
        return self._cpu.compile(graph)


def diamond() -> Model:
    model = parse_graph(DIAMOND)
    canonicalize(model)
    infer_types(model)
    return model


def feeds() -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4, 4))]


def test_the_first_that_accepts_gets_the_node_and_refusals_are_kept() -> None:
    model = diamond()
    assignments = assign(model.graph, [Picky("MatMul"), CpuProvider(1)])
    for node, assignment in assignments.items():
        assert assignment.provider is not None
        if node.op_type == "MatMul":
            assert assignment.provider.name == "PickyProvider"
            assert assignment.reasons == []
        else:
            assert assignment.provider.name == "CPUExecutionProvider"
            assert assignment.reasons == [("PickyProvider", "too plain")]


def test_partitions_need_only_earlier_ones() -> None:
    model = diamond()
    parts = partition(model.graph, assign(model.graph, [Picky("MatMul"), CpuProvider(1)]))
    place = {node: i for i, part in enumerate(parts) for node in part.nodes}
    assert len(place) == len(model.graph)
    for node, i in place.items():
        for value in node.inputs:
            if value is not None and value.producer is not None:
                assert place[value.producer] <= i


@pytest.mark.parametrize(
    "op_types", [("MatMul",), ("Relu", "Add"), ("Sigmoid",), ("Identity", "MatMul")]
)
def test_numbers_do_not_depend_on_the_split(op_types: tuple[str, ...]) -> None:
    expected = compile_model(diamond(), [CpuProvider(1)], Level.DISABLED).program
    split = compile_model(diamond(), [Picky(*op_types), CpuProvider(1)], Level.DISABLED).program
    x = feeds()
    for wanted in ([], [1], [2, 0, 2]):
        actual = split.run_values(x, wanted)
        for a, e in zip(actual, expected.run_values(x, wanted)):
            np.testing.assert_array_equal(a, e)
    same = split.run_values(x, [2])[0]
    same[...] = 0
    assert x[0].any()


def test_a_node_that_nobody_takes_is_reported_with_every_reason() -> None:
    with pytest.raises(NotImplemented, match=r"(?s)Relu.*PickyProvider: too plain"):
        compile_model(diamond(), [Picky("MatMul", "Add")], Level.DISABLED)
