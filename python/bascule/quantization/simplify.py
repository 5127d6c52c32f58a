# SPDX-License-Identifier: Apache-2.0
"""Constants and batch normalizations of a ModelProto folded, its opset kept."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from bascule.ir.walk import graphs_of
from bascule.options import GraphOptimizationLevel, SessionOptions
from bascule.quantization.onnx_model import ONNXModel, attribute
from bascule.session import InferenceSession

_KEPT = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"),
        *("Bernoulli", "Multinomial", "If", "Loop", "Scan", "SequenceMap", "Dropout"),
    }
)
"""Not computed: they are wanted, or not the same every time, or have graphs."""

_MOST_BYTES = 1 << 20
"""What a computed constant may take; a greater one, such as an expanded mask, stays computed."""


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that computes the same with fewer nodes.

    Nodes of constants are computed, and an inference-time BatchNormalization after a Conv of
    constant weights goes into those.
    """
    made = ONNXModel(model)
    _fold_constants(made)
    _fold_batch_normalizations(made)
    made.remove_unused()
    return made.model


def _fold_constants(model: ONNXModel) -> None:
    known = set(model.initializers) - {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    folded: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if (
            node.domain in ("", "ai.onnx")
            and node.op_type not in _KEPT
            and all(name in known or not name for name in node.input)
            and not outputs & set(node.output)
        ):
            folded.append(node)
            known |= set(node.output)
    if not folded:
        return
    names = [name for node in folded for name in node.output if name]
    values = dict(zip(names, _computed(model, folded, names)))
    small = {
        name: value
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.dtype != object and value.nbytes <= _MOST_BYTES
    }
    gone = {id(node) for node in folded if all(n in small for n in node.output if n)}
    read = {
        name
        for node in model.graph.node
        if id(node) not in gone
        for name in (*node.input, *_inner(node))
    }
    nodes = [node for node in model.graph.node if id(node) not in gone]
    made = {name for node in nodes for name in node.output}
    for name in read & set(small) - made:
        tensor = onnx.numpy_helper.from_array(small[name], name)
        model.graph.initializer.append(tensor)
        model.initializers[name] = model.graph.initializer[-1]
    model.set_nodes(nodes)


def _inner(node: onnx.NodeProto) -> set[str]:
    """What the graphs of a node read, perhaps from around it."""
    found: set[str] = set()
    for graph in graphs_of(node):
        found |= {value.name for value in graph.output}
        for inner in graph.node:
            found |= {*inner.input, *_inner(inner)}
    return found


def _computed(model: ONNXModel, nodes: list[onnx.NodeProto], names: list[str]) -> list[object]:
    wanted = {name for node in nodes for name in node.input}
    constants = [each for name, each in model.initializers.items() if name in wanted]
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = helper.make_graph(nodes, "constants", [], outputs, constants)
    proto = helper.make_model(graph, opset_imports=list(model.model.opset_import))
    proto.ir_version = model.model.ir_version
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    session = InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(names, {})


def _fold_batch_normalizations(model: ONNXModel) -> None:
    readers = model.consumers()
    outputs = {value.name for value in model.graph.output}
    producers = {node.output[0]: node for node in model.graph.node}
    gone: set[int] = set()
    for node in model.graph.node:
        source = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if (
            source is None
            or source.op_type != "Conv"
            or len(readers[node.input[0]]) != 1
            or source.output[0] in outputs
            or attribute(node, "training_mode", 0)
            or sum(bool(name) for name in node.output) != 1
        ):
            continue
        arrays = [model.array(name) for name in (*source.input[1:3], *node.input[1:5])]
        if any(array is None for array in arrays):
            continue
        _fold(model, source, node)
        source.output[0] = node.output[0]
        gone.add(id(node))
    model.set_nodes([node for node in model.graph.node if id(node) not in gone])


def _fold(model: ONNXModel, conv: onnx.NodeProto, normalization: onnx.NodeProto) -> None:
    """Put (x - mean) / sqrt(variance + epsilon) * scale + shift into weights and bias."""
    weights = model.array(conv.input[1])
    scale, shift, mean, variance = (model.array(name) for name in normalization.input[1:5])
    assert weights is not None and scale is not None and shift is not None
    assert mean is not None and variance is not None
    wide = [each.astype(np.float64) for each in (scale, shift, mean, variance)]
    factor = wide[0] / np.sqrt(wide[3] + attribute(normalization, "epsilon", 1e-5))
    bias = model.array(conv.input[2]) if len(conv.input) > 2 else None
    before = np.zeros_like(factor) if bias is None else bias.astype(np.float64)
    along = (-1, *[1] * (weights.ndim - 1))
    new_weights = (weights * factor.reshape(along)).astype(weights.dtype)
    new_bias = ((before - wide[2]) * factor + wide[1]).astype(weights.dtype)
    names = [
        model.add(f"{conv.input[1]}_folded", new_weights),
        model.add(f"{conv.output[0]}_bias_folded", new_bias),
    ]
    x = conv.input[0]
    del conv.input[:]
    conv.input.extend([x, *names])
