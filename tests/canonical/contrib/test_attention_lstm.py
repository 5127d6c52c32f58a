# SPDX-License-Identifier: Apache-2.0
"""LSTM that attends on a memory, step by step in NumPy, and beside onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, assert_close, check, feeds_of, model_of, normal, session

STEPS, BATCH, SIZE, HIDDEN, ATTENTION, DEPTH, ROWS = 4, 3, 3, 4, 5, 6, 7


def sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x))
    return found


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Softsign": lambda x: x / (1 + abs(x)),
    "LeakyRelu": lambda x: np.where(x > 0, x, 0.3 * x),
    "HardSigmoid": lambda x: np.clip(0.7 * x + 0.4, 0, 1),
}
Three = tuple[Array, Array, Array]


def _turned(x: Array, lengths: Any) -> Array:
    x = x.copy()
    for sample, length in enumerate(lengths):
        x[:length, sample] = x[:length, sample][::-1]
    return x


def _one(inputs: list[Any], index: int, reverse: bool, attributes: dict[str, Any]) -> Three:
    """One direction of the operator."""
    x, w, r, b, lengths, h, c, p, query, keys, vector, memory, counts, layer = inputs
    lengths = [STEPS] * BATCH if lengths is None else lengths
    names = attributes.get("activations", ["Sigmoid", "Tanh", "Tanh"] * 2)
    f, g, last = (FUNCTIONS[name] for name in names[3 * index : 3 * index + 3])
    limit = attributes.get("clip", np.inf)
    valid = np.arange(ROWS) < (np.full(BATCH, ROWS) if counts is None else counts)[:, None]
    rows = memory * valid[..., None]
    h = np.zeros((BATCH, HIDDEN)) if h is None else h[index]
    c = np.zeros((BATCH, HIDDEN)) if c is None else c[index]
    bias = 0 if b is None else b[index].reshape(2, -1).sum(0)
    holes = np.zeros((3, HIDDEN)) if p is None else p[index].reshape(3, -1)
    found = np.zeros((BATCH, w.shape[2] - SIZE))
    x = _turned(x, lengths) if reverse else x
    states = np.zeros((STEPS, BATCH, HIDDEN))
    for step in range(STEPS):
        gates = np.concatenate([x[step], found], axis=1) @ w[index].T + h @ r[index].T + bias
        i, o, forget, new = np.split(gates, 4, axis=1)
        i = f(np.clip(i + holes[0] * c, -limit, limit))
        forget = f(np.clip(forget + holes[2] * c, -limit, limit))
        forget = 1 - i if attributes.get("input_forget") else forget
        cells = forget * c + i * g(np.clip(new, -limit, limit))
        state = f(np.clip(o + holes[1] * cells, -limit, limit)) * last(cells)
        sums = rows @ keys[index] + (state @ query[index])[:, None]
        scores = np.where(valid, (vector[index] * np.tanh(sums)).sum(-1), -np.inf)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        context = (weights[..., None] * rows).sum(1)
        if layer is not None:
            context = np.concatenate([state, context], axis=1) @ layer[index]
        active = (step < np.array(lengths))[:, None]
        states[step] = np.where(active, state, 0)
        h, c, found = (
            np.where(active, *pair) for pair in ((state, h), (cells, c), (context, found))
        )
    return _turned(states, lengths) if reverse else states, h, c


def _inputs(directions: int, left_out: str, layer: int) -> list[Any]:
    depth, d = layer or DEPTH, directions
    inputs: list[Any] = [
        normal(STEPS, BATCH, SIZE),
        normal(d, 4 * HIDDEN, SIZE + depth) / 2,
        normal(d, 4 * HIDDEN, HIDDEN) / 2,
        normal(d, 8 * HIDDEN),
        np.array([2, 4, 1], np.int32),
        normal(d, BATCH, HIDDEN, seed=1),
        normal(d, BATCH, HIDDEN, seed=2),
        normal(d, 3 * HIDDEN),
        normal(d, HIDDEN, ATTENTION),
        normal(d, DEPTH, ATTENTION),
        normal(d, ATTENTION),
        normal(BATCH, ROWS, DEPTH),
        np.array([7, 1, 4], np.int32),
        normal(d, DEPTH + HIDDEN, layer) if layer else None,
    ]
    optional = {"": [], "lengths": [4, 12], "state": [5, 6], "weights": [3, 7]}
    for index in optional[left_out]:
        inputs[index] = None
    return inputs


def _reference(attributes: dict[str, Any]) -> Callable[..., list[Array]]:
    direction = attributes.get("direction", "forward")

    def reference(*inputs: Any) -> list[Array]:
        given = [*inputs, *[None] * (14 - len(inputs))]
        ways = [direction == "reverse"] if direction != "bidirectional" else [False, True]
        found = [_one(given, index, way, attributes) for index, way in enumerate(ways)]
        y, h, c = zip(*found)
        return [np.stack(y, axis=1), np.stack(h), np.stack(c)]

    return reference


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    "left_out, layer", [("", 0), ("", 5), ("lengths", 5), ("state", 0), ("weights", 5)]
)
def test_directions(left_out: str, direction: str, layer: int) -> None:
    inputs = _inputs(2 if direction == "bidirectional" else 1, left_out, layer)
    attributes = {"direction": direction, "hidden_size": HIDDEN}
    shapes = ("static", "unknown")
    check(
        "AttnLSTM", _reference(attributes), inputs, attributes, dtypes=[np.float32], shapes=shapes
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {"clip": 0.3},
        {"input_forget": 1},
        {"activations": ["Sigmoid", "Relu", "Softsign"]},
        {
            "activations": ["HardSigmoid", "LeakyRelu", "Tanh"],
            "activation_alpha": [0.7, 0.3],
            "activation_beta": [0.4],
        },
    ],
)
def test_attributes(attributes: dict[str, Any]) -> None:
    attributes = {"hidden_size": HIDDEN, **attributes}
    inputs, reference = _inputs(1, "", 5), _reference(attributes)
    check("AttnLSTM", reference, inputs, attributes, dtypes=[np.float32], shapes=("static",))


def test_on_cuda() -> None:
    inputs = _inputs(2, "", 5)
    attributes = {"direction": "bidirectional"}
    model = model_of("AttnLSTM", inputs, attributes, 3)
    found = EmulatedSession(model.SerializeToString()).run(None, feeds_of(inputs))
    for array, wanted in zip(found, _reference(attributes)(*inputs), strict=True):
        assert_close(array, wanted, 2e-5, "cuda")


def test_bad_nodes() -> None:
    inputs = _inputs(1, "", 0)
    with pytest.raises(InvalidGraph, match="'direction' is 'up'"):
        session(model_of("AttnLSTM", inputs, {"direction": "up"}))
    with pytest.raises(InvalidGraph, match="'activations' has 2 names, expected 3"):
        session(model_of("AttnLSTM", inputs, {"activations": ["Tanh", "Tanh"]}))
    with pytest.raises(NotSupported, match="activation 'Affine'"):
        session(model_of("AttnLSTM", inputs, {"activations": ["Affine", "Tanh", "Tanh"]}))
    with pytest.raises(InvalidGraph, match="input 'M' is missing"):
        session(model_of("AttnLSTM", inputs[:11]))
