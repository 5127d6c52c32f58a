# SPDX-License-Identifier: Apache-2.0
"""A small decoder in the form that onnxruntime-genai's model builder writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

LAYERS, HEADS, KV_HEADS, HEAD, HIDDEN, INNER, VOCABULARY = 2, 4, 2, 16, 64, 160, 200
LONGEST = 64
MICROSOFT = "com.microsoft"


class _Decoder:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op_type: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        self.nodes.append(
            helper.make_node(op_type, inputs, outputs, name=f"/{outputs[0]}", **attributes)
        )
        return outputs[0]

    def tensor(self, name: str, array: Array) -> str:
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        scale = shape[0] ** -0.5
        return self.tensor(name, (self.rng.normal(size=shape) * scale).astype(np.float32))

    def scale(self, name: str) -> str:
        return self.tensor(name, (1 + 0.1 * self.rng.normal(size=HIDDEN)).astype(np.float32))

    def linear(self, name: str, x: str, inside: int, outside: int) -> str:
        return self.node("MatMul", [x, self.weight(f"{name}.weight", inside, outside)], [name])

    def layer(self, i: int, x: str, total: str) -> tuple[str, str]:
        """The sum of the residual stream, and its normalization for the next layer."""
        p = f"layer{i}."
        q = self.linear(f"{p}q", x, HIDDEN, HEADS * HEAD)
        k = self.linear(f"{p}k", x, HIDDEN, KV_HEADS * HEAD)
        v = self.linear(f"{p}v", x, HIDDEN, KV_HEADS * HEAD)
        past = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
        inputs = [q, k, v, *past, "seqlens_k", "total_sequence_length", "cos", "sin"]
        attended = self.node(
            "GroupQueryAttention",
            inputs,
            [f"{p}attention", f"present.{i}.key", f"present.{i}.value"],
            domain=MICROSOFT,
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            do_rotary=1,
            rotary_interleaved=0,
            scale=HEAD**-0.5,
        )
        out = self.linear(f"{p}o", attended, HEADS * HEAD, HIDDEN)
        x, total = self.add_normalized(f"{p}middle", total, out)
        gate = self.linear(f"{p}gate", x, HIDDEN, INNER)
        up = self.linear(f"{p}up", x, HIDDEN, INNER)
        sigmoid = self.node("Sigmoid", [gate], [f"{p}sigmoid"])
        active = self.node("Mul", [gate, sigmoid], [f"{p}silu"])
        product = self.node("Mul", [active, up], [f"{p}product"])
        down = self.linear(f"{p}down", product, INNER, HIDDEN)
        return self.add_normalized(f"{p}end", total, down)

    def add_normalized(self, name: str, total: str, x: str) -> tuple[str, str]:
        self.node(
            "SkipSimplifiedLayerNormalization",
            [total, x, self.scale(f"{name}.weight")],
            [f"{name}.normalized", "", "", f"{name}.sum"],
            domain=MICROSOFT,
            epsilon=1e-5,
        )
        return f"{name}.normalized", f"{name}.sum"


def llama_decoder(seed: int = 0) -> onnx.ModelProto:
    """Token ids [N, S], the mask over past and present, and the past, to logits and the present."""
    d = _Decoder(seed)
    angles = np.arange(LONGEST)[:, None] / 10000 ** (np.arange(HEAD // 2) * 2 / HEAD)
    d.tensor("cos", np.cos(angles).astype(np.float32))
    d.tensor("sin", np.sin(angles).astype(np.float32))
    d.tensor("one", np.array([1], np.int64))
    # The lengths, from the mask, as the builder computes them.
    sums = d.node("ReduceSum", ["attention_mask", "one"], ["sums"])
    less = d.node("Sub", [sums, "one"], ["less"])
    d.node("Cast", [less], ["seqlens_k"], to=TensorProto.INT32)
    shape = d.node("Shape", ["attention_mask"], ["mask_shape"])
    length = d.node("Gather", [shape, d.tensor("last", np.array(1, np.int64))], ["length"], axis=0)
    d.node("Cast", [length], ["total_sequence_length"], to=TensorProto.INT32)
    total = d.node("Gather", [d.weight("embedding", VOCABULARY, HIDDEN), "input_ids"], ["embedded"])
    x = d.node(
        "SimplifiedLayerNormalization",
        [total, d.scale("first.weight")],
        ["first"],
        axis=-1,
        epsilon=1e-5,
    )
    for i in range(LAYERS):
        x, total = d.layer(i, x, total)
    d.linear("logits", x, HIDDEN, VOCABULARY)

    ids = ["N", "S"]
    value = helper.make_tensor_value_info
    inputs = [
        value("input_ids", TensorProto.INT64, ids),
        value("attention_mask", TensorProto.INT64, ["N", "T"]),
    ]
    outputs = [value("logits", TensorProto.FLOAT, [*ids, VOCABULARY])]
    for i in range(LAYERS):
        for kind in ("key", "value"):
            cache = ["N", KV_HEADS]
            inputs.append(
                value(f"past_key_values.{i}.{kind}", TensorProto.FLOAT, [*cache, "P", HEAD])
            )
            outputs.append(value(f"present.{i}.{kind}", TensorProto.FLOAT, [*cache, "T", HEAD]))
    graph = helper.make_graph(d.nodes, "decoder", inputs, outputs, d.initializers)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def first_feeds(ids: Array) -> dict[str, Array]:
    """What a prompt is fed with: there is no past."""
    feeds: dict[str, Array] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    for i in range(LAYERS):
        for kind in ("key", "value"):
            feeds[f"past_key_values.{i}.{kind}"] = np.zeros(
                (len(ids), KV_HEADS, 0, HEAD), np.float32
            )
    return feeds


def next_feeds(results: list[Array]) -> dict[str, Array]:
    """The most likely token of each row, after what `results` are of."""
    present = results[1:]
    feeds = {
        "input_ids": results[0][:, -1].argmax(-1)[:, None],
        "attention_mask": np.ones((len(present[0]), present[0].shape[2] + 1), np.int64),
    }
    for i in range(LAYERS):
        feeds[f"past_key_values.{i}.key"] = present[2 * i]
        feeds[f"past_key_values.{i}.value"] = present[2 * i + 1]
    return feeds
