# SPDX-License-Identifier: Apache-2.0
"""Stacks of float32 convolutions stay within 1e-4 of float64, relative to the largest value.

The sizes are those where 3x3 convolutions may be transformed (Winograd), with tiles of 4 and 2.
"""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule


def convolve(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = np.zeros((x.shape[0], w.shape[0], height, width))
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + height, j : j + width]
            total += np.tensordot(w[:, :, i, j], window, (1, 1)).transpose(1, 0, 2, 3)
    return total


@pytest.mark.parametrize("channels, size", [(64, 56), (64, 15), (128, 14), (256, 7)])
def test_convolutions(channels: int, size: int) -> None:
    generator = np.random.default_rng(channels + size)
    deviation = (2 / (9 * channels)) ** 0.5
    shape = (channels, channels, 3, 3)
    weights = [generator.standard_normal(shape, np.float32) * np.float32(deviation) for _ in "abc"]
    x = generator.standard_normal((1, channels, size, size), np.float32)
    nodes, name, expected = [], "x", x.astype(np.float64)
    for index, w in enumerate(weights):
        sums, following = f"sums_{index}", f"y_{index}"
        nodes.append(helper.make_node("Conv", [name, f"w_{index}"], [sums], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [sums], [following]))
        name, expected = following, np.maximum(convolve(expected, w.astype(np.float64)), 0)
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(w, f"w_{i}") for i, w in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (actual,) = bascule.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
