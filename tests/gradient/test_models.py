# SPDX-License-Identifier: Apache-2.0
"""Whole models: perceptron, convolutional network, transformer block; twice; and training them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

import bascule
from tests.gradient.differences import (
    OPSET,
    Array,
    assert_near,
    central_differences,
    ints,
    normal,
    positive,
)


@dataclass(frozen=True)
class Network:
    """A loss in ONNX text, the weights it is trained by, and its data."""

    text: str
    weights: dict[str, Array]
    data: dict[str, Array]

    def model(self, dtype: str = "double") -> onnx.ModelProto:
        inputs = []
        for name, array in {**self.weights, **self.data}.items():
            kind = dtype if array.dtype.kind == "f" else str(array.dtype)
            # The batch is of any size.
            dims = ["N", *array.shape[1:]] if name in self.data and name != "mask" else array.shape
            inputs.append(f"{kind}[{','.join(map(str, dims))}] {name}")
        return onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["" : {OPSET}]>\n'
            f"g ({', '.join(inputs)}) => ({dtype} loss) {{ {self.text} }}"
        )

    def feeds(self, dtype: Any = np.float64) -> dict[str, Array]:
        both = {**self.weights, **self.data}
        return {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in both.items()}


PERCEPTRON = Network(
    """
    h1 = Gemm<transB = 1>(x, w1, b1) a1 = Tanh(h1)
    h2 = MatMul(a1, w2) s2 = Add(h2, b2) a2 = Softplus(s2)
    scores = Gemm(a2, w3, b3)
    loss = SoftmaxCrossEntropyLoss(scores, labels)
    """,
    {
        "w1": normal(5, 4) / 2,
        "b1": normal(5),
        "w2": normal(5, 6) / 2,
        "b2": normal(6),
        "w3": normal(6, 3),
        "b3": normal(3),
    },
    {"x": normal(7, 4), "labels": ints(0, 2, 1, 1, 0, 2, 2)},
)

CONVOLUTIONAL = Network(
    """
    c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
    n1, m, v = BatchNormalization<training_mode = 1>(c1, s, b, mean, variance)
    r1 = Elu(n1)
    p1 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r1)
    c2 = Conv<strides = [2, 1]>(p1, w2) r2 = Gelu(c2)
    p2 = AveragePool<kernel_shape = [1, 2]>(r2) g = GlobalAveragePool(p2) f = Flatten(g)
    scores = Gemm(f, w3)
    loss = SoftmaxCrossEntropyLoss(scores, labels)
    """,
    {
        "w1": normal(4, 2, 3, 3) / 3,
        "b1": normal(4),
        "s": positive(4),
        "b": normal(4),
        "w2": normal(4, 4, 2, 2) / 2,
        "w3": normal(4, 3),
    },
    {
        "x": normal(3, 2, 6, 6),
        "labels": ints(0, 2, 1),
        "mean": normal(4),
        "variance": positive(4),
    },
)

TRANSFORMER = Network(
    """
    zero = Constant<value_int = 0>() heads = Constant<value_ints = [0, 0, 2, -1]>()
    words = Gather(table, tokens) x = Add(words, places)
    n1 = LayerNormalization(x, s1, b1)
    qkv = MatMul(n1, w_qkv) q, k, v = Split<axis = -1, num_outputs = 3>(qkv)
    rq = Reshape(q, heads) rk = Reshape(k, heads) rv = Reshape(v, heads)
    tq = Transpose<perm = [0, 2, 1, 3]>(rq) tk = Transpose<perm = [0, 2, 1, 3]>(rk)
    tv = Transpose<perm = [0, 2, 1, 3]>(rv)
    attended = Attention<is_causal = 1>(tq, tk, tv, mask)
    back = Transpose<perm = [0, 2, 1, 3]>(attended) flat = Constant<value_ints = [0, 0, -1]>()
    joined = Reshape(back, flat) o = MatMul(joined, w_o) x1 = Add(x, o)
    n2 = LayerNormalization(x1, s2, b2)
    up = MatMul(n2, w_up) act = Gelu<approximate = "tanh">(up) down = MatMul(act, w_down)
    x2 = Add(x1, down)
    scores = MatMul(x2, w_vocabulary) channels = Transpose<perm = [0, 2, 1]>(scores)
    loss = SoftmaxCrossEntropyLoss<ignore_index = -100>(channels, labels)
    """,
    {
        "table": normal(5, 4),
        "places": normal(3, 4) / 2,
        "s1": positive(4),
        "b1": normal(4),
        "w_qkv": normal(4, 12) / 2,
        "w_o": normal(4, 4) / 2,
        "s2": positive(4),
        "b2": normal(4),
        "w_up": normal(4, 6) / 2,
        "w_down": normal(6, 4) / 2,
        "w_vocabulary": normal(4, 5),
    },
    {
        "tokens": ints([0, 3, 1], [4, 4, 2]),
        "labels": ints([3, 1, -100], [4, 2, 0]),
        "mask": np.array([[True, False, False], [True, True, False], [False, True, True]]),
    },
)

NETWORKS = {
    "perceptron": PERCEPTRON,
    "convolutional": CONVOLUTIONAL,
    "transformer": TRANSFORMER,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_against_central_differences(name: str) -> None:
    network = NETWORKS[name]
    proto, feeds = network.model(), network.feeds()
    gradient = bascule.grad(proto, network.weights, "loss", keep_outputs=True)
    loss, *found = bascule.InferenceSession(gradient).run(None, feeds)
    session = bascule.InferenceSession(proto.SerializeToString())
    np.testing.assert_allclose(loss, session.run(None, feeds)[0], rtol=1e-8)
    for weight, actual in zip(network.weights, found, strict=True):
        assert_near(actual, central_differences(session, feeds, weight, 1e-5), 1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_other_runtimes_agree(name: str) -> None:
    """The reference evaluator in float64, and onnxruntime, where it is there, in float32."""
    network = NETWORKS[name]
    gradient = bascule.grad(network.model(), network.weights, "loss")
    onnx.checker.check_model(gradient, full_check=True)
    feeds = network.feeds()
    expected = [np.asarray(each) for each in ReferenceEvaluator(gradient).run(None, feeds)]
    for actual, one in zip(bascule.InferenceSession(gradient).run(None, feeds), expected):
        assert_near(actual, one, 1e-6)
    onnxruntime = pytest.importorskip("onnxruntime")
    narrow = bascule.grad(network.model("float"), network.weights, "loss")
    feeds = network.feeds(np.float32)
    theirs = onnxruntime.InferenceSession(narrow, providers=["CPUExecutionProvider"])
    ours = bascule.InferenceSession(narrow)
    for actual, other, one in zip(ours.run(None, feeds), theirs.run(None, feeds), expected):
        assert_near(actual, one.astype(np.float32), 2e-5)
        assert_near(other, one.astype(np.float32), 2e-5)


@pytest.mark.parametrize(
    "name, inner, outer",
    [
        ("perceptron", ["w1", "w3"], ["w2", "b1", "x"]),
        ("convolutional", ["w1", "s"], ["w2", "x", "b"]),
        ("transformer", ["w_qkv", "table"], ["s1", "w_up"]),
    ],
)
def test_second_derivatives(name: str, inner: list[str], outer: list[str]) -> None:
    network = NETWORKS[name]
    feeds = network.feeds()
    first = bascule.grad(network.model(), inner, "loss")
    second = bascule.grad(first, outer, [f"{each}_grad" for each in inner])
    onnx.checker.check_model(second)
    found = bascule.InferenceSession(second).run(None, feeds)
    # Of the sum of all outputs.
    proto = onnx.load_from_string(first)
    session = _sum_of_outputs(proto)
    for weight, actual in zip(outer, found, strict=True):
        assert_near(actual, central_differences(session, feeds, weight, 1e-5), 1e-6)


def _sum_of_outputs(proto: onnx.ModelProto) -> bascule.InferenceSession:
    names = [output.name for output in proto.graph.output]
    for name in names:
        proto.graph.node.add(
            op_type="ReduceSum", input=[name], output=[f"{name}_sum"]
        ).attribute.append(onnx.helper.make_attribute("keepdims", 0))
    proto.graph.node.add(op_type="Sum", input=[f"{name}_sum" for name in names], output=["total"])
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info("total", 11, []))
    return bascule.InferenceSession(proto.SerializeToString())


def test_dropout_in_training() -> None:
    """The gradient goes where the mask of the same run let numbers pass, scaled like them."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {OPSET}]>\n'
        "g (double[4,50] x, float ratio, bool training) => (double[4,50] y)"
        " { d = Dropout<seed = 7>(x, ratio, training) y = Mul(d, d) }"
    )
    session = bascule.InferenceSession(bascule.grad(proto, "x", "y", keep_outputs=True))
    x = normal(4, 50)
    feeds = {"x": x, "ratio": np.float32(0.25), "training": np.array(True)}
    y, dx = session.run(None, feeds)
    kept = y != 0
    assert 0 < np.count_nonzero(kept) < x.size
    np.testing.assert_allclose(dx, np.where(kept, 2 * x / 0.75**2, 0))
    y, dx = session.run(None, {**feeds, "training": np.array(False)})
    np.testing.assert_allclose(dx, 2 * x)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_with_adam_lowers_the_loss(name: str) -> None:
    """The gradient from one model, the update from another."""
    network = NETWORKS[name]
    gradient = bascule.InferenceSession(
        bascule.grad(network.model("float"), network.weights, "loss", keep_outputs=True)
    )
    update = bascule.InferenceSession(_adam(network))
    weights = {name: network.weights[name].astype(np.float32) for name in network.weights}
    states = {name: np.zeros_like(array) for name, array in weights.items()}
    squares = dict(states)
    losses = []
    for step in range(30):
        feeds = {**network.feeds(np.float32), **weights}
        loss, *slopes = gradient.run(None, feeds)
        losses.append(float(loss))
        lists = zip(weights, slopes, strict=True)
        inputs = {f"{name}_slope": slope for name, slope in lists}
        inputs.update({f"{name}_mean": array for name, array in states.items()})
        inputs.update({f"{name}_squares": array for name, array in squares.items()})
        inputs.update(weights, rate=np.float32(0.05), step=np.array(step))
        made = update.run(None, inputs)
        count = len(weights)
        weights, states, squares = (
            dict(zip(weights, made[start : start + count])) for start in (0, count, 2 * count)
        )
    assert losses[-1] < losses[0] / 3


def _adam(network: Network) -> bytes:
    parts = ("", "_slope", "_mean", "_squares")
    shapes = {name: list(array.shape) for name, array in network.weights.items()}
    inputs = [f"float{shapes[name]} {name}{part}" for part in parts for name in shapes]
    outputs = [
        f"float{shapes[name]} new_{name}{part}" for part in ("", *parts[2:]) for name in shapes
    ]
    made = ", ".join(output.split()[-1] for output in outputs)
    read = ", ".join(each.split()[-1] for each in inputs)
    domain = "ai.onnx.preview.training"
    return onnx.parser.parse_model(  # type: ignore[no-any-return]
        f'<ir_version: 10, opset_import: ["" : {OPSET}, "{domain}" : 1]>\n'
        f"g (float rate, int64 step, {', '.join(inputs)}) => ({', '.join(outputs)}) {{\n"
        f"  {made} = {domain}.Adam(rate, step, {read})\n}}"
    ).SerializeToString()


def test_a_training_step_in_one_model() -> None:
    """Gradient and Momentum nodes beside the network: weights in, better weights out."""
    domain = "ai.onnx.preview.training"
    session = bascule.InferenceSession(
        onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["" : {OPSET}, "{domain}" : 1]>\n'
            "g (float[N,4] x, int64[N] labels, float[4,3] w, float[4,3] v, int64 t)"
            " => (float loss, float[4,3] new_w, float[4,3] new_v) {"
            "  scores = MatMul(x, w) loss = SoftmaxCrossEntropyLoss(scores, labels)"
            f'  dw = {domain}.Gradient<xs = ["w"], zs = ["x", "labels"], y = "loss">(w, x, labels)'
            "  rate = Constant<value_float = 0.2>()"
            f'  new_w, new_v = {domain}.Momentum<alpha = 0.9, beta = 1.0, mode = "nesterov",'
            "    norm_coefficient = 0.0>(rate, t, w, dw, v) }"
        ).SerializeToString()
    )
    w = (normal(4, 3) / 4).astype(np.float32)
    v = np.zeros_like(w)
    x, labels = normal(8, 4).astype(np.float32), ints(0, 1, 2, 0, 1, 2, 0, 1)
    losses = []
    for step in range(40):
        loss, w, v = session.run(
            None, {"x": x, "labels": labels, "w": w, "v": v, "t": np.array(step)}
        )
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 2
