# SPDX-License-Identifier: Apache-2.0
"""Compute nodes whose inputs are constants.

Before:
    g () => (float[2] y) <float[2] a = {1.0, 2.0}, float b = {3.0}> { y = Add(a, b) }
After:
    g () => (float[2] y) <float[2] c = {4.0, 5.0}> { y = Identity(c) }
Keeps:
    g () => (float[2] y) <int8[2] a = {1, 2}, float b = {3.0}> { y = DequantizeLinear(a, b) }
"""

from __future__ import annotations

import math

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.graph import ONNX_DOMAIN, Graph, Node
from bascule.ir.types import TensorType
from bascule.optimizer.context import Array, Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.rewrite import Builder, replace

_LIMIT = 16 << 20
"""Results may be this large, or as large as what they are computed from."""

_LARGE = 1 << 14
"""Smaller weights are transposed at once."""

_GROWTH = {"Cast": 4}
"""Weights that are stored in a narrow type are worth their size."""

_UNBOUNDED = frozenset(
    ["ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"]
)
"""A few numbers may ask for any amount of memory: these wait until their size is known."""

RANDOM = frozenset(
    [
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    ]
)
_NEVER = RANDOM | {"Constant", "DequantizeLinear", "Dropout", "Identity"}
"""DequantizeLinear stays: quantized weights are a quarter of the size, and kernels read them."""


@graph_pass
def fold_constants(graph: Graph, context: Context) -> int:
    return _fold_graph(graph, context, transpose=False)


@graph_pass
def fold_transposed_weights(graph: Graph, context: Context) -> int:
    """What `fold_constants` leaves alone for matrix products to take in."""
    return _fold_graph(graph, context, transpose=True)


def _fold_graph(graph: Graph, context: Context, *, transpose: bool) -> int:
    count = 0
    for inner in list(graph.walk_graphs()):
        for node in inner:
            if node.is_op("Transpose") and not transpose and _is_large_operand(node):
                continue
            results = None if node.op_type in _NEVER else computed(node, context)
            if results is None:
                continue
            build = Builder(node)
            replace(node, [build.constant(r, v.name) for r, v in zip(results, node.outputs)], build)
            count += 1
    return count


def _is_large_operand(node: Node) -> bool:
    """True for a weight that a matrix product can read as it lies in the file."""
    weight = constant_of(node.inputs[0])
    if weight is None or weight.nbytes < _LARGE:
        return False
    return all(use.node.is_op("MatMul", "Gemm") for use in node.output.uses)


def computed(node: Node, context: Context) -> list[Constant] | None:
    """The results of a node whose inputs are constants; None if they are too large, or unknown."""
    if context.fold is None or node.domain != ONNX_DOMAIN:
        return None
    if node.subgraphs or not node.outputs:
        return None
    if not all(isinstance(value.type, TensorType) for value in node.outputs if value.name):
        return None
    present = [value for value in node.inputs if value is not None]
    constants = [constant_of(value) for value in present]
    if not constants or None in constants:
        return None
    read = sum(constant.nbytes for constant in constants if constant is not None)
    limit = max(_LIMIT, read * _GROWTH.get(node.op_type, 1))
    if _size(node) > limit:
        return None
    inputs: list[Array | None] = [
        None if value is None else constant_of(value).numpy()  # type: ignore[union-attr]
        for value in node.inputs
    ]
    results = context.fold(node, inputs)
    if results is None or not all(isinstance(result, np.ndarray) for result in results):
        return None
    made = [Constant.from_numpy(result) for result in results]
    if sum(constant.nbytes for constant in made) > limit:
        return None
    if any(v.dtype not in (None, made.dtype) for v, made in zip(node.outputs, made)):
        return None
    return made


def _size(node: Node) -> float:
    """Bytes of the results, as far as they are known before."""
    total = 0.0
    for value in node.outputs:
        shape = value.static_shape
        if shape is not None and isinstance(value.type, TensorType):
            total += math.prod(shape) * value.type.dtype.bits / 8
        elif node.op_type in _UNBOUNDED:
            total += _range_size(node) if node.is_op("Range") else math.inf
    return total


def _range_size(node: Node) -> float:
    start, limit, delta = (
        float(constant.numpy().reshape(-1)[0])
        for constant in map(constant_of, node.inputs)
        if constant is not None and constant.size
    )
    return abs((limit - start) / delta) * 8 if delta else math.inf
