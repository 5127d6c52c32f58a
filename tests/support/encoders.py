# SPDX-License-Identifier: Apache-2.0
"""A tiny encoder and decoder of random weights, as the graphs that a search carries."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.parser

from tests.support.decoders import Array

_SQUARES = ("queries", "keys", "values", "cross_queries", "cross_keys", "cross_values")


@dataclass(frozen=True)
class EncoderDecoder:
    """One layer of attention to itself and to the encoder. Whisper's form has features as input.

    In the older form the encoder decodes the first tokens. `whole` decoders take all tokens.
    """

    seed: int = 0
    is_whisper: bool = False
    is_older: bool = True
    has_hidden: bool = False
    is_whole: bool = False
    vocabulary: int = 11
    features: int = 5
    heads: int = 2
    size: int = 4
    scale: float = 0.3
    weights: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        width = self.heads * self.size
        source = self.features if self.is_whisper else self.vocabulary
        shapes = dict.fromkeys(_SQUARES, (width, width))
        shapes |= {"source": (source, width), "words": (self.vocabulary, width)}
        shapes["final"] = (width, self.vocabulary)
        weights = {
            name: generator.standard_normal(shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        object.__setattr__(self, "weights", weights)

    def scores(self, inputs: Array, mask: Array, ids: Array) -> Array:
        """Of the token that follows, in float64, from all tokens of one sample's beams at once."""
        w = {name: each.astype(np.float64) for name, each in self.weights.items()}
        hidden = inputs.T @ w["source"] if self.is_whisper else w["source"][inputs]
        x = w["words"][ids]

        def attend(queries: str, of: Array, keys: str, values: str, seen: Array) -> Array:
            q, k, v = (
                (each @ w[name]).reshape(*each.shape[:-1], self.heads, self.size).swapaxes(-2, -3)
                for each, name in ((x, queries), (of, keys), (of, values))
            )
            products = q @ k.swapaxes(-1, -2) / np.sqrt(self.size) + (1 - seen) * -10000
            factors = np.exp(products - products.max(-1, keepdims=True))
            y = (factors / factors.sum(-1, keepdims=True)) @ v
            return y.swapaxes(1, 2).reshape(x.shape)

        causal = np.tril(np.ones((ids.shape[1],) * 2))
        y = x + attend("queries", x, "keys", "values", causal)
        y += attend("cross_queries", hidden, "cross_keys", "cross_values", mask.astype(float))
        return (y[:, -1] @ w["final"]) * self.scale

    # --- graphs

    def encoder(self) -> onnx.GraphProto:
        heads = f"float[batch, {self.heads}, encoded, {self.size}]"
        own = f"float[batch, {self.heads}, length, {self.size}]"
        if self.is_whisper:
            inputs = f"float[batch, {self.features}, encoded] encoder_input_ids"
            nodes = """
                turned = Transpose <perm = [0, 2, 1]> (encoder_input_ids)
                encoder_hidden_states = MatMul(turned, source)
                shown = ReduceSum <keepdims = 0> (turned, last)
                none = Mul(shown, zeros)
                encoder_attention_mask = Add(none, ones)
            """
        else:
            inputs = "int32[batch, encoded] encoder_input_ids"
            inputs += ", int32[batch, encoded] encoder_attention_mask"
            nodes = "encoder_hidden_states = Gather(source, encoder_input_ids)"
        nodes += """
            ck = MatMul(encoder_hidden_states, cross_keys)
            cv = MatMul(encoder_hidden_states, cross_values)
            ck1 = Reshape(ck, split)
            cv1 = Reshape(cv, split)
            present_key_cross_0 = Transpose <perm = [0, 2, 1, 3]> (ck1)
            present_value_cross_0 = Transpose <perm = [0, 2, 1, 3]> (cv1)
        """
        outputs = f"{heads} present_key_cross_0, {heads} present_value_cross_0"
        if self.is_older:
            inputs += ", int32[batch, length] decoder_input_ids"
            width = self.heads * self.size
            first = f"float[batch, length, {self.vocabulary}] logits"
            first += f", float[batch, encoded, {width}] encoder_hidden_states"
            first += f", {own} present_key_self_0, {own} present_value_self_0"
            outputs = f"{first}, {outputs}"
            nodes += self._decoding("decoder_input_ids", "present", has_past=False)
        return self._graph("encoder", inputs, outputs, nodes)

    def decoder(self) -> onnx.GraphProto:
        length = "length" if self.is_whole else "1"
        own = f"float[batch, {self.heads}, before, {self.size}]"
        new = f"float[batch, {self.heads}, total, {self.size}]"
        cross = f"float[batch, {self.heads}, encoded, {self.size}]"
        inputs = [f"int32[batch, {length}] input_ids"]
        if not self.is_whisper:
            inputs.append("int32[batch, encoded] encoder_attention_mask")
        if self.has_hidden:
            inputs.append(f"float[batch, encoded, {self.heads * self.size}] encoder_hidden_states")
        inputs += [f"{own} past_key_self_0", f"{own} past_value_self_0"]
        inputs += [f"{cross} past_key_cross_0", f"{cross} past_value_cross_0"]
        outputs = f"float[batch, {length}, {self.vocabulary}] logits"
        outputs += f", {new} present_key_self_0, {new} present_value_self_0"
        nodes = self._decoding("input_ids", "past", has_past=not self.is_whole)
        if self.is_whisper:
            nodes = f"""
                firsts = Gather <axis = 3> (past_key_cross_0, index)
                sums = ReduceSum <keepdims = 0> (firsts, one)
                none = Mul(sums, zeros)
                encoder_attention_mask = Add(none, ones)
                {nodes}
            """
        return self._graph("decoder", ", ".join(inputs), outputs, nodes)

    def _decoding(self, ids: str, cross: str, has_past: bool) -> str:
        joined = """
            present_key_self_0 = Concat <axis = 2> (past_key_self_0, k)
            present_value_self_0 = Concat <axis = 2> (past_value_self_0, v)
        """
        if not has_past:
            joined = "present_key_self_0 = Identity(k) present_value_self_0 = Identity(v)"
        return f"""
            x = Gather(words, {ids})
            q0 = MatMul(x, queries)
            k0 = MatMul(x, keys)
            v0 = MatMul(x, values)
            p0 = MatMul(x, cross_queries)
            q1 = Reshape(q0, split)
            k1 = Reshape(k0, split)
            v1 = Reshape(v0, split)
            p1 = Reshape(p0, split)
            q = Transpose <perm = [0, 2, 1, 3]> (q1)
            k = Transpose <perm = [0, 2, 1, 3]> (k1)
            v = Transpose <perm = [0, 2, 1, 3]> (v1)
            p = Transpose <perm = [0, 2, 1, 3]> (p1)
            {joined}
            all = Shape <start = 2, end = 3> (present_key_self_0)
            own = Shape <start = 1> ({ids})
            square = Concat <axis = 0> (all, all)
            full = ConstantOfShape <value = float[1] {{1}}> (square)
            triangle = Trilu <upper = 0> (full)
            start = Sub(all, own)
            seen = Slice(triangle, start, all, zero)
            kt = Transpose <perm = [0, 1, 3, 2]> (present_key_self_0)
            product = MatMul(q, kt)
            scaled = Div(product, root)
            hidden = Sub(ones, seen)
            bias = Mul(hidden, never)
            biased = Add(scaled, bias)
            weight = Softmax <axis = -1> (biased)
            context = MatMul(weight, present_value_self_0)
            ct = Transpose <perm = [0, 1, 3, 2]> ({cross}_key_cross_0)
            cross_product = MatMul(p, ct)
            cross_scaled = Div(cross_product, root)
            marks = Cast <to = 1> (encoder_attention_mask)
            wide = Unsqueeze(marks, middle)
            cross_hidden = Sub(ones, wide)
            cross_bias = Mul(cross_hidden, never)
            cross_biased = Add(cross_scaled, cross_bias)
            cross_weight = Softmax <axis = -1> (cross_biased)
            cross_context = MatMul(cross_weight, {cross}_value_cross_0)
            both = Add(context, cross_context)
            moved = Transpose <perm = [0, 2, 1, 3]> (both)
            flat = Reshape(moved, joined)
            y = Add(x, flat)
            unscaled = MatMul(y, final)
            logits = Mul(unscaled, factor)
        """

    def _graph(self, name: str, inputs: str, outputs: str, nodes: str) -> onnx.GraphProto:
        graph = onnx.parser.parse_graph(
            f"""
            {name} ({inputs}) => ({outputs})
            <
                int64[4] split = {{0, 0, {self.heads}, {self.size}}},
                int64[3] joined = {{0, 0, {self.heads * self.size}}},
                int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] last = {{-1}},
                int64[2] middle = {{1, 2}}, int64 index = {{0}},
                float[1] never = {{-10000}}, float[1] factor = {{{float(self.scale)}}},
                float[1] ones = {{1}}, float[1] zeros = {{0}},
                float[1] root = {{{float(np.sqrt(self.size))}}}
            >
            {{ {nodes} }}
            """
        )
        used = {each for node in graph.node for each in node.input}
        for key, value in self.weights.items():
            if key in used:
                graph.initializer.append(onnx.numpy_helper.from_array(value, key))
        for each in [each for each in graph.initializer if each.name not in used]:
            graph.initializer.remove(each)
        return graph
