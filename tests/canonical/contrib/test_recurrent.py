# SPDX-License-Identifier: Apache-2.0
"""The LSTM of quantized weights against that of the numbers these stand for, and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import bascule

from .comparison import Array, feeds_of, model_of, normal, run_elsewhere, session
from .test_quantized_qlinear import BYTES, random_weights

STEPS, BATCH, WIDTH, HIDDEN = 5, 3, 6, 7
SHOWN = ["Y", "Y_h", "Y_c"]


def inputs(dtype: type, directions: int, by_column: bool, optional: bool) -> list[Array | None]:
    columns = (directions, 4 * HIDDEN) if by_column else (directions,)
    generator = np.random.default_rng([directions, by_column])

    def parameters() -> list[Array]:
        zero = 0 if dtype is np.int8 else 125
        scales = generator.uniform(0.002, 0.006, columns).astype(np.float32)
        return [scales, np.full(columns, zero, dtype)]

    state = (directions, BATCH, HIDDEN)
    given: list[Array | None] = [
        normal(STEPS, BATCH, WIDTH),
        random_weights(dtype, directions, WIDTH, 4 * HIDDEN),
        random_weights(dtype, directions, HIDDEN, 4 * HIDDEN, seed=1),
        normal(directions, 8 * HIDDEN) / np.float32(4) if optional else None,
        np.array([5, 2, 4], np.int32) if optional else None,
        normal(*state) if optional else None,
        normal(*state, seed=1) if optional else None,
        normal(directions, 3 * HIDDEN, seed=2) / np.float32(4) if optional else None,
    ]
    return [*given, *parameters(), *parameters()]


def of_numbers(given: list[Array | None], attributes: dict[str, Any]) -> list[Array]:
    """The standard's LSTM on the dequantized weights."""
    x, *weights = given[:3]
    floats = []
    for w, factors, zeros in zip(weights, given[8::2], given[9::2]):
        shape = (len(w), 1, -1)
        numbers = (w.astype(np.float64) - zeros.reshape(shape)) * factors.reshape(shape)
        floats.append(numbers.astype(np.float32).swapaxes(1, 2))
    values = [x, *floats, *given[3:8]]
    names = ["" if value is None else f"in{i}" for i, value in enumerate(values)]
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in zip(names, values)
        if value is not None
    ]
    node = helper.make_node("LSTM", names, SHOWN, **attributes)
    shown = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in SHOWN]
    graph = helper.make_graph([node], "g", infos, shown)
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return bascule.InferenceSession(model.SerializeToString()).run(None, feeds_of(values))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_dynamic_quantize_lstm(direction, optional, by_column, dtype) -> None:
    directions = 2 if direction == "bidirectional" else 1
    given = inputs(dtype, directions, by_column, optional)
    attributes = {"direction": direction, "hidden_size": HIDDEN}
    expected = of_numbers(given, attributes)
    weights = [1, 2, 8, 9, 10, 11]
    theirs = None
    for shapes, constants in [("static", weights), ("symbolic", weights), ("unknown", [])]:
        model = model_of(
            "DynamicQuantizeLSTM", given, attributes, 3, shapes=shapes, constants=constants
        )
        feeds = feeds_of(given, constants)
        theirs = run_elsewhere(model, feeds) if theirs is None else theirs
        found = session(model).run(None, feeds)
        for ours, exact in zip(found, expected):
            np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6)
    for ours, other in zip(expected, theirs or expected):
        # The other runtime rounds the rows to 8 bits.
        np.testing.assert_allclose(ours, other, atol=0.03)


@pytest.mark.parametrize(
    "attributes",
    [
        {"clip": 0.5},
        {"input_forget": 1},
        {"activations": ["HardSigmoid", "LeakyRelu", "Tanh"], "activation_alpha": [0.3, 0.2]},
    ],
)
def test_attributes(attributes: dict[str, Any]) -> None:
    given, attributes = inputs(np.int8, 1, True, True), {**attributes, "hidden_size": HIDDEN}
    model = model_of("DynamicQuantizeLSTM", given, attributes, 3)
    for ours, exact in zip(
        session(model).run(None, feeds_of(given)), of_numbers(given, attributes)
    ):
        np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6)
