# SPDX-License-Identifier: Apache-2.0
"""Graphs of one kernel for bench/micro.py, with what a run of each takes at least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.support.native import node_graph
from tests.support.trees import old_attributes, random_tree

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.types import TensorType

Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """A graph, what it is fed, and what a run of it takes at least."""

    graph: Graph
    feeds: list[Array]
    flops: float = 0.0
    read: int = 0
    """Bytes; those of the output are added once it is known."""
    items: int = 0
    """What is counted, `unit` by name, where neither operations nor bytes are the limit."""
    unit: str = ""


def random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def random_bytes(dtype: Any, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return np.random.default_rng(0).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def int64(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def case(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: dict[str, Any] | None = None,
    *,
    domain: str = "",
    constants: Sequence[int] = (),
    **costs: Any,
) -> Case:
    """One node, which reads every input once unless `read` says otherwise."""
    graph = node_graph(op_type, inputs, attributes, domain=domain, constants=constants, static=True)
    given = [(i, a) for i, a in enumerate(inputs) if a is not None]
    costs.setdefault("read", sum(a.nbytes for _, a in given))
    return Case(graph, [a for i, a in given if i not in constants], **costs)


def product(m: int, n: int, k: int) -> Case:
    return case("MatMul", [random(m, k), random(k, n)], constants=(1,), flops=2.0 * m * n * k)


def image_flops(shape: Sequence[int], w: Sequence[int], stride: int, pad: int) -> float:
    """Of a convolution of [N, H, W, C] done directly, whichever way the kernel does it."""
    height, width = ((size + 2 * pad - w[2]) // stride + 1 for size in shape[1:3])
    return 2.0 * shape[0] * height * width * float(np.prod(w))


def window(stride: int, pad: int, **more: Any) -> dict[str, Any]:
    return {"strides": [stride] * 2, "pads": [pad] * 4, "channels_last": 1, **more}


def convolution(
    shape: Sequence[int], channels: int, kernel: int, stride: int, pad: int, group: int = 1
) -> Case:
    w = random(channels, shape[3] // group, kernel, kernel)
    return case(
        "Conv",
        [random(*shape), w, random(channels)],
        window(stride, pad, group=group, activation="Relu"),
        domain="bascule",
        constants=(1, 2),
        flops=image_flops(shape, w.shape, stride, pad),
    )


def int8_product(m: int, n: int, k: int) -> Case:
    a, b = random_bytes(np.uint8, m, k), random_bytes(np.int8, k, n)
    scale, zero = np.float32(0.01), np.uint8(128)
    inputs = [a, scale, zero, b, scale, np.int8(0), np.float32(0.3), zero]
    return case(
        "QLinearMatMul",
        [np.asarray(x) for x in inputs],
        constants=range(1, 8),
        flops=2.0 * m * n * k,
    )


def int8_convolution(
    shape: Sequence[int], channels: int, kernel: int, stride: int, pad: int, group: int = 1
) -> Case:
    x = random_bytes(np.uint8, *shape)
    w = random_bytes(np.int8, channels, shape[3] // group, kernel, kernel)
    scale, zero = np.float32(0.01), np.uint8(128)
    bias = np.random.default_rng(0).integers(-1000, 1000, channels).astype(np.int32)
    inputs = [x, scale, zero, w, scale, np.int8(0), np.float32(0.3), zero, bias]
    return case(
        "QLinearConv",
        [np.asarray(x) for x in inputs],
        window(stride, pad, group=group),
        domain="bascule",
        constants=range(1, 9),
        flops=image_flops(shape, w.shape, stride, pad),
    )


def four_bits(m: int, n: int, k: int, block: int = 32) -> Case:
    b = random_bytes(np.uint8, n, k // block, block // 2)
    scales = np.abs(random(n, k // block)) * np.float32(0.1)
    return case(
        "MatMulNBits",
        [random(m, k), b, scales],
        {"K": k, "N": n, "bits": 4, "block_size": block},
        domain="bascule",
        constants=(1, 2),
        flops=2.0 * m * n * k,
    )


def attention(
    batch: int, heads: int, queries: int, keys: int, head: int, *, kv_heads: int = 0, **more: Any
) -> Case:
    """`masked`: every head of every batch has a float mask of its own."""
    kv_heads = kv_heads or heads
    inputs: list[Array | None] = [
        random(batch, heads, queries, head),
        random(batch, kv_heads, keys, head),
        random(batch, kv_heads, keys, head),
    ]
    if more.pop("masked", False):
        inputs.append(random(batch, heads, queries, keys))
    seen = (keys + 1) / 2 if more.get("is_causal") else keys
    return case("Attention", inputs, more, flops=4.0 * batch * heads * queries * seen * head)


def elements(op_type: str, count: int, **attributes: Any) -> Case:
    return case(op_type, [random(count)], attributes, items=count, unit="elements")


def softmax(*shape: int) -> Case:
    return case("Softmax", [random(*shape)], {"axis": -1})


def layer_normalization(*shape: int) -> Case:
    inputs = [random(*shape), random(shape[-1]), random(shape[-1])]
    return case("LayerNormalization", inputs, {"axis": -1}, constants=(1, 2))


def chain(*shape: int) -> Case:
    """relu(x * scale + shift) + residual as one fused node."""
    arrays = [random(*shape), random(shape[-1]), random(shape[-1]), random(*shape)]
    types = [TensorType(DataType.from_numpy(a.dtype), a.shape) for a in arrays]
    whole, body = types[0], Graph("body")
    x, scale, shift, residual = (
        body.add_input(Value(f"x{i}", type)) for i, type in enumerate(types)
    )

    def call(op_type: str, *inputs: Value) -> Value:
        node = body.append(Node(op_type, list(inputs), 1, {}, name=op_type))
        node.output.type = whole
        return node.output

    last = call("Relu", call("Add", call("Mul", x, scale), shift))
    body.add_output(call("Add", last, residual))
    graph = Graph("chain")
    values = [graph.add_input(Value(f"y{i}", type)) for i, type in enumerate(types)]
    node = graph.append(Node("Elementwise", values, 1, {"body": body}, domain=FUSED_DOMAIN))
    node.output.type = whole
    graph.add_output(node.output)
    return Case(graph, arrays, read=sum(a.nbytes for a in arrays))


def transpose(shape: Sequence[int], perm: Sequence[int]) -> Case:
    return case("Transpose", [random(*shape)], {"perm": list(perm)})


def concat(axis: int, *shapes: Sequence[int]) -> Case:
    return case("Concat", [random(*shape) for shape in shapes], {"axis": axis})


def slices(shape: Sequence[int], axis: int, start: int, end: int, step: int = 1) -> Case:
    inputs = [random(*shape), int64(start), int64(end), int64(axis), int64(step)]
    kept = len(range(shape[axis])[start:end:step])
    read = inputs[0].nbytes // shape[axis] * kept
    return case("Slice", inputs, constants=range(1, 5), read=read)


def reduction(op_type: str, shape: Sequence[int], *axes: int) -> Case:
    return case(op_type, [random(*shape), int64(*axes)], {"keepdims": 0}, constants=(1,))


def gather(rows: int, width: int, count: int) -> Case:
    ids = np.random.default_rng(0).integers(0, rows, count)
    read = count * width * 4 + ids.nbytes
    return case("Gather", [random(rows, width), ids], {"axis": 0}, constants=(0,), read=read)


def pool(op_type: str, shape: Sequence[int], kernel: int, stride: int, pad: int) -> Case:
    attributes = window(stride, pad, kernel_shape=[kernel] * 2)
    return case(op_type, [random(*shape)], attributes, domain="bascule")


def resize(shape: Sequence[int], factor: int, mode: str) -> Case:
    scales = np.array([1, factor, factor, 1], np.float32)
    return case("Resize", [random(*shape), None, scales], {"mode": mode}, constants=(2,))


def lstm(steps: int, batch: int, width: int) -> Case:
    inputs = [
        random(steps, batch, width),
        *(random(1, 4 * width, width) * np.float32(0.03) for _ in range(2)),
        random(1, 8 * width),
    ]
    flops = 16.0 * steps * batch * width * width
    return case("LSTM", inputs, {"hidden_size": width}, constants=(1, 2, 3), flops=flops)


def forest(trees: int, depth: int, rows: int) -> Case:
    rng = np.random.default_rng(0)
    grown = [random_tree(rng, depth, features=28, missing=False) for _ in range(trees)]
    attributes = old_attributes(grown, "target") | {"n_targets": 1}
    return case(
        "TreeEnsembleRegressor",
        [random(rows, 28)],
        attributes,
        domain="ai.onnx.ml",
        items=rows,
        unit="rows",
    )
