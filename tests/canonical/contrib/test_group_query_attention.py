# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported

from .comparison import Array, check, feeds_of, model_of, normal, operators, session
from .test_rotary_embedding import caches, rotated

INPUTS = [
    "query",
    "key",
    "value",
    "past_key",
    "past_value",
    "seqlens_k",
    "total_sequence_length",
    "cos_cache",
    "sin_cache",
    "position_ids",
    "attention_bias",
    "head_sink",
    "k_scale",
    "v_scale",
    "q_norm_weight",
    "k_norm_weight",
    "query_seqlens",
]


@dataclass
class Case:
    """`totals` are the valid keys of each sample after the step, `cache` the length before."""

    rows: int
    totals: list[int]
    cache: int | None = None
    heads: int = 4
    kv_heads: int = 2
    size: int = 16
    attributes: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Array] = field(default_factory=dict)
    packed: bool = False

    @property
    def batch(self) -> int:
        return len(self.totals)

    def inputs(self) -> list[Array | None]:
        b, s, h = self.batch, self.rows, self.size
        q, k, v = (
            normal(b, s, n * h, seed=i)
            for i, n in enumerate((self.heads, self.kv_heads, self.kv_heads))
        )
        named: dict[str, Array] = {"query": q, "key": k, "value": v}
        if self.packed:
            named = {"query": np.concatenate([q, k, v], -1)}
        if self.cache is not None:
            shape = (b, self.kv_heads, self.cache, h)
            named |= {"past_key": normal(*shape, seed=3), "past_value": normal(*shape, seed=4)}
        named["seqlens_k"] = np.array(self.totals, np.int32) - np.int32(1)
        named["total_sequence_length"] = np.array(max(self.totals), np.int32)
        named |= self.extra
        last = max(INPUTS.index(name) for name in named)
        return [named.get(name) for name in INPUTS[: last + 1]]

    def starts(self, named: dict[str, Array]) -> list[int]:
        if "query_seqlens" in named:
            return [t - int(q) for t, q in zip(self.totals, named["query_seqlens"])]
        return [max(t - self.rows, 0) for t in self.totals]

    def reference(self, *arrays: Array) -> list[Any]:
        named = {n: a for n, a in zip(INPUTS, arrays) if a is not None}
        b, s, h = self.batch, self.rows, self.size
        get = self.attributes.get
        if self.packed:
            ends = np.cumsum([self.heads, self.kv_heads]) * h
            q, k, v = np.split(named["query"], ends, -1)
        else:
            q, k, v = named["query"], named["key"], named["value"]
        q, k, v = (each.reshape(b, s, -1, h) for each in (q, k, v))
        if "q_norm_weight" in named:
            q, k = (
                each / np.sqrt((each**2).mean(-1, keepdims=True) + 1e-6) * named[weight]
                for each, weight in ((q, "q_norm_weight"), (k, "k_norm_weight"))
            )
        starts = self.starts(named)
        if get("do_rotary"):
            ids = np.array(starts)[:, None] + np.arange(s)
            ids = named.get("position_ids", ids)
            table = named["cos_cache"], named["sin_cache"], ids, get("rotary_interleaved", 0)
            q, k = rotated(q, *table), rotated(k, *table)
        length = max(self.cache or 0, max(self.totals))
        presents = [np.zeros((b, self.kv_heads, length, h)) for _ in range(2)]
        for i, (present, new) in enumerate(zip(presents, (k, v))):
            if self.cache is not None:
                present[:, :, : self.cache] = named[("past_key", "past_value")[i]]
            for j, start in enumerate(starts):
                present[j, :, start : start + s] = new[j].swapaxes(0, 1)
        y = np.zeros((b, s, self.heads, h))
        scores = np.zeros((b, self.heads, s, max(self.totals)))
        for j, n, row in np.ndindex(b, self.heads, s):
            position = starts[j] + row
            end = position + 1 if get("causal", 1) else self.totals[j]
            end = min(end, self.totals[j])
            window = get("local_window_size", -1)
            begin = max(0, position + 1 - window) if window > 0 else 0
            if end <= begin:
                continue
            keys, values = (p[j, n // (self.heads // self.kv_heads), begin:end] for p in presents)
            score = keys @ q[j, row, n] * (get("scale") or 1 / np.sqrt(h))
            if get("softcap"):
                score = get("softcap") * np.tanh(score / get("softcap"))
            if "attention_bias" in named:
                bias = np.broadcast_to(named["attention_bias"], scores.shape)
                score = score + bias[j, n, row, begin:end]
            sink = -np.inf
            if "head_sink" in named:
                sink = named["head_sink"][n]
            elif get("smooth_softmax") == 1:
                sink = 0.0
            weights = np.exp(score - score.max())
            weights /= weights.sum() + np.exp(sink - score.max())
            y[j, row, n] = weights @ values
            scores[j, n, row, begin:end] = score if get("qk_output") == 1 else weights
        found = [y.reshape(b, s, -1), *presents]
        return [*found, scores] if get("qk_output") else found

    def select(self, index: int, array: Array) -> Array:
        """The rows that are no padding, and the keys that are valid."""
        array = np.array(array)
        for j, (start, total) in enumerate(zip(self.starts(self.extra), self.totals)):
            if index in (1, 2):
                array[j, :, total:] = 0
            elif index == 0:
                array[j, total - start :] = 0
            else:
                array[j, :, total - start :] = 0
        return array

    def check(self, **keywords: Any) -> None:
        attributes = {"num_heads": self.heads, "kv_num_heads": self.kv_heads, **self.attributes}
        check(
            "GroupQueryAttention",
            self.reference,
            self.inputs(),
            attributes,
            selects=self.select,
            **keywords,
        )


STEPS = {
    "prompt": Case(5, [5, 5]),
    "padded prompt": Case(5, [5, 3], cache=8),
    "prompt beside an empty cache": Case(5, [5, 5], cache=0),
    "one token, growing cache": Case(1, [7, 7], cache=6),
    "one token, long cache": Case(1, [7, 3], cache=10),
    "more tokens, growing cache": Case(3, [9], cache=6),
    "more tokens, long cache": Case(3, [9], cache=16),
}


def step(name: str, **changes: Any) -> Case:
    return Case(**{**STEPS[name].__dict__, **changes})


def rotary(case: Case, half: int, **attributes: int) -> Case:
    cos, sin = caches(20, half)
    extra = {"cos_cache": cos, "sin_cache": sin}
    return Case(
        **{
            **case.__dict__,
            "attributes": {**case.attributes, "do_rotary": 1, **attributes},
            "extra": {**case.extra, **extra},
        }
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str, packed: bool) -> None:
    step(name, packed=packed).check()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("name", STEPS)
def test_rotary(name: str, interleaved: int, packed: bool) -> None:
    case = rotary(step(name, packed=packed), 8, rotary_interleaved=interleaved)
    case.check(dtypes=[np.float32])


def test_rotary_of_a_part() -> None:
    # An unknown size of the caches counts as the whole of a head.
    rotary(step("more tokens, long cache", size=32), 8).check(shapes=["static"])


def test_rotary_at_given_positions() -> None:
    case = rotary(step("one token, long cache"), 8)
    case.extra["position_ids"] = np.array([[4], [11]])
    case.check(dtypes=[np.float32])


@pytest.mark.parametrize(
    "attributes",
    [
        {"local_window_size": 2},
        {"local_window_size": 4, "softcap": 1.5},
        {"scale": 0.3},
        {"smooth_softmax": 1},
        {"smooth_softmax": 1, "softcap": 0.5, "local_window_size": 3},
    ],
)
@pytest.mark.parametrize("name", STEPS)
def test_attributes(name: str, attributes: dict[str, Any]) -> None:
    step(name, attributes=attributes).check(dtypes=[np.float32])


@pytest.mark.parametrize("name", STEPS)
def test_sink(name: str) -> None:
    step(name, extra={"head_sink": normal(4, seed=9)}).check()


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("name", STEPS)
def test_bias(name: str, heads: int, batch: bool) -> None:
    case = step(name)
    shape = (case.batch if batch else 1, heads, case.rows, max(case.totals))
    case.extra = {"attention_bias": normal(*shape, seed=8)}
    case.check(dtypes=[np.float32])


@pytest.mark.parametrize("output", [1, 2])
@pytest.mark.parametrize("attributes", [{}, {"local_window_size": 3, "softcap": 2.0}])
@pytest.mark.parametrize("name", STEPS)
def test_scores(name: str, attributes: dict[str, Any], output: int) -> None:
    case = step(name, attributes={**attributes, "qk_output": output})
    case.check(dtypes=[np.float32])


@pytest.mark.parametrize("name", ["prompt", "more tokens, long cache"])
def test_both_directions(name: str) -> None:
    step(name, attributes={"causal": 0}).check(dtypes=[np.float32])


def test_queries_of_several_lengths() -> None:
    case = Case(3, [7, 5, 4], cache=12, extra={"query_seqlens": np.array([3, 1, 2], np.int32)})
    case.check(dtypes=[np.float32])


def test_heads_are_normalized() -> None:
    weights = {"q_norm_weight": normal(16, seed=5), "k_norm_weight": normal(16, seed=6)}
    rotary(step("more tokens, long cache", extra=weights), 8).check(elsewhere=False)


def test_is_one_attention() -> None:
    case = rotary(step("one token, long cache", packed=True), 8, smooth_softmax=1)
    attributes = {"num_heads": 4, "kv_num_heads": 2, **case.attributes}
    made = operators(session(model_of("GroupQueryAttention", case.inputs(), attributes, 3)))
    assert made.count("bascule.Attention") == 1 and "bascule.UpdateCache" not in made
    assert made.count("RotaryEmbedding") == 2 and made.count("Split") == 1
    assert not {"MatMul", "Softmax", "Transpose", "Reshape"} & set(made)


def test_a_cache_that_nobody_else_needs_is_updated_in_place() -> None:
    """The second run writes into the memory that the plan of the first one foresaw."""
    case = step("one token, long cache")
    inputs = case.inputs()
    attributes = {"num_heads": 4, "kv_num_heads": 2, **case.attributes}
    plain = model_of("GroupQueryAttention", inputs, attributes)
    (expected,) = session(plain).run(None, feeds_of(inputs))
    made = onnx.ModelProto()
    made.CopyFrom(plain)
    node = made.graph.node[0]
    for index in (3, 4):
        past = node.input[index]
        node.input[index] = f"negated_{past}"
        made.graph.node.insert(0, onnx.helper.make_node("Neg", [past], [f"negated_{past}"]))
    feeds = feeds_of(inputs)
    feeds |= {name: -feeds[name] for name in plain.graph.node[0].input[3:5]}
    negated = session(made)
    for _ in range(2):
        assert np.array_equal(negated.run(None, feeds)[0], expected)


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"kv_num_heads": 2}, "required attribute 'num_heads' is missing"),
        ({"num_heads": 4, "kv_num_heads": 3}, "positive multiple of kv_num_heads"),
        ({"num_heads": 4, "kv_num_heads": 2, "other": 1}, "attribute 'other' is unknown"),
        ({"num_heads": 4.0, "kv_num_heads": 2}, "attribute 'num_heads' must be an integer"),
        ({"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}, "cos_cache and sin_cache"),
        ({"num_heads": 4, "kv_num_heads": 2, "qk_output": 3}, "'qk_output' is 3"),
    ],
)
def test_is_refused(attributes: dict[str, Any], message: str) -> None:
    model = model_of("GroupQueryAttention", step("prompt").inputs(), attributes)
    with pytest.raises(InvalidGraph, match=message):
        session(model)


def test_missing_input_is_refused() -> None:
    inputs = step("prompt").inputs()
    inputs[5] = None
    model = model_of("GroupQueryAttention", inputs, {"num_heads": 4, "kv_num_heads": 2})
    with pytest.raises(InvalidGraph, match="input 'seqlens_k' is missing"):
        session(model)


def test_quantized_cache_is_refused() -> None:
    attributes = {"num_heads": 4, "kv_num_heads": 2, "k_quant_type": "PER_TENSOR"}
    model = model_of("GroupQueryAttention", step("prompt").inputs(), attributes)
    with pytest.raises(NotSupported, match="a quantized cache is not supported"):
        session(model)
