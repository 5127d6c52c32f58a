# SPDX-License-Identifier: Apache-2.0
"""A result does not depend on threads, on the run, on what else runs, or on batch neighbours."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule


def _initializers(generator: np.random.Generator, **shapes: tuple[int, ...]) -> list[Any]:
    return [
        numpy_helper.from_array(
            (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32), name
        )
        for name, shape in shapes.items()
    ]


def _model(nodes: list[Any], shape: list[Any], out: list[Any], initializers: list[Any]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        initializers,
    )
    imports = [helper.make_opsetid("", 23)]
    return helper.make_model(graph, opset_imports=imports, ir_version=11).SerializeToString()


def perceptron() -> tuple[bytes, tuple[int, ...]]:
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Gelu", ["a"], ["b"]),
        helper.make_node("LayerNormalization", ["b", "s"], ["c"]),
        helper.make_node("MatMul", ["c", "w2"], ["d"]),
        helper.make_node("Softmax", ["d"], ["y"]),
    ]
    weights = _initializers(generator, w1=(200, 530), s=(530,), w2=(530, 77))
    return _model(nodes, ["n", 200], ["n", 77], weights), (200,)


def transformer() -> tuple[bytes, tuple[int, ...]]:
    generator = np.random.default_rng(1)
    nodes = [helper.make_node("MatMul", ["x", f"w{c}"], [c]) for c in "qkv"] + [
        helper.make_node("Attention", ["q", "k", "v"], ["a"], q_num_heads=4, kv_num_heads=4),
        helper.make_node("Add", ["a", "x"], ["r"]),
        helper.make_node("Sigmoid", ["r"], ["y"]),
    ]
    weights = _initializers(generator, wq=(64, 64), wk=(64, 64), wv=(64, 64))
    return _model(nodes, ["n", 19, 64], ["n", 19, 64], weights), (19, 64)


def network() -> tuple[bytes, tuple[int, ...]]:
    generator = np.random.default_rng(2)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], group=24, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w3"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["e"], ["y"]),
    ]
    weights = _initializers(generator, w1=(24, 3, 3, 3), w2=(24, 1, 3, 3), w3=(50, 24, 3, 3))
    return _model(nodes, ["n", 3, 37, 41], ["n", 50, 1, 1], weights), (3, 37, 41)


MODELS = [perceptron, transformer, network]


def session(data: bytes, threads: int) -> bascule.InferenceSession:
    options = bascule.SessionOptions()
    options.intra_op_num_threads = threads
    return bascule.InferenceSession(data, options)


def batch(shape: tuple[int, ...], count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).standard_normal((count, *shape)).astype(np.float32)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_any_number_of_threads(make: Any) -> None:
    data, shape = make()
    x = batch(shape, 8)
    expected = session(data, 1).run(None, {"x": x})[0]
    for threads in (2, 3, 5):
        made = session(data, threads)
        for _ in range(3):
            np.testing.assert_array_equal(made.run(None, {"x": x})[0], expected)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_hundred_runs(make: Any) -> None:
    data, shape = make()
    made = session(data, 2)
    x = batch(shape, 2)
    expected = made.run(None, {"x": x})[0]
    for _ in range(100):
        np.testing.assert_array_equal(made.run(None, {"x": x})[0], expected)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_any_neighbours_in_the_batch(make: Any) -> None:
    data, shape = make()
    made = session(data, 2)
    x = batch(shape, 8)
    together = made.run(None, {"x": x})[0]
    for row in range(8):
        alone = made.run(None, {"x": x[row : row + 1]})[0]
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_eight_callers_at_once(make: Any) -> None:
    data, shape = make()
    made = session(data, 2)
    feeds = [batch(shape, 1 + i % 3) + i for i in range(8)]
    expected = [made.run(None, {"x": x})[0] for x in feeds]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            if (made.run(None, {"x": feeds[index]})[0] != expected[index]).any():
                wrong.append(index)

    callers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []
