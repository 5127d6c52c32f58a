# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN against a step-by-step NumPy walk in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument
from tests.support.native import run_node

Function = Callable[[np.ndarray], np.ndarray]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.5).astype(dtype)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(x: np.ndarray, h: np.ndarray, c: np.ndarray, p: dict[str, Any]) -> Any:
    f, g, out = p["functions"]
    i, o, forget, cell = np.split(x @ p["w"].T + h @ p["r"].T + p["wb"] + p["rb"], 4, -1)
    pi, po, pf = np.split(p["p"], 3)
    clip = p["clip"]
    i = f(clip(i + pi * c))
    forget = 1 - i if p["couple"] else f(clip(forget + pf * c))
    c = forget * c + i * g(clip(cell))
    return f(clip(o + po * c)) * out(c), c


def gru_step(x: np.ndarray, h: np.ndarray, c: np.ndarray, p: dict[str, Any]) -> Any:
    f, g = p["functions"]
    wz, wr, wh = np.split(x @ p["w"].T + p["wb"], 3, -1)
    rz, rr, rh = np.split(p["r"], 3)
    bz, br, bh = np.split(p["rb"], 3)
    clip = p["clip"]
    z = f(clip(wz + h @ rz.T + bz))
    r = f(clip(wr + h @ rr.T + br))
    hidden = r * (h @ rh.T + bh) if p["linear"] else (r * h) @ rh.T + bh
    return (1 - z) * g(clip(wh + hidden)) + z * h, c


def rnn_step(x: np.ndarray, h: np.ndarray, c: np.ndarray, p: dict[str, Any]) -> Any:
    (f,) = p["functions"]
    return f(p["clip"](x @ p["w"].T + h @ p["r"].T + p["wb"] + p["rb"])), c


STEP = {"LSTM": lstm_step, "GRU": gru_step, "RNN": rnn_step}
DEFAULT: dict[str, list[Function]] = {
    "LSTM": [sigmoid, np.tanh, np.tanh],
    "GRU": [sigmoid, np.tanh],
    "RNN": [np.tanh],
}


def reference(
    op_type: str,
    x: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    h0: np.ndarray | None = None,
    c0: np.ndarray | None = None,
    peepholes: np.ndarray | None = None,
    functions: list[Function] | None = None,
    direction: str = "forward",
    clip: float = np.inf,
    linear_before_reset: int = 0,
    input_forget: int = 0,
) -> list[np.ndarray]:
    """X is [steps, batch, input]; Y [steps, directions, batch, hidden], Y_h and Y_c."""
    steps, batch, _ = x.shape
    directions, rows, _ = w.shape
    hidden = r.shape[2]
    if b is None:
        b = np.zeros((directions, 2 * rows))
    h_all = np.zeros((directions, batch, hidden)) if h0 is None else h0.astype(np.float64)
    c_all = np.zeros((directions, batch, hidden)) if c0 is None else c0.astype(np.float64)
    h_all, c_all = h_all.copy(), c_all.copy()
    lengths = np.full(batch, steps) if lengths is None else lengths
    p_all = np.zeros((directions, 3 * hidden)) if peepholes is None else peepholes
    y = np.zeros((steps, directions, batch, hidden))
    for d in range(directions):
        parameters = {
            "w": w[d].astype(np.float64),
            "r": r[d].astype(np.float64),
            "wb": b[d, :rows].astype(np.float64),
            "rb": b[d, rows:].astype(np.float64),
            "p": p_all[d].astype(np.float64),
            "functions": functions or DEFAULT[op_type],
            "clip": lambda v: np.clip(v, -clip, clip),
            "linear": linear_before_reset,
            "couple": input_forget,
        }
        for item in range(batch):
            order = range(lengths[item])
            h, c = h_all[d, item], c_all[d, item]
            for t in reversed(order) if d or direction == "reverse" else order:
                h, c = STEP[op_type](x[t, item].astype(np.float64), h, c, parameters)
                y[t, d, item] = h
            h_all[d, item], c_all[d, item] = h, c
    return [y, h_all, c_all]


def weights(
    op_type: str, directions: int, size: int, hidden: int, dtype: Any = np.float32
) -> list[np.ndarray]:
    rows = GATES[op_type] * hidden
    return [
        normal(directions, rows, size, seed=1, dtype=dtype),
        normal(directions, rows, hidden, seed=2, dtype=dtype),
        normal(directions, 2 * rows, seed=3, dtype=dtype),
    ]


def check(
    op_type: str,
    inputs: list[np.ndarray | None],
    attributes: dict[str, Any],
    functions: list[Function] | None = None,
    tolerance: float = 1e-5,
) -> None:
    outputs = 3 if op_type == "LSTM" else 2
    options = {k: v for k, v in attributes.items() if not k.startswith("activation")}
    expected = reference(op_type, *inputs, functions=functions, **options)  # type: ignore[misc]
    attributes = {**attributes, "hidden_size": inputs[2].shape[2]}  # type: ignore[union-attr]
    results = {}
    for threads in (1, 2, 3):
        results[threads] = run_node(
            op_type, inputs, attributes, outputs, threads=threads, constants=(1, 2), runs=2
        )
        for actual, one in zip(results[threads], results[1]):
            assert np.array_equal(actual, one)
    for actual, wanted in zip(results[1], expected):
        assert actual.shape == wanted.shape
        np.testing.assert_allclose(actual.astype(np.float64), wanted, tolerance, tolerance)
    # Batch first, with weights that are no constants.
    first = [None if a is None else a for a in inputs]
    for i in (0, 5, 6):
        if i < len(first) and first[i] is not None:
            first[i] = np.swapaxes(first[i], 0, 1)
    actual = run_node(op_type, first, {**attributes, "layout": 1}, outputs)
    assert np.array_equal(actual[0], results[1][0].transpose(2, 0, 1, 3))
    for state, wanted in zip(actual[1:], results[1][1:]):
        assert np.array_equal(state, np.swapaxes(wanted, 0, 1))


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("batch, hidden", [(1, 5), (3, 16), (4, 37)])
def test_directions(op_type: str, direction: str, batch: int, hidden: int) -> None:
    directions = 2 if direction == "bidirectional" else 1
    inputs = [normal(6, batch, 7), *weights(op_type, directions, 7, hidden)]
    check(op_type, inputs, {"direction": direction})


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch, hidden", [(1, 300), (9, 130)])
def test_many_units(op_type: str, batch: int, hidden: int) -> None:
    parts = weights(op_type, 1, 7, hidden)
    inputs = [normal(3, batch, 7), *(part / hidden**0.5 for part in parts)]
    check(op_type, inputs, {})
    # A sequence has the same bits in a batch and alone, also where it ends before others.
    lengths = np.array([3] * (batch - 1) + [2], np.int32)
    attributes = {"hidden_size": hidden}
    whole = run_node(op_type, [*inputs, lengths], attributes, constants=(1, 2), threads=2)[0]
    for item in (0, batch - 1):
        x = inputs[0][: lengths[item], item : item + 1]
        alone = run_node(op_type, [x, *inputs[1:]], attributes, constants=(1, 2))[0]
        assert np.array_equal(alone[:, :, 0], whole[: lengths[item], :, item])


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lengths_and_states(op_type: str, direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    lengths = np.array([5, 2, 0, 4], np.int32)
    inputs = [normal(5, 4, 3), *weights(op_type, directions, 3, 9), lengths]
    inputs.append(normal(directions, 4, 9, seed=4))
    if op_type == "LSTM":
        inputs.append(normal(directions, 4, 9, seed=5))
    check(op_type, inputs, {"direction": direction})


def test_peepholes_clip_and_coupling() -> None:
    inputs = [normal(5, 2, 3) * 4, *weights("LSTM", 1, 3, 9), None, None, None]
    inputs.append(normal(1, 27, seed=6))
    check("LSTM", inputs, {"clip": 0.4})
    check("LSTM", inputs, {"input_forget": 1})


@pytest.mark.parametrize("linear", [0, 1])
@pytest.mark.parametrize("with_bias", [False, True])
def test_reset_before_or_after(linear: int, with_bias: bool) -> None:
    w, r, b = weights("GRU", 2, 3, 19)
    inputs = [normal(5, 2, 3), w, r, *([b] if with_bias else [])]
    check("GRU", inputs, {"direction": "bidirectional", "linear_before_reset": linear})


ACTIVATIONS: dict[str, tuple[Function, list[float], list[float]]] = {
    "Relu": (lambda x: np.maximum(x, 0), [], []),
    "Sigmoid": (sigmoid, [], []),
    "Tanh": (np.tanh, [], []),
    "Affine": (lambda x: 0.5 * x + 0.25, [0.5], [0.25]),
    "LeakyRelu": (lambda x: np.where(x < 0, 0.125 * x, x), [0.125], []),
    "ThresholdedRelu": (lambda x: np.where(x >= 0.25, x, 0), [0.25], []),
    "ScaledTanh": (lambda x: 0.5 * np.tanh(2 * x), [0.5], [2.0]),
    "HardSigmoid": (lambda x: np.clip(0.25 * x + 0.5, 0, 1), [0.25], [0.5]),
    "Elu": (lambda x: np.where(x < 0, 0.5 * np.expm1(x), x), [0.5], []),
    "Softsign": (lambda x: x / (1 + abs(x)), [], []),
    "Softplus": (lambda x: np.log1p(np.exp(x)), [], []),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations(name: str, dtype: Any) -> None:
    function, alpha, beta = ACTIVATIONS[name]
    attributes: dict[str, Any] = {"activations": [name]}
    if alpha:
        attributes["activation_alpha"] = alpha
    if beta:
        attributes["activation_beta"] = beta
    inputs = [normal(3, 2, 3, dtype=dtype), *weights("RNN", 1, 3, 21, dtype)]
    check("RNN", inputs, attributes, [function])


def test_every_activation_of_a_cell_is_used() -> None:
    names = ["HardSigmoid", "Elu", "ScaledTanh"]
    chosen = [ACTIVATIONS[name] for name in names]
    attributes = {
        "activations": names,
        "activation_alpha": [a for _, alpha, _ in chosen for a in alpha],
        "activation_beta": [b for _, _, beta in chosen for b in beta],
    }
    inputs = [normal(3, 2, 3), *weights("LSTM", 1, 3, 9)]
    check("LSTM", inputs, attributes, [function for function, _, _ in chosen])


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "dtype, tolerance", [(np.float64, 1e-12), (np.float16, 1e-3), (ml_dtypes.bfloat16, 1e-2)]
)
def test_types(op_type: str, dtype: Any, tolerance: float) -> None:
    inputs = [normal(4, 2, 3, dtype=dtype), *weights(op_type, 2, 3, 9, dtype)]
    check(op_type, inputs, {"direction": "bidirectional"}, tolerance=tolerance)


def test_what_does_not_fit_is_refused() -> None:
    x, (w, r, b) = normal(4, 2, 3), weights("GRU", 1, 3, 5)
    with pytest.raises(Fail, match="W has shape"):
        run_node("GRU", [x, w[:, :, :2], r])
    with pytest.raises(Fail, match="B has shape"):
        run_node("GRU", [x, w, r, b[:, :3]])
    with pytest.raises(InvalidArgument, match="sequence_lens"):
        run_node("GRU", [x, w, r, b, np.array([5, 1], np.int32)])
    with pytest.raises(InvalidArgument, match="activation"):
        run_node("GRU", [x, w, r], {"activations": ["Sigmoid", "Cube"]})
