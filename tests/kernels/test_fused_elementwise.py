# SPDX-License-Identifier: Apache-2.0
"""bascule.Elementwise gives the bits that its operators give one by one."""

from __future__ import annotations

import numpy as np
import pytest

from bascule.errors import NotImplemented as NotImplementedByBascule
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.types import TensorType
from tests.support.native import compile_graph

RANDOM = np.random.default_rng(7)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


class Body:
    """Builds the body of a node from the arrays that it will get."""

    def __init__(self) -> None:
        self.graph = Graph("body")
        self.feeds: list[np.ndarray] = []

    def input(self, array: np.ndarray) -> Value:
        self.feeds.append(array)
        type = TensorType(DataType.from_numpy(array.dtype), tuple(None for _ in array.shape))
        return self.graph.add_input(Value(f"x{len(self.feeds)}", type))

    def number(self, value: float, dtype: str = "float32") -> Value:
        name = f"number{len(self.graph.initializers)}"
        constant = Constant.from_numpy(np.asarray(value, dtype))
        return self.graph.add_initializer(Value(name, constant=constant))

    def __getattr__(self, op_type: str):
        def call(*inputs: Value | None, dtype: str = "float32", **attributes: object) -> Value:
            node = Node(op_type, list(inputs), 1, attributes, name=op_type)
            node.output.type = TensorType(DataType.from_numpy(np.dtype(dtype)), None)
            return self.graph.append(node).output

        return call

    def check(self, *outputs: Value, threads: int = 1) -> None:
        for value in outputs:
            self.graph.add_output(value)
        expected = compile_graph(self.graph).run_values(self.feeds, [])
        outer = Graph("outer")
        values = [outer.add_input(Value(f"y{i}", v.type)) for i, v in enumerate(self.graph.inputs)]
        node = outer.append(
            Node("Elementwise", values, len(outputs), {"body": self.graph}, domain=FUSED_DOMAIN)
        )
        for value, inner in zip(node.outputs, outputs):
            value.type = inner.type
            outer.add_output(value)
        runner = compile_graph(outer, threads)
        for _ in range(2):  # the second run follows the memory plan
            actual = runner.run_values(self.feeds, [])
            for a, e in zip(actual, expected):
                assert a.dtype == e.dtype and a.shape == e.shape
                assert a.tobytes() == e.tobytes()


@pytest.mark.parametrize("n", [0, 1, 5, 16, 63, 1000, 5000])
def test_chain_of_one_shape(n: int) -> None:
    body = Body()
    x, y = body.input(normal(n)), body.input(normal(n))
    t = body.Tanh(body.Mul(body.Add(x, y), body.number(0.5)))
    body.check(body.Sub(body.number(1), body.Mul(t, x)))


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 700), (700,)),
        ((300, 3), (3,)),
        ((300, 3), (300, 1)),
        ((2, 3, 40, 5), (3, 1, 1)),
        ((2, 3, 40, 5), (2, 1, 40, 1)),
        ((7, 1), (1, 9)),
        ((130,), (1,)),
        ((1, 1), (1,)),
    ],
)
def test_broadcasting(shapes: tuple[tuple[int, ...], ...]) -> None:
    body = Body()
    x, y = (body.input(normal(*shape)) for shape in shapes)
    t = body.Add(x, y)
    body.check(body.Div(body.Mul(t, y), body.Add(body.Exp(t), x)))


def test_other_types_and_conversions() -> None:
    body = Body()
    x, y = body.input(normal(33, 17)), body.input(normal(17, dtype="float64"))
    wide = body.Add(body.Cast(x, to=11, dtype="float64"), y, dtype="float64")
    less = body.Less(wide, body.number(0.25, "float64"), dtype="bool")
    whole = body.Cast(body.Mul(x, body.number(10)), to=6, dtype="int32")
    chosen = body.Where(
        body.And(less, body.Not(less, dtype="bool"), dtype="bool"),
        whole,
        body.Add(whole, body.number(3, "int32"), dtype="int32"),
        dtype="int32",
    )
    body.check(body.Mul(body.Cast(chosen, to=1), body.Cast(less, to=1)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_float_types_round_after_each_operator(dtype: str) -> None:
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    body = Body()
    x, y = body.input(normal(700).astype(kind)), body.input(normal(1).astype(kind))
    t = body.Mul(body.Add(x, y, dtype=kind), x, dtype=kind)
    body.check(body.Sigmoid(body.Sub(t, y, dtype=kind), dtype=kind))


def test_several_outputs() -> None:
    body = Body()
    x, y = body.input(normal(3000)), body.input(normal(3000))
    s = body.Add(x, y)
    e = body.Exp(s)
    body.check(s, body.Mul(e, x), e)


def test_clip_max_and_attributes() -> None:
    body = Body()
    x, top = body.input(normal(50, 40)), body.input(np.asarray(0.7, np.float32))
    t = body.Clip(x, None, top)
    u = body.Max(t, body.LeakyRelu(x, alpha=0.3), body.number(-0.5))
    body.check(body.Pow(body.Clip(u, body.number(-1), body.number(1)), body.number(2, "int64")))


def test_output_smaller_than_the_input_it_could_overwrite() -> None:
    body = Body()
    x, y = body.input(normal(2)), body.input(normal(4, 2))
    keep = body.Less(body.Neg(x), y, dtype="bool")
    body.check(body.Not(keep, dtype="bool"))


def test_threads_do_not_change_bits() -> None:
    body = Body()
    x, y = body.input(normal(700, 300)), body.input(normal(300))
    body.check(body.Gelu(body.Add(x, y)), threads=4)


def test_reasons() -> None:
    body = Body()
    x = body.input(normal(3))
    body.graph.add_output(body.Softmax(x))
    outer = Graph("outer")
    node = Node(
        "Elementwise",
        [outer.add_input(Value("x", x.type))],
        1,
        {"body": body.graph},
        domain=FUSED_DOMAIN,
    )
    outer.add_output(outer.append(node).output)
    with pytest.raises(NotImplementedByBascule, match="Softmax is not an elementwise operator"):
        compile_graph(outer)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("n", [0, 1, 15, 16, 63, 64, 257, 70_000])
def test_function_of_one_byte(n: int, dtype: str) -> None:
    body = Body()
    info = np.iinfo(dtype)
    x = body.input(RANDOM.integers(info.min, info.max, n, dtype, endpoint=True))
    f = body.DequantizeLinear(x, body.number(0.05), body.number(7, dtype))
    scales = body.number(0.03), body.number(-3 if dtype == "int8" else 90, dtype)
    body.check(body.QuantizeLinear(body.Gelu(f), *scales, dtype=dtype), threads=2)


def test_condition_on_one_byte() -> None:
    body = Body()
    x = body.input(np.arange(256, dtype=np.uint8))
    body.check(body.Greater(body.Cast(x, to=1), body.number(100.5), dtype="bool"))
