# SPDX-License-Identifier: Apache-2.0
"""Models as PyTorch exports them: the slope along the gradient is the gradient's length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bascule

_MODELS = Path(__file__).parents[1] / "models" / "data"
_FLOAT = onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    "name", ["bert", "convnext_torchscript", "efficientnet", "llama", "t5_encoder_torchscript"]
)
def test_slope_along_the_gradient(name: str) -> None:
    proto = onnx.load(_MODELS / f"{name}.onnx")
    weights = {
        each.name: numpy_helper.to_array(each)
        for each in proto.graph.initializer
        if each.data_type == _FLOAT and each.dims
    }
    session = bascule.InferenceSession(proto.SerializeToString())
    output = session.get_outputs()[0].name
    data = np.load(_MODELS / f"{name}.npz")
    feeds = {arg.name: data[f"0/input/{arg.name}"] for arg in session.get_inputs()}
    shape = session.run([output], feeds)[0].shape
    factors = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(factors, "factors"))
    proto.graph.node.add(op_type="Mul", input=[output, "factors"], output=["weighted"])
    proto.graph.output.append(onnx.helper.make_tensor_value_info("weighted", _FLOAT, None))
    gradient = bascule.grad(proto, weights, "weighted", allow_unused=True)
    onnx.checker.check_model(gradient)
    slopes = bascule.InferenceSession(gradient).run(None, feeds)
    length = np.sqrt(sum(np.sum(np.square(slope, dtype=np.float64)) for slope in slopes))
    sums = []
    for step in (1e-3, -1e-3):
        moved = onnx.ModelProto()
        moved.CopyFrom(proto)
        tensors = {each.name: each for each in moved.graph.initializer}
        for (weight, array), slope in zip(weights.items(), slopes, strict=True):
            changed = (array + slope * (step / length)).astype(np.float32)
            tensors[weight].CopyFrom(numpy_helper.from_array(changed, weight))
        there = bascule.InferenceSession(moved.SerializeToString())
        sums.append(np.sum(there.run(["weighted"], feeds)[0], dtype=np.float64))
    np.testing.assert_allclose((sums[0] - sums[1]) / 2e-3, length, rtol=1e-3)
