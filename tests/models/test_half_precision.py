# SPDX-License-Identifier: Apache-2.0
"""Models in float16 and bfloat16 run on the kernels of the float32 model, and stay close to it."""

from __future__ import annotations

from collections import Counter

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import bascule
from tests.models.test_models import DATA, load_runs

TYPES = {
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
}
TOLERANCE = {np.dtype(np.float16): 1e-2, np.dtype(ml_dtypes.bfloat16): 3e-2}
"""Relative to the largest value; bfloat16 has three bits less."""

NAMES = ("bert", "vit", "swin", "resnet", "convnext", "efficientnet", "segformer", "llama")


def _session(name: str, dtype: np.dtype, weights_only: bool) -> bascule.InferenceSession:
    """The model with its weights rounded, and unless `weights_only` all of it in the type."""
    model = onnx.load(DATA / f"{name}.onnx")
    graph = model.graph
    del graph.value_info[:]
    constants = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        least = float(ml_dtypes.finfo(dtype).min)
        rounded = numpy_helper.to_array(tensor).clip(least, -least).astype(dtype)
        rounded = rounded.astype(np.float32) if weights_only else rounded
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    if not weights_only:
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TYPES[dtype]
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TYPES[dtype]
    return bascule.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _rounded(feeds: dict[str, npt.NDArray], dtype: np.dtype) -> dict[str, npt.NDArray]:
    return {
        name: value.astype(dtype) if value.dtype == np.float32 else value
        for name, value in feeds.items()
    }


def _wide(feeds: dict[str, npt.NDArray], dtype: np.dtype) -> dict[str, npt.NDArray]:
    return {
        name: value.astype(np.float32) if value.dtype == dtype else value
        for name, value in feeds.items()
    }


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_close_to_float32_on_the_same_kernels(name: str, dtype: np.dtype) -> None:
    plain, half = _session(name, dtype, True), _session(name, dtype, False)
    operators, of_half = (
        Counter((row.domain, row.op_type) for row in session.explain().rows)
        for session in (plain, half)
    )
    assert of_half == operators
    feeds = _rounded(load_runs(name)[0][0], dtype)
    for expected, actual in zip(plain.run(None, _wide(feeds, dtype)), half.run(None, feeds)):
        if expected.dtype != np.float32:
            continue
        assert actual.dtype == dtype
        error = np.abs(actual.astype(np.float64) - expected).max()
        assert error <= TOLERANCE[dtype] * np.abs(expected).max()
