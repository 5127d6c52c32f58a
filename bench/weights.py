# SPDX-License-Identifier: Apache-2.0
"""Let models travel without their weights, and give them weights of the same spread again.

    python bench/weights.py strip bench/models/*.onnx --out stripped
    python bench/weights.py fill stripped/*.onnx --out models

A model of hundreds of megabytes with random weights becomes a file of a hundred kilobytes: of each
large tensor only the means and deviations are kept (one for each filter of a convolution, so that
folded batch normalization stays alive), and what is small, integer or repetitive stays as it is.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

KEPT = 2048
"""Tensors of up to this many elements are kept exactly."""
MARK = "random weights"
"""The metadata of a tensor whose bytes were taken away."""


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model.graph):
        yield from graph.initializer


def _is_random(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is large, of floating-point numbers, and does not compress."""
    if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) <= KEPT:
        return False
    sample = tensor.raw_data[: 1 << 16]
    return len(zlib.compress(sample, 1)) > len(sample) // 2


def strip(model: onnx.ModelProto) -> bytes:
    """The model with random tensors described by their spread, without comments, compressed."""
    for graph in _graphs(model.graph):
        for part in (*graph.node, *graph.value_info, *graph.initializer):
            part.doc_string = ""
            del part.metadata_props[:]
    for tensor in _tensors(model):
        if not _is_random(tensor):
            continue
        array = onnx.numpy_helper.to_array(tensor)
        rows = array.reshape(array.shape[0] if array.ndim > 2 else 1, -1).astype(np.float64)
        spread = np.stack([rows.mean(1), rows.std(1)]).astype(np.float32)
        tensor.raw_data = spread.tobytes()
        tensor.metadata_props.add(key=MARK, value="")
    return zlib.compress(model.SerializeToString(), 9)


def fill(data: bytes) -> onnx.ModelProto:
    """A model whose tensors have the spread that `strip` found, the same ones every time.

    Exports of a model for several batch sizes, whose names may differ, get the same weights.
    """
    model = onnx.ModelProto.FromString(zlib.decompress(data))
    marked = (t for t in _tensors(model) if any(e.key == MARK for e in t.metadata_props))
    for seed, tensor in enumerate(marked):
        mean, deviation = np.frombuffer(tensor.raw_data, np.float32).reshape(2, -1, 1)
        shape = (len(mean), int(np.prod(tensor.dims)) // len(mean))
        values = np.random.default_rng(seed).standard_normal(shape, np.float32)
        if len(mean) > 1:  # exactly as wide as they were, so that no layer drifts
            values -= values.mean(1, keepdims=True)
            values /= values.std(1, keepdims=True)
        values *= deviation
        values += mean
        tensor.raw_data = values.tobytes()
        del tensor.metadata_props[:]
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Take away or bring back the weights of models.")
    parser.add_argument("action", choices=("strip", "fill"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in arguments.files:
        if arguments.action == "strip":
            target = arguments.out / f"{path.name}.stripped"
            target.write_bytes(strip(onnx.load(path)))
        else:
            target = arguments.out / path.name.removesuffix(".stripped")
            target.write_bytes(fill(path.read_bytes()).SerializeToString())
        sizes = [f"{file.stat().st_size / 1e3:,.0f} KB" for file in (path, target)]
        print(f"{target}: {sizes[0]} to {sizes[1]}")


if __name__ == "__main__":
    main()
