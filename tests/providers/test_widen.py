# SPDX-License-Identifier: Apache-2.0
"""Nodes computed in wider types: which, in what, rounded how, and that explain() says so."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest

import bascule
from bascule.compiled import CompiledModel
from bascule.compiler import compile_model, settle
from bascule.errors import NotImplemented
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node
from bascule.ir.text import parse_graph
from bascule.optimizer import Level
from bascule.providers.base import Answer
from bascule.providers.cpu.provider import CpuProvider
from bascule.tools.explain import Explanation


class WithoutTypes:
    """The CPU provider, without its kernels for some element types, but with those of Cast."""

    name = "PoorProvider"

    def __init__(self, *dtypes: DataType) -> None:
        self._dtypes = dtypes
        self._cpu = CpuProvider(1)

    hosts_others = False

    def capabilities(self, graph: Graph) -> dict[Node, Answer]:
        return {
            node: Answer(None, "no such type") if self._lacks(node) else answer
            for node, answer in self._cpu.capabilities(graph).items()
        }

    def _lacks(self, node: Node) -> bool:
        values = [*node.inputs, *node.outputs]
        return node.op_type != "Cast" and any(v and v.dtype in self._dtypes for v in values)

    def compile(self, graph: Graph) -> Any:
        return self._cpu.compile(graph)


def compiled(text: str, *missing: DataType) -> CompiledModel:
    model = parse_graph(text)
    settle(model)
    return compile_model(model, [WithoutTypes(*missing)], Level.DISABLED)


def operators(found: CompiledModel) -> list[str]:
    return [row.op_type for row in found.rows]


def notes(found: CompiledModel) -> set[str]:
    return {row.note for row in found.rows}


HALF = DataType.FLOAT16


def test_casts_around_the_node() -> None:
    found = compiled("g (float16[N] x) => (float16[N] y) { y = Exp(x) }", HALF)
    assert operators(found) == ["Cast", "Exp", "Cast"]
    assert notes(found) == {"computed in float32: no kernel for float16"}
    assert [row.outputs[0][1] for row in found.rows] == [
        "tensor(float)",
        "tensor(float)",
        "tensor(float16)",
    ]
    x = np.arange(-20, 20, dtype=np.float16) / 4
    (y,) = found.program.run_values([x], [])
    np.testing.assert_array_equal(y, np.exp(x.astype(np.float64)).astype(np.float16))


def test_the_next_wider_type_with_a_kernel() -> None:
    text = "g (float16[N] x) => (float16[N] y) { y = Exp(x) }"
    found = compiled(text, HALF, DataType.FLOAT)
    assert notes(found) == {"computed in float64: no kernel for float16"}
    with pytest.raises(NotImplemented, match="no such type"):
        compiled(text, HALF, DataType.FLOAT, DataType.DOUBLE)


@pytest.mark.parametrize("dtype", [DataType.INT8, DataType.INT16, DataType.UINT8, DataType.UINT16])
def test_integers_wrap_as_in_their_own_type(dtype: DataType) -> None:
    name = dtype.onnx_name
    found = compiled(f"g ({name}[N] x, {name}[N] z) => ({name}[N] y) {{ y = Mul(x, z) }}", dtype)
    wide = "uint32" if name.startswith("u") else "int32"
    assert notes(found) == {f"computed in {wide}: no kernel for {name}"}
    x = np.arange(-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1), 3).astype(dtype.numpy)
    (y,) = found.program.run_values([x, x[::-1].copy()], [])
    np.testing.assert_array_equal(y, x * x[::-1])


def test_all_values_of_a_type_parameter_are_widened_and_no_others() -> None:
    text = """
    g (float16[N,4] x, bool[N,4] c, float16[4] z) => (float16[N,4] y) { y = Where(c, x, z) }
    """
    found = compiled(text, HALF)
    assert operators(found) == ["Cast", "Cast", "Where", "Cast"]


def test_a_value_read_twice_is_cast_once() -> None:
    found = compiled("g (float16[N] x) => (float16[N] y) { y = Mul(x, x) }", HALF)
    assert operators(found) == ["Cast", "Mul", "Cast"]


def test_constants_are_widened_when_the_model_is_loaded() -> None:
    weights = "float16[2] w = {15872, 49152}"  # the bits of 1.5 and -2
    found = compiled(
        f"g (float16[N,2] x) => (float16[N,2] y) <{weights}> {{ y = Mul(x, w) }}", HALF
    )
    assert operators(found) == ["Cast", "Mul", "Cast"]
    (y,) = found.program.run_values([np.array([[2, 3]], np.float16)], [])
    assert y.tolist() == [[3, -6]]


def test_a_function_is_computed_wide_as_a_whole() -> None:
    """SwiGLU consists of Swish and Mul, between which nothing is rounded."""
    model = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["": 28]>
    g (bfloat16[N] a, bfloat16[N] b) => (bfloat16[N] y) { y = SwiGLU(a, b) }
    """)
    session = bascule.InferenceSession(model.SerializeToString())
    rows = session.explain().rows
    assert {row.note for row in rows} == {"computed in float32: no kernel for bfloat16"}
    random = np.random.default_rng(5)
    a, b = random.uniform(-4, 4, (2, 4000)).astype(ml_dtypes.bfloat16)
    (y,) = session.run(None, {"a": a, "b": b})
    x, gate = a.astype(np.float64), b.astype(np.float64)
    low, high = (
        (x / (1 + np.exp(-x)) * gate * factor).astype(ml_dtypes.bfloat16).astype(np.float64)
        for factor in (1 - 1e-6, 1 + 1e-6)
    )
    found = y.astype(np.float64)
    assert ((np.minimum(low, high) <= found) & (found <= np.maximum(low, high))).all()


def test_types_decide_what_casts_do() -> None:
    text = """
    g (float16[N] x, float16 scale, int8 zero) => (int8[N] y) { y = QuantizeLinear(x, scale, zero) }
    """
    with pytest.raises(NotImplemented, match="no such type"):
        compiled(text, HALF)


def test_explain_shows_the_reason() -> None:
    found = compiled("g (float16[N] x) => (float16[N] y) { y = Exp(x) }", HALF)
    explanation = Explanation(found.rows, {}, {})
    assert {record["reason"] for record in explanation.records()} == notes(found)
    assert str(explanation).count("computed in float32: no kernel for flo") == 3


NESTED = """
g (float16[N] x, int64 n, bool go) => (float16[N] y) {
  y = Loop (n, go, x) <body = body (int64 i, bool on, float16[N] s) => (bool more, float16[N] t) {
    more = Identity(on)
    t = Exp(s)
  }>
}
"""


def test_nodes_of_nested_graphs() -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 23]> {NESTED}')
    model.graph.node[0].name = "loop"
    rows = bascule.InferenceSession(model.SerializeToString()).explain().rows
    assert [(row.inside, row.op_type) for row in rows] == [
        ("", "Loop"),
        ("loop.body/", "Identity"),
        ("loop.body/", "Exp"),
    ]
