# SPDX-License-Identifier: Apache-2.0
"""What is computed at load time, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from bascule.ir.constant import Constant
from bascule.ir.graph import Node
from bascule.optimizer.context import Array, Context
from bascule.optimizer.eliminate_common_subexpressions import eliminate_common_subexpressions
from bascule.optimizer.fold_constants import fold_constants
from bascule.optimizer.fold_shapes import fold_shapes
from tests.optimizer.graphs import parse, reference_fold, run_passes


def operators(text: str, context: Context | None = None) -> list[str]:
    model = parse(text)
    run_passes(model, fold_constants, context=context)
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    "body",
    [
        "y = RandomNormal<shape = [2]>()",
        "y = RandomUniformLike(c)",
        "b = Bernoulli(c) y = Neg(b)",
        "y = DequantizeLinear(q, s)",
    ],
)
def test_is_kept(body: str) -> None:
    found = operators(
        f"""g () => (float[2] y) <float[2] c = {{1, 2}}, int8[2] q = {{1, 2}}, float s = {{2}}>
        {{ {body} }}"""
    )
    assert found[0] in body


def test_weights_are_quantized_at_once() -> None:
    found = operators(
        """g (float[2] x) => (float[2] y) <float[2] w = {1, 2}, float s = {0.5}, int8 z = {0}> {
            q = QuantizeLinear(w, s, z)
            d = DequantizeLinear(q, s, z)
            y = Add(x, d)
        }"""
    )
    assert found == ["DequantizeLinear", "Add"]


def test_default_of_an_input_is_not_folded() -> None:
    found = operators("g (float[2] c) => (float[2] y) <float[2] c = {1, 2}> { y = Neg(c) }")
    assert found == ["Neg"]


@pytest.mark.parametrize(
    ("dtype", "body"),
    [
        ("float", "y = ConstantOfShape(n)"),
        ("int64", "y = Range(zero, big, one)"),
        ("int64", "y = Expand(one, n)"),
    ],
)
def test_nothing_large_is_made(dtype: str, body: str) -> None:
    def refuse(node: Node, inputs: list[Array | None]) -> list[Array] | None:
        raise AssertionError(f"{node.op_type} must not be computed")

    text = f"""g () => ({dtype}[M] y) <int64[1] n = {{1000000000}}, int64 zero = {{0}},
        int64 big = {{1000000000}}, int64 one = {{1}}> {{ {body} }}"""
    assert operators(text, Context(fold=refuse))


def test_nothing_is_folded_without_a_way_to_compute() -> None:
    text = "g () => (float[2] y) <float[2] c = {1, 2}> { y = Neg(c) }"
    assert operators(text, Context()) == ["Neg"]
    assert operators(text, Context(fold=lambda node, inputs: None)) == ["Neg"]


def test_result_of_another_type_is_refused() -> None:
    def wrong(node: Node, inputs: list[Array | None]) -> list[Array]:
        return [np.zeros(2, dtype=np.float64)]

    text = "g () => (float[2] y) <float[2] c = {1, 2}> { y = Neg(c) }"
    assert operators(text, Context(fold=wrong)) == ["Neg"]


def test_in_nested_graphs() -> None:
    model = parse(
        """g (float[2] x, bool k) => (float[2] y) <float c = {2}> {
            y = If(k) <
                then_branch = p () => (float[2] u) { s = Neg(c) u = Mul(x, s) },
                else_branch = q () => (float[2] v) { v = Abs(x) }
            >
        }"""
    )
    run_passes(model, fold_constants, context=Context(fold=reference_fold))
    branch = model.graph.nodes[-1].attributes["then_branch"]
    assert [node.op_type for node in branch] == ["Mul"]


def test_large_shape_numbers_stay() -> None:
    model = parse(
        """g () => (int32 y) <int32 a = {2147483647}, int32 b = {1}> { t = Add(a, b) y = Neg(t) }"""
    )
    run_passes(model, fold_shapes)
    assert [node.op_type for node in model.graph] == ["Add", "Neg"]


def test_equal_constants_are_kept_once() -> None:
    model = parse(
        """g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2},
            float[1,2] c = {1, 2}, float[2] zero = {0, 0}, float[2] minus = {-0.0, -0.0}> {
            s = Add(x, a) t = Add(s, b) u = Add(t, c) v = Add(u, zero) w = Add(v, minus)
            shape = Constant<value_ints = [2]>()
            y = Reshape(w, shape)
        }"""
    )
    run_passes(model, eliminate_common_subexpressions)
    assert sorted(model.graph.initializers) == ["a", "c", "minus", "shape", "zero"]


def test_large_constants_that_differ_in_the_middle() -> None:
    model = parse("g (float[1] x) => (float[4096] y) { t = Neg(x) y = Add(t, x) }")
    first = np.zeros(4096, dtype=np.float32)
    second = first.copy()
    second[2000] = 1
    graph = model.graph
    for array in (first, second, first.copy()):
        value = graph.constant(Constant.from_numpy(array))
        node = graph.nodes[-1]
        node.set_input(1, graph.insert_before(node, Node("Add", [node.inputs[1], value])).output)
    run_passes(model, eliminate_common_subexpressions)
    assert len(graph.initializers) == 2
