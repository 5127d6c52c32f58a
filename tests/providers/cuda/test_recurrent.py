# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN beside the CPU provider."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.cuda_emulation import missing, run_node
from tests.support.native import run_node as run_on_cpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def make_inputs(
    op_type: str, dtype: Any, attributes: dict[str, Any], lengths: bool, hidden: int = 5
) -> list[Any]:
    rng = np.random.default_rng(len(attributes) + hidden)
    gates, steps, batch, size = GATES[op_type], 4, 3, 6
    directions = 2 if attributes.get("direction") == "bidirectional" else 1

    def draw(*shape: int) -> Any:
        return (0.5 * rng.standard_normal(shape)).astype(dtype)

    state = (directions, batch, hidden)
    x = draw(steps, batch, size)
    if attributes.get("layout"):
        x, state = draw(batch, steps, size), (batch, directions, hidden)
    inputs = [x, draw(directions, gates * hidden, size), draw(directions, gates * hidden, hidden)]
    inputs.append(draw(directions, 2 * gates * hidden))
    inputs.append(np.array([4, 1, 0], np.int32) if lengths else None)
    inputs.append(draw(*state))
    if op_type == "LSTM":
        inputs += [draw(*state), draw(directions, 3 * hidden)]
    return inputs


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"direction": "reverse", "clip": 0.3},
        {"direction": "bidirectional", "layout": 1},
        {"input_forget": 1, "linear_before_reset": 1, "direction": "bidirectional"},
    ],
)
@pytest.mark.parametrize("lengths", [False, True])
def test_forms(op_type: str, attributes: dict[str, Any], lengths: bool) -> None:
    other = {"LSTM": "linear_before_reset", "GRU": "input_forget", "RNN": "input_forget"}[op_type]
    attributes = {k: v for k, v in attributes.items() if k != other}
    if op_type == "RNN":
        attributes.pop("linear_before_reset", None)
    inputs = make_inputs(op_type, np.float32, attributes, lengths)
    attributes["hidden_size"] = 5
    outputs = 3 if op_type == "LSTM" else 2
    actual = run_node(op_type, inputs, attributes, outputs)
    expected = run_on_cpu(op_type, inputs, attributes, outputs)
    for want, got in zip(expected, actual, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-12), (np.float16, 2e-3)], ids=["float64", "float16"]
)
def test_types(op_type: str, dtype: Any, tolerance: float) -> None:
    inputs = make_inputs(op_type, dtype, {}, False, hidden=37)
    outputs = 3 if op_type == "LSTM" else 2
    actual = run_node(op_type, inputs, {"hidden_size": 37}, outputs)
    expected = run_on_cpu(op_type, inputs, {"hidden_size": 37}, outputs)
    for want, got in zip(expected, actual, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "name",
    [
        *("Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"),
        *("Softsign", "Softplus", "Sigmoid"),
    ],
)
def test_activations(name: str) -> None:
    attributes = {
        "activations": [name],
        "activation_alpha": [0.4],
        "activation_beta": [0.3],
        "hidden_size": 5,
    }
    inputs = make_inputs("RNN", np.float32, {}, False)
    actual = run_node("RNN", inputs, attributes)[0]
    expected = run_on_cpu("RNN", inputs, attributes, 1)[0]
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)


def test_no_steps() -> None:
    inputs = make_inputs("GRU", np.float32, {}, False)
    inputs[0] = inputs[0][:0]
    y, h = run_node("GRU", inputs, {"hidden_size": 5}, 2)
    assert y.shape == (0, 1, 3, 5)
    np.testing.assert_array_equal(h, inputs[5])
