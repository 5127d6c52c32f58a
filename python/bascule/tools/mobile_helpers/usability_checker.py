# SPDX-License-Identifier: Apache-2.0
"""How many nodes of a model the accelerators of phones take, by operator and by fixed sizes.

What a node's attributes and types add to that is not looked at. The operators are those that
onnxruntime's documentation lists for its NNAPI and CoreML execution providers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from bascule.ir.walk import graphs_in, graphs_of
from bascule.tools.onnx_model_utils import is_fixed_size_tensor

_BOTH = """
Add AveragePool Cast Clip Concat Conv DepthToSpace Div Gemm GlobalAveragePool GlobalMaxPool
LeakyRelu MatMul MaxPool Mul PRelu Pow Relu Reshape Resize Sigmoid Slice Softmax Split Sqrt Squeeze
Sub Tanh Transpose
"""
_NNAPI = """
Abs BatchNormalization DequantizeLinear Elu Exp Flatten Floor Gather Identity LRN Log Max Min Neg
Pad QLinearConv QLinearMatMul QuantizeLinear ReduceMean Sin Unsqueeze com.microsoft:QLinearAdd
com.microsoft:QLinearAveragePool com.microsoft:QLinearSigmoid
"""
_NEURAL_NETWORK = "ArgMax BatchNormalization Flatten Gather LRN Pad Reciprocal Shape"
_ML_PROGRAM = """
And ArgMax Ceil ConvTranspose Cos Elu Erf Exp GatherND Gelu GridSample GroupNormalization
HardSigmoid Identity InstanceNormalization LayerNormalization Max Reciprocal ReduceMax ReduceMean
ReduceSum Round Shape Sin Softplus Tile Unsqueeze Where com.microsoft:FusedConv
com.microsoft:QuickGelu
"""

OPERATORS = {
    "NNAPI": frozenset((_BOTH + _NNAPI).split()),
    "CoreML NeuralNetwork": frozenset((_BOTH + _NEURAL_NETWORK).split()),
    "CoreML MLProgram": frozenset((_BOTH + _ML_PROGRAM).split()),
}
"""By accelerator, without a domain where it is the standard one."""


@dataclass(frozen=True)
class Partitions:
    """What an accelerator takes of a graph."""

    sizes: list[int]
    """Nodes in each part that it takes in one piece."""
    nodes: int
    """All nodes, constants left out."""
    unsupported: list[str]
    """Operators that it does not take."""
    dynamic: int
    """Nodes that it would take if all their sizes were fixed."""

    @property
    def share(self) -> float:
        """The share of nodes that it takes."""
        return sum(self.sizes) / self.nodes if self.nodes else 0.0

    @property
    def works_well(self) -> bool:
        """Whether most of the model runs there, in few pieces: each change of device costs."""
        return self.share > 0.75 and len(self.sizes) <= 5


def check_partitioning(graph: onnx.GraphProto, operators: Iterable[str]) -> Partitions:
    """The parts of a graph, types inferred, that an accelerator with these operators takes."""
    taken = set(operators)
    values = (*graph.input, *graph.value_info, *graph.output)
    fixed = {each.name: is_fixed_size_tensor(each) for each in values}
    fixed.update({each.name: True for each in graph.initializer})
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    known: dict[int, bool] = {}
    unsupported, dynamic = set(), 0
    for node in nodes:
        name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
        known[id(node)] = name in taken
        if name not in taken:
            unsupported.add(name)
        elif not all(fixed.get(each, True) for each in (*node.input, *node.output) if each):
            known[id(node)] = False
            dynamic += 1
    return Partitions(_sizes(graph, nodes, known), len(nodes), sorted(unsupported), dynamic)


def _sizes(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], taken: dict[int, bool]
) -> list[int]:
    """Sizes of the parts: by turns all nodes of one side whose inputs are there."""
    made = {name: id(node) for node in graph.node for name in node.output if name}
    needed = {id(node): {made[name] for name in _read(node) if name in made} for node in nodes}
    left, done = list(nodes), {id(node) for node in graph.node if node.op_type == "Constant"}
    sizes: list[int] = []
    idle, side = 0, False
    while left and idle < 2:  # a graph that is not in order ends it
        count = 0
        for node in left:
            if taken[id(node)] is side and needed[id(node)] <= done:
                done.add(id(node))
                count += 1
        if count and side:
            sizes.append(count)
        idle = 0 if count else idle + 1
        left = [node for node in left if id(node) not in done]
        side = not side
    return sizes


def _read(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads, those in graphs that it holds included."""
    names = set(node.input)
    for graph in (graph for held in graphs_of(node) for graph in graphs_in(held)):
        names |= {name for inner in graph.node for name in inner.input}
        names |= {value.name for value in graph.output}
    return names


def analyze_model(
    model_path: str | os.PathLike[str],
    skip_optimize: bool = False,
    logger: logging.Logger | None = None,
) -> bool:
    """Tell what the accelerators take of a model; whether one of them works well.

    Args:
        model_path: the model.
        skip_optimize: accepted; the model is looked at as it is.
        logger: told what is found.
    """
    log = logger or logging.getLogger("bascule.usability")
    model = onnx.load(os.fspath(model_path), load_external_data=False)
    graph = onnx.shape_inference.infer_shapes(model).graph
    log.info("Checking %s for usability on phones.", model_path)
    works = False
    for name, operators in OPERATORS.items():
        found = check_partitioning(graph, operators)
        count = sum(found.sizes)
        log.info("%s: %d of %d nodes, in %d parts", name, count, found.nodes, len(found.sizes))
        log.debug("%s: parts of %s nodes", name, found.sizes)
        if found.unsupported:
            log.info("%s: it does not take %s", name, ", ".join(found.unsupported))
        if found.dynamic:
            log.info(
                "%s: %d more with fixed sizes: python -m bascule.tools.make_dynamic_shape_fixed",
                *(name, found.dynamic),
            )
        log.info("Model should perform well with %s as is: %s", name, _word(found.works_well))
        works = works or found.works_well
    return works


def _word(is_so: bool) -> str:
    return "YES" if is_so else "NO"
