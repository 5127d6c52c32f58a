# SPDX-License-Identifier: Apache-2.0
"""A float32 model as one that computes in float16 throughout, as users convert theirs.

python bench/half.py gpt2_decode bert_base     # writes models/gpt2_decode-float16.onnx, .npz...
bascule bench bench/models/gpt2_decode-float16.onnx -i bench/models/gpt2_decode-float16.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Change every float32 in place, inputs and outputs included; masks become finite."""
    _graph_to_half(model.graph)
    return model


def _graph_to_half(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for tensor in graph.initializer:
        _tensor_to_half(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == _FLOAT:
            value.type.tensor_type.elem_type = _HALF
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _tensor_to_half(attribute.t)
            elif attribute.HasField("g"):
                _graph_to_half(attribute.g)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
                attribute.i = _HALF


def _tensor_to_half(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _FLOAT:
        largest = np.finfo(np.float16).max
        array = onnx.numpy_helper.to_array(tensor).clip(-largest, largest).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", help="models in the folder")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "models")
    options = parser.parse_args()
    for name in options.names:
        model = to_half(onnx.load(options.folder / f"{name}.onnx"))
        onnx.save(model, options.folder / f"{name}-float16.onnx")
        with np.load(options.folder / f"{name}.npz") as inputs:
            arrays = {
                key: array.astype(np.float16) if array.dtype == np.float32 else array
                for key, array in inputs.items()
            }
        np.savez(options.folder / f"{name}-float16.npz", **arrays)


if __name__ == "__main__":
    main()
