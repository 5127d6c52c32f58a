# SPDX-License-Identifier: Apache-2.0
"""A tiny decoder of random weights, as the graph that a search carries and as a function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.parser

Array = np.ndarray[Any, Any]
POSITIONS = 64


@dataclass(frozen=True)
class Decoder:
    """One layer of attention with a cache, in the form of GPT-2."""

    seed: int = 0
    vocabulary: int = 11
    heads: int = 2
    size: int = 4
    scale: float = 1.0
    weights: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        width = self.heads * self.size
        shapes = {
            "words": (self.vocabulary, width),
            "places": (POSITIONS, width),
            "queries": (width, width),
            "keys": (width, width),
            "values": (width, width),
            "final": (width, self.vocabulary),
        }
        weights = {
            name: generator.standard_normal(shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        object.__setattr__(self, "weights", weights)

    def scores(self, ids: Array, positions: Array, mask: Array) -> Array:
        """Of the token that follows, in float64, from all tokens at once."""
        w = {name: each.astype(np.float64) for name, each in self.weights.items()}
        x = w["words"][ids] + w["places"][positions]

        def heads(name: str) -> Array:
            split = (x @ w[name]).reshape(*ids.shape, self.heads, self.size)
            return split.transpose(0, 2, 1, 3)

        products = heads("queries") @ heads("keys").swapaxes(2, 3) / np.sqrt(self.size)
        seen = np.tril(np.ones((ids.shape[1],) * 2)) * mask[:, None, None]
        products += (1 - seen) * -10000
        factors = np.exp(products - products.max(-1, keepdims=True))
        attended = factors / factors.sum(-1, keepdims=True) @ heads("values")
        y = x + attended.transpose(0, 2, 1, 3).reshape(x.shape)
        return (y[:, -1] @ w["final"]) * self.scale

    def graph(self, shared: bool = False) -> onnx.GraphProto:
        """With `shared`, the weights are those of the graph around it."""
        width = self.heads * self.size
        lines = onnx.parser.parse_graph(
            f"""
            decoder (
                int32[batch, length] input_ids, int32[batch, length] position_ids,
                int32[batch, total] attention_mask,
                float[2, batch, {self.heads}, before, {self.size}] past_0
            ) => (
                float[batch, length, {self.vocabulary}] logits,
                float[2, batch, {self.heads}, total, {self.size}] present_0
            )
            <
                int64[4] split = {{0, 0, {self.heads}, {self.size}}},
                int64[3] joined = {{0, 0, {width}}},
                int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] last = {{-1}},
                int64[1] two = {{2}}, int64[2] middle = {{1, 2}},
                int64 first = {{0}}, int64 second = {{1}},
                float[1] never = {{-10000}}, float[1] factor = {{{float(self.scale)}}},
                float[1] root = {{{float(np.sqrt(self.size))}}}
            >
            {{
                word = Gather(words, input_ids)
                place = Gather(places, position_ids)
                x = Add(word, place)
                q0 = MatMul(x, queries)
                k0 = MatMul(x, keys)
                v0 = MatMul(x, values)
                q1 = Reshape(q0, split)
                k1 = Reshape(k0, split)
                v1 = Reshape(v0, split)
                q = Transpose <perm = [0, 2, 1, 3]> (q1)
                k2 = Transpose <perm = [0, 2, 1, 3]> (k1)
                v2 = Transpose <perm = [0, 2, 1, 3]> (v1)
                past_k = Gather <axis = 0> (past_0, first)
                past_v = Gather <axis = 0> (past_0, second)
                k = Concat <axis = 2> (past_k, k2)
                v = Concat <axis = 2> (past_v, v2)
                k3 = Unsqueeze(k, zero)
                v3 = Unsqueeze(v, zero)
                present_0 = Concat <axis = 0> (k3, v3)
                k4 = Transpose <perm = [0, 1, 3, 2]> (k)
                products = MatMul(q, k4)
                scaled = Div(products, root)
                all = Shape <start = 2, end = 3> (k)
                own = Shape <start = 1> (input_ids)
                square = Concat <axis = 0> (all, all)
                ones = ConstantOfShape <value = float[1] {{1}}> (square)
                triangle = Trilu <upper = 0> (ones)
                before = Sub(all, own)
                causal = Slice(triangle, before, all, zero)
                mask = Cast <to = 1> (attention_mask)
                mask4 = Unsqueeze(mask, middle)
                seen = Mul(causal, mask4)
                unit = Cast <to = 1> (one)
                hidden = Sub(unit, seen)
                bias = Mul(hidden, never)
                biased = Add(scaled, bias)
                weight = Softmax <axis = -1> (biased)
                context = MatMul(weight, v)
                moved = Transpose <perm = [0, 2, 1, 3]> (context)
                flat = Reshape(moved, joined)
                y = Add(x, flat)
                unscaled = MatMul(y, final)
                logits = Mul(unscaled, factor)
            }}
            """
        )
        if not shared:
            lines.initializer.extend(self.initializers())
        return lines

    def initializers(self) -> list[onnx.TensorProto]:
        return [onnx.numpy_helper.from_array(each, name) for name, each in self.weights.items()]
