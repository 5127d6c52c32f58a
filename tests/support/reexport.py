# SPDX-License-Identifier: Apache-2.0
"""A model as another export of it could be: other names, order, and places of tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def reexported(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A copy that computes the same: nodes in a random topological order, all values but inputs and
    outputs under new names, without metadata of nodes, every third initializer in a Constant.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    generator = random.Random(seed)
    public = {v.name: v.name for v in [*made.graph.input, *made.graph.output]}
    _rename(made.graph, public, generator)
    _shuffle(made.graph, generator)
    _move_tensors(made.graph, generator)
    return made


def save_elsewhere(model: onnx.ModelProto, path: Path) -> None:
    """Write the model with its initializers in a file of their own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(
        copy, path, save_as_external_data=True, location=f"{path.stem}.data", size_threshold=0
    )


def perturb(model: onnx.ModelProto, count: int, seed: int = 0, scale: float = 0.05) -> list[str]:
    """Change some elements of `count` float tensors; returns the names of these."""
    generator = np.random.default_rng(seed)
    tensors = [t for t in _tensors(model.graph) if t.data_type == onnx.TensorProto.FLOAT]
    tensors = [t for t in tensors if np.prod(t.dims) >= 16 and _is_weight(t)]
    chosen = generator.permutation(len(tensors))[:count]
    for index in chosen:
        array = numpy_helper.to_array(tensors[index]).copy()
        noise = generator.standard_normal(array.shape).astype(array.dtype)
        array += scale * (array.std() + np.float32(0.1)) * noise
        tensors[index].CopyFrom(numpy_helper.from_array(array, tensors[index].name))
    return [tensors[index].name for index in chosen]


def _is_weight(tensor: onnx.TensorProto) -> bool:
    """Not a mask of the least number there is."""
    return bool(np.abs(numpy_helper.to_array(tensor)).max() < 1e6)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            node.attribute[0].t.name = node.output[0]
            yield node.attribute[0].t


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _reads(inner)
        yield from (output.name for output in graph.output)


def _shuffle(graph: onnx.GraphProto, generator: random.Random) -> None:
    nodes = list(graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{makers[name] for name in _reads(node) if name in makers} for node in nodes]
    order: list[int] = []
    ready = [index for index, each in enumerate(waits) if not each]
    while ready:
        done = ready.pop(generator.randrange(len(ready)))
        order.append(done)
        for index, each in enumerate(waits):
            if done in each:
                each.remove(done)
                if not each:
                    ready.append(index)
    assert len(order) == len(nodes)
    del graph.node[:]
    graph.node.extend([nodes[index] for index in order])


def _rename(graph: onnx.GraphProto, names: dict[str, str], generator: random.Random) -> None:
    def new(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}") if name else ""

    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    for node in graph.node:
        node.name = f"node{generator.randrange(10**9)}"
        node.doc_string = ""
        del node.metadata_props[:]
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for inner in _graphs(node):
            for value in inner.input:
                value.name = new(value.name)
            _rename(inner, names, generator)
            for value in inner.output:
                value.name = new(value.name)
    del graph.value_info[:]


def _move_tensors(graph: onnx.GraphProto, generator: random.Random) -> None:
    inputs = {value.name for value in graph.input}
    tensors = list(graph.initializer)
    generator.shuffle(tensors)
    nodes = list(graph.node)
    del graph.initializer[:], graph.node[:]
    for index, tensor in enumerate(tensors):
        if index % 3 or tensor.name in inputs:
            graph.initializer.append(tensor)
        else:
            graph.node.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
    for node in nodes:
        tensor = node.attribute[0].t if node.op_type == "Constant" else onnx.TensorProto()
        if tensor.data_type and generator.random() < 0.5:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            graph.node.append(node)
