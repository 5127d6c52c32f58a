# SPDX-License-Identifier: Apache-2.0
"""The bound of docs/find_out_why.md: what is right is within it, what is wrong is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bascule.ir.graph import Node
from bascule.session import InferenceSession
from bascule.tools.rounding import judge
from bascule.tools.rounding.bound import EXACT
from bascule.tools.rounding.lengths import length_of
from bascule.tools.stepping.prepared import feeds_of, prepare_session
from bascule.tools.stepping.steps import Environment, Stepper
from tests.optimizer.graphs import parse

_DATA = Path(__file__).parents[1] / "models" / "data"
_MODELS = ("bert_torchscript", "clip", "llama", "lstm_tagger", "resnet", "unet", "vit_float16")


@pytest.mark.parametrize("name", _MODELS)
def test_exported_models_are_within(name: str) -> None:
    """Far enough that another machine's kernels are, too."""
    session = InferenceSession(_DATA / f"{name}.onnx")
    stored = np.load(_DATA / f"{name}.npz")
    feeds = {arg.name: stored[f"0/input/{arg.name}"] for arg in session.get_inputs()}
    values = feeds_of(session, feeds)
    prepared = prepare_session(session, values, fused=False)
    environment = Environment()
    for value, array in zip(prepared.graph.inputs, values):
        environment[value] = array
    imports = prepared.model.opset_imports
    stepper = Stepper(prepared.providers, enters=lambda node: False)
    for step in stepper.steps(prepared.graph, environment):
        given = {id(value): array for value, array in step.inputs}
        own, results = zip(*step.outputs)
        other = [np.zeros_like(result) for result in results]  # not to be taken for right
        for judged in judge([step.node], own, imports, given, results, other):
            assert judged.ratio < 0.7, (step.node, judged)


def judged(text: str, feeds: dict[str, Any], change: Callable[[Any], Any]) -> Any:
    """What is said of a changed result of the nodes of a graph in ONNX text."""
    from bascule.providers.cpu.provider import CpuProvider

    model = parse(text)
    environment = Environment()
    given = {}
    for value in model.graph.inputs:
        environment[value] = given[id(value)] = feeds[value.name]
    steps = Stepper([CpuProvider(1)]).steps(model.graph, environment)
    right = [step for step in steps][-1].outputs[0][1]
    nodes, outputs = model.graph.nodes, model.graph.outputs
    return judge(nodes, outputs, model.opset_imports, given, [change(right)], [right])[0]


X = np.random.default_rng(1).standard_normal((16, 256), np.float32)
W = np.random.default_rng(2).standard_normal((256, 8), np.float32)
PRODUCT = "g (float[16,256] x, float[256,8] w) => (float[16,8] y) { y = MatMul(x, w) }"
GELU = """g (float[16,256] x) => (float[16,256] y) <float r = {1.41421356}, float one = {1},
    float h = {0.5}> { d = Div(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, h) }"""


def test_the_same_bits_are_exact() -> None:
    assert judged(PRODUCT, {"x": X, "w": W}, np.copy) == EXACT


@pytest.mark.parametrize("factor, is_within", [(1e-7, True), (1e-6, True), (1e-3, False)])
def test_a_relative_error(factor: float, is_within: bool) -> None:
    found = judged(PRODUCT, {"x": X, "w": W}, lambda y: y * np.float32(1 + factor))
    assert found.is_within == is_within, found


def test_another_formula() -> None:
    def by_tanh(_: Any) -> Any:
        inner = math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)
        return (0.5 * X * (1 + np.tanh(inner))).astype(np.float32)

    def by_erf(_: Any) -> Any:
        return np.array([[v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in r] for r in X], "f4")

    assert judged(GELU, {"x": X}, by_erf).is_within
    found = judged(GELU, {"x": X}, by_tanh)
    assert not found.is_within
    assert found.error > 1e-4


def test_one_wrong_element() -> None:
    def spoil(y: Any) -> Any:
        y = y.copy()
        y[3, 5] += 0.01
        return y

    found = judged(PRODUCT, {"x": X, "w": W}, spoil)
    assert found.index == (3, 5)
    assert found.error == pytest.approx(0.01, rel=1e-3)


def test_what_is_not_finite() -> None:
    text = "g (float16[2] x) => (float16[2] y) { y = Mul(x, x) }"
    x = np.array([400, 2], np.float16)
    assert judged(text, {"x": x}, np.copy).is_within  # both overflow: that is no difference
    finite = np.array([2, 3], np.float16)
    found = judged(text, {"x": finite}, lambda y: np.array([np.inf, 9], np.float16))
    assert found.error == np.inf and not found.is_within
    found = judged(text, {"x": finite}, lambda y: np.array([4, np.nan], np.float16))
    assert found.index == (1,) and not found.is_within


def test_integers_and_shapes() -> None:
    text = "g (int64[2] x) => (int64[2] y) { y = Add(x, x) }"
    x = np.array([1, 2])
    assert not judged(text, {"x": x}, lambda y: y + 1).is_within
    found = judged(text, {"x": x}, lambda y: y[:1])
    assert "shape [1] instead of [2]" in found.note


@pytest.mark.parametrize(
    "node, shapes, expected",
    [
        (Node("MatMul", [], attributes={}), [(2, 3, 7), (7, 5)], 7),
        (Node("Gemm", [], attributes={"transA": 1}), [(9, 3), (9, 5)], 9),
        (Node("Conv", [], attributes={}), [(1, 8, 5, 5), (4, 8, 3, 3)], 72),
        (Node("ReduceSum", [], attributes={}), [(4, 5)], 20),
        (Node("Softmax", [], attributes={"axis": 1}), [(4, 6, 2)], 6),
        (Node("LayerNormalization", [], attributes={"axis": -2}), [(4, 6, 2)], 12),
        (Node("LSTM", [], attributes={}), [(6, 2, 10), (1, 32, 10), (1, 32, 8)], 108),
        (Node("Relu", [], attributes={}), [(4, 5)], 1),
    ],
)
def test_lengths(node: Node, shapes: list[tuple[int, ...]], expected: int) -> None:
    assert length_of(node, shapes) == expected
