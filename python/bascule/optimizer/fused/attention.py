# SPDX-License-Identifier: Apache-2.0
"""Attention over a cache that is kept outside, and the cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.fused.body import Body

_MASKED, _WEIGHTS = 2, 3
"""Stages of the scores that Attention can show."""


def define_attention(node: Node) -> Body:
    """Attention by heads; what the sink takes of the weights is missing in Y.

    What has three axes has its number of heads in an attribute. With `starts`, K and V are first
    brought to the caches.
    """
    names = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen", "sink")
    body = Body(node, *names, "starts", "length")
    attributes = dict(node.attributes)
    q_heads, kv_heads = attributes.pop("q_num_heads", 0), attributes.pop("kv_num_heads", 0)
    mode = attributes.pop("qk_matmul_output_mode", 0)
    heads = (q_heads, kv_heads, kv_heads)
    inputs: list[Value | None]
    presents: list[Value] = []
    if body.optional("starts") is None:
        inputs = [_heads_apart(body, body.input(name), n) for name, n in zip(names, heads)]
        inputs += [body.optional(name) for name in names[3:7]]
    else:
        caches = (body.input("past_key"), body.input("past_value"))
        presents = [_updated(body, each, body.input(new)) for each, new in zip(caches, ("K", "V"))]
        inputs = [_heads_apart(body, body.input("Q"), q_heads), *presents]
        inputs += [body.optional("attn_mask"), None, None, body.optional("nonpad_kv_seqlen")]

    def attention(mode: int, count: int) -> list[Value]:
        calls: dict[str, Any] = {**attributes, "qk_matmul_output_mode": mode}
        return list(body.graph.append(Node("Attention", inputs, count, calls)).outputs)

    found = attention(mode, len(node.outputs))
    if presents:
        found[1:3] = presents[: len(found) - 1]
    sink = body.optional("sink")
    if sink is not None:
        share = _share_beside(body, attention(_MASKED, 4)[3], sink)
        found[0] = body.call("Mul", found[0], share)
        if mode == _WEIGHTS and len(found) > 3:
            found[3] = body.call("Mul", found[3], share)
    if q_heads:
        rows = body.call("Transpose", found[0], perm=[0, 2, 1, 3])
        found[0] = body.call("Reshape", rows, body.constant(np.array([0, 0, -1])))
    return body.output(*found)


def _heads_apart(body: Body, x: Value, heads: int) -> Value:
    if not heads:
        return x
    rows = body.call("Reshape", x, body.constant(np.array([0, 0, heads, -1])))
    return body.call("Transpose", rows, perm=[0, 2, 1, 3])


def _share_beside(body: Body, scores: Value, sink: Value) -> Value:
    """What is left of the weights beside one more score for each head."""
    axis = body.constant(np.array([-1]))
    sink = body.call("Reshape", sink, body.constant(np.array([1, -1, 1, 1])))
    top = body.call("Max", body.call("ReduceMax", scores, axis), sink)
    weights = body.call("Exp", body.call("Sub", scores, top))
    total = body.call("ReduceSum", weights, axis)
    taken = body.call("Exp", body.call("Sub", sink, top))
    return body.call("Div", total, body.call("Add", total, taken))


def define_update_cache(node: Node) -> Body:
    """The cache, grown with zeros to the length, with each sample's rows from its start on."""
    body = Body(node, "cache", "rows", "starts", "length")
    return body.output(_updated(body, body.input("cache"), body.input("rows")))


def define_cache_rows(node: Node) -> Body:
    """RotaryEmbedding of queries and keys, if there are angles, and UpdateCache of both caches."""
    names = ("Q", "K", "V", "past_key", "past_value", "starts", "length", "cos", "sin", "ids")
    body = Body(node, *names)
    q, k = body.optional("Q"), body.input("K")
    if body.optional("cos") is not None:
        angles = [body.input(name) for name in names[7:]]
        turned = {
            "interleaved": node.attribute("interleaved", 0),
            "rotary_embedding_dim": node.attribute("rotary_embedding_dim", 0),
        }
        kv_heads = int(node.attribute("kv_num_heads"))
        k = body.call("RotaryEmbedding", k, *angles, num_heads=kv_heads, **turned)
        if q is not None:
            heads = int(node.attribute("num_heads"))
            q = body.call("RotaryEmbedding", q, *angles, num_heads=heads, **turned)
    keys = _updated(body, body.input("past_key"), k)
    values = _updated(body, body.input("past_value"), body.input("V"))
    return body.output(body.call("Identity", k if q is None else q), keys, values)


def _updated(body: Body, cache: Value, rows: Value) -> Value:
    size = body.call("Shape", cache, start=3)
    heads = body.call("Concat", body.constant(np.array([0, 0, -1])), size, axis=0)
    rows = body.call("Reshape", rows, heads)
    zero = body.constant(np.array([0]))
    missing = body.call("Sub", body.input("length"), body.call("Shape", cache, start=2, end=3))
    pads = body.call("Concat", zero, body.call("Max", missing, zero), axis=0)
    grown = body.call("Pad", cache, pads, None, body.constant(np.array([2])))
    rows = body.call("Transpose", rows, perm=[0, 2, 1, 3])
    return body.call("TensorScatter", grown, rows, body.input("starts"), axis=2)
