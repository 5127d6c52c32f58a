# SPDX-License-Identifier: Apache-2.0
"""What a run will take: from the shapes of a graph, and from what the machine can do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.tools import cost
from bascule.tools.check.result import Prediction
from bascule.tools.profile.costs import VIEWS, cost_of
from bascule.tools.profile.peaks import Peaks

_PROCESS_BYTES = 75_000_000
"""Of Python, NumPy, onnx and bascule, before a model is loaded."""

# The parts of the limits that kernels reach in the models of bench/RESULTS.md.
_PRODUCTS_REACH = 0.75
_OTHERS_REACH = 0.3
_REACH = {
    "PointwiseDepthwiseConv": 0.5,
    "Attention": 0.5,
    "MatMulNBits": 0.4,
    "ProjectNBits": 0.4,
    "LSTM": 0.43,
    "GRU": 0.43,
    "RNN": 0.43,
}
_DEPTHWISE_REACH = 0.35

_EIGHT_BIT_SPEED = 2.5
"""Operations on bytes by those on float32, where the processor has instructions for them."""

_FIRST_RUN = 2.5
"""Memory for values by what a plan needs: the first run of a shape has none yet."""

_NODE_SECONDS = 1.5e-7
_CALL_SECONDS = 3e-6

_CACHE_BYTES = 1 << 23
"""Weights that fit here are taken to be in the caches when a run begins."""


def predict(
    graph: Graph,
    shapes: Mapping[str, Sequence[int]],
    peaks: Peaks,
    *,
    weights: int,
    optimized: bool,
) -> Prediction:
    """What a run of `graph`, whose inputs have the sizes `shapes`, will take."""
    from_memory = cost.streamed_bytes(graph) > _CACHE_BYTES
    least = expected = 0.0
    flops = unknown = 0
    for node in graph:
        found = cost_of(node)
        if found.flops is None or found.bytes is None:
            unknown += 1
            continue
        flops += found.flops
        limit = _limit(node, found.flops, found.bytes, peaks, from_memory)
        least += limit
        expected += _NODE_SECONDS * (node.op_type not in VIEWS) + limit / _reach(node)
    feeds = sum(_bytes(value) for value in (*graph.inputs, *graph.outputs))
    values = cost.activation_bytes(graph)
    memory = None
    if values is not None:
        held = weights + _copies(graph)
        memory = _PROCESS_BYTES + held + round(_FIRST_RUN * values) + feeds
    return Prediction(
        {name: list(shape) for name, shape in shapes.items()},
        flops,
        weights,
        values,
        feeds,
        memory,
        least,
        expected + _CALL_SECONDS,
        peaks.threads,
        unknown,
        optimized,
    )


def _copies(graph: Graph) -> int:
    """Bytes of weights beyond one copy of each."""
    constants = [value for value in graph.initializers.values() if value.constant is not None]
    # What the optimizer made lives until all is packed; what is also looked up is there twice.
    made = sum(_bytes(v) for v in constants if v.constant is not None and not v.constant.mapped)
    twice = sum(_bytes(v) for v in constants if len({use.node.op_type for use in v.uses}) > 1)
    return made + twice + sum(map(_transformed, graph))


def _transformed(node: Node) -> int:
    """Bytes that Winograd's form of a convolution's weights takes more."""
    weight = node.input(1)
    shape = None if weight is None else weight.static_shape
    if node.op_type != "Conv" or weight is None or shape is None or shape[2:] != (3, 3):
        return 0
    plain = {*node.attribute("strides", ()), *node.attribute("dilations", ())} <= {1}
    return round(2.5 * _bytes(weight)) if plain and node.attribute("group", 1) == 1 else 0


def _reach(node: Node) -> float:
    if node.op_type in ("Conv", "ConvTranspose") and node.attribute("group", 1) != 1:
        return _DEPTHWISE_REACH
    if node.op_type in _REACH:
        return _REACH[node.op_type]
    return _PRODUCTS_REACH if cost.is_product(node) else _OTHERS_REACH


def _limit(node: Node, flops: int, nbytes: int, peaks: Peaks, from_memory: bool) -> float:
    """The seconds that the machine needs at least for a node."""
    read = sum(_bytes(v) for v in node.inputs if v is not None and v.constant is not None)
    if node.op_type in ("Gather", "GatherBlockQuantized"):  # which reads a few rows
        read = 0
    read = min(read, nbytes)
    cached = nbytes - read
    if not from_memory:
        cached, read = nbytes, 0
    in_cache = cached <= 2 * _CACHE_BYTES
    moving = cached / (peaks.cache_gigabytes_s if in_cache else peaks.gigabytes_s)
    moving += read / peaks.gigabytes_s
    speed = _EIGHT_BIT_SPEED if _is_of_bytes(node) else 1.0
    return max(flops / (peaks.gflops * speed), moving) / 1e9


def _is_of_bytes(node: Node) -> bool:
    """Whether a product is computed on bytes."""
    types = [value.dtype for value in node.inputs if value is not None]
    return cost.is_product(node) and types[:1] in ([DataType.UINT8], [DataType.INT8])


def _bytes(value: Value) -> int:
    shape = value.static_shape
    if shape is None or value.dtype is None:
        return 0
    return (math.prod(shape) * value.dtype.bits + 7) // 8
