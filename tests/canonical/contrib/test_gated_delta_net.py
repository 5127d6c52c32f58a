# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import (
    Array,
    assert_close,
    check,
    feeds_of,
    model_of,
    normal,
    run_elsewhere,
    session,
)
from .test_linear_attention import RULES, recurrence

SUMS = np.array([0, 2, 5], np.int32)


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("leading", [(2, 3, 4), (3, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("with_rate", [False, True])
def test_linear_attention_gate(with_rate: bool, leading: tuple[int, ...]) -> None:
    def reference(a: Array, bias: Array, scale: Array, b: Any = None) -> Any:
        return [scale * softplus(a + bias), *([sigmoid(b)] if with_rate else [])]

    inputs = [normal(*leading), normal(4), normal(4, seed=1), normal(*leading, seed=2)]
    check("LinearAttentionGate", reference, inputs[: 3 + with_rate], dtypes=[np.float32])


def test_linear_attention_gate_of_halves() -> None:
    a, b = normal(2, 3, 4, dtype=np.float16), normal(2, 3, 4, seed=2, dtype=np.float16)
    model = model_of("LinearAttentionGate", [a, normal(4), normal(4, seed=1), b], outputs=2)
    feeds = {"in0": a, "in1": normal(4), "in2": normal(4, seed=1), "in3": b}
    decay, beta = session(model).run(None, feeds)
    wide = a.astype(np.float64)
    assert decay.dtype == beta.dtype == np.float16
    assert_close(decay, normal(4, seed=1) * softplus(wide + normal(4)), 1e-3, "decay")
    assert_close(beta, sigmoid(b.astype(np.float64)), 1e-3, "rate")
    for found, expected in zip((decay, beta), run_elsewhere(model, feeds) or ()):
        assert_close(found, expected, 1e-3, "beside the other runtime")


def test_linear_attention_gate_without_its_input() -> None:
    model = model_of("LinearAttentionGate", [normal(2, 3, 4), normal(4), normal(4)], outputs=2)
    with pytest.raises(InvalidGraph, match=r"LinearAttentionGate.*output 'beta' needs input 'b'"):
        session(model)


def reference(rule: str, sums: Array = SUMS, **attributes: Any) -> Any:
    """Of tokens that have one axis."""
    activation = attributes.get("gate_activation", "none")
    capacity = attributes.get("state_update_capacity", 0)

    def run(
        q: Array,
        k: Array,
        v: Array,
        _: Any = None,
        decay: Any = None,
        beta: Any = None,
        state: Any = None,
        a_log: Any = None,
        bias: Any = None,
        count: Any = None,
        active: Any = None,
    ) -> list[Any]:
        heads = v.shape[1]
        if state is None:
            state = np.zeros((len(sums) - 1, heads, v.shape[2], k.shape[2]))
        if attributes.get("qk_l2_norm"):
            q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
        if decay is not None:
            decay = decay.reshape(len(q), heads, -1)
            if activation != "none":
                decay = decay + bias.reshape(heads, -1)
                rate = np.exp(a_log)[:, None]
                bound = attributes.get("gate_lower_bound", -5.0)
                gates = {"softplus": -rate * softplus(decay), "kda": bound * sigmoid(rate * decay)}
                decay = gates["softplus" if activation in ("softplus", "qwen") else "kda"]
        if beta is not None:
            beta = beta[..., None]
            beta = sigmoid(beta) if attributes.get("beta_activation") == "sigmoid" else beta
        scale = attributes.get("scale", 0.0) or k.shape[2] ** -0.5
        results, finals, updates = [], [], []
        for sample, (begin, end) in enumerate(itertools.pairwise(sums)):
            some = slice(begin, end)
            parts = [x if x is None else x[some] for x in (decay, beta)]
            start = state[sample].swapaxes(1, 2)
            y, states, deltas = recurrence(q[some], k[some], v[some], start, *parts, scale)
            results.append(y)
            finals.append(states[-1].swapaxes(1, 2))
            if capacity:
                kept = min(count[sample], capacity, end - begin)
                decays = np.ones((end - begin, heads, 1)) if decay is None else np.exp(parts[0])
                row = []
                for each in (decays, k[some], deltas):
                    filled = np.full((capacity, *each.shape[1:]), np.nan)
                    filled[:kept] = each[:kept]
                    row.append(filled.ravel())
                updates.append(np.concatenate(row) * (active is None or active[0] != 0))
        return [
            np.concatenate(results),
            np.array(finals),
            *([np.array(updates)] if capacity else []),
        ]

    return run


def rows(
    rule: str, *, heads: int = 4, by_key: bool = False, batch: int | None = 2, tokens: int = 5
) -> list[Any]:
    decay = -np.abs(normal(tokens, heads, *[4] * by_key, seed=4))
    return [
        normal(tokens, 2, 4),
        normal(tokens, 2, 4, seed=1),
        normal(tokens, heads, 6, seed=2),
        SUMS,
        decay if "gated" in rule else None,
        sigmoid(normal(tokens, heads, seed=5)).astype(np.float32) if "delta" in rule else None,
        normal(batch, heads, 6, 4, seed=3) if batch else None,
    ]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("batch", [None, 2])
def test_rules(rule: str, heads: int, batch: int | None) -> None:
    attributes = {"qk_l2_norm": 1, "update_rule": rule, "scale": 0.5 if batch else 0.0}
    inputs = rows(rule, heads=heads, batch=batch)
    check("GatedDeltaNet", reference(rule, **attributes), inputs, attributes, dtypes=[np.float32])


@pytest.mark.parametrize("activation", ["softplus", "qwen", "sigmoid", "kda"])
@pytest.mark.parametrize(
    "by_key, bias", [(False, (4,)), (True, (4,)), (True, (4, 4)), (True, (16,))]
)
def test_gates(by_key: bool, bias: tuple[int, ...], activation: str) -> None:
    attributes = {
        "qk_l2_norm": 1,
        "gate_activation": activation,
        "beta_activation": "sigmoid",
        "gate_lower_bound": -2.5,
        "chunk_size": 32,
    }
    inputs = [*rows("gated_delta", by_key=by_key), normal(4, seed=7), normal(*bias, seed=8)]
    check(
        "GatedDeltaNet",
        reference("gated_delta", **attributes),
        inputs,
        attributes,
        dtypes=[np.float32],
        shapes=("static", "symbolic"),
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("gates", [np.float32, None])
def test_halves(gates: Any, dtype: Any) -> None:
    inputs = rows("gated_delta")
    for index in (0, 1, 2, 4, 5):
        inputs[index] = inputs[index].astype(gates or dtype if index > 2 else dtype)
    wide = [x if x is None or x.dtype.kind == "i" else x.astype(np.float64) for x in inputs]
    expected = reference("gated_delta", qk_l2_norm=1)(*wide)
    model = model_of("GatedDeltaNet", inputs, {"qk_l2_norm": 1}, 2, "symbolic")
    feeds = {f"in{index}": x for index, x in enumerate(inputs)}
    y, state = session(model).run(None, feeds)
    assert (y.dtype, state.dtype) == (np.dtype(dtype), np.float32)
    assert_close(y, expected[0], 2e-3 if dtype == np.float16 else 2e-2, "results")
    assert_close(state, expected[1], 2e-5, "state")
    if dtype == np.float16:
        for found, other in zip((y, state), run_elsewhere(model, feeds) or ()):
            assert_close(found, other, 2e-3, "beside the other runtime")


@pytest.mark.parametrize("packed", [False, True])
def test_many_tokens(packed: bool) -> None:
    sums = np.array([0, 33, 75], np.int32)
    inputs = rows("gated_delta", tokens=75)
    inputs[3] = sums
    expected = reference("gated_delta", sums, qk_l2_norm=1)

    def run(*given: Any) -> list[Any]:
        return expected(*inputs[:3], *given[3:]) if packed else expected(*given)

    given = list(inputs)
    if packed:
        given[:3] = np.concatenate([x.reshape(75, -1) for x in inputs[:3]], 1), None, None
    check("GatedDeltaNet", run, given, {"qk_l2_norm": 1}, dtypes=[np.float32])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "lengths", [(3, 40), (40, 7, 8, 33), (0, 1, 9), (9, 0), (2, 5), (8, 70), (5,)]
)
def test_sequences_do_not_depend_on_their_neighbours(lengths: tuple[int, ...], rule: str) -> None:
    """Few tokens are taken one by one, and many by chunks, also beside each other."""
    sums = np.cumsum([0, *lengths]).astype(np.int32)
    inputs = rows(rule, tokens=sums[-1], batch=len(lengths))
    inputs[3] = sums
    inputs[6][0, 0, 1] = np.inf  # what lies behind the end of a sequence leaves it so
    model = model_of("GatedDeltaNet", inputs, {"update_rule": rule}, 2, "symbolic")
    for name, size in zip(("in0", "in1", "in2"), (2, 2, 4)):
        for info in model.graph.input:
            if info.name == name:
                info.type.tensor_type.shape.dim[1].dim_value = size
    made = session(model)
    y, states = made.run(None, feeds_of(inputs))
    for sample, (begin, end) in enumerate(itertools.pairwise(sums)):
        own = [
            x if x is None or index in (3, 6) else x[begin:end] for index, x in enumerate(inputs)
        ]
        own[3], own[6] = np.array([0, end - begin], np.int32), inputs[6][sample : sample + 1]
        alone = model_of("GatedDeltaNet", own, {"update_rule": rule}, 2)
        for each in (made, session(alone)):
            found, state = each.run(None, feeds_of(own))
            np.testing.assert_array_equal(found, y[begin:end])
            np.testing.assert_array_equal(state[0], states[sample])


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("by_key", [False, True])
def test_sequences_of_one_length(by_key: bool, with_state: bool, axes: int) -> None:
    if axes == 1 and not with_state:
        return  # nothing tells the number of sequences
    inputs = rows("gated_delta", by_key=by_key, tokens=6, batch=2 if with_state else None)
    inputs[3] = None
    shaped = [
        x.reshape(2, 3, *x.shape[1:]) if axes == 2 and index in (0, 1, 2, 4, 5) else x
        for index, x in enumerate(inputs)
    ]

    def run(*given: Any) -> list[Any]:
        flat = [
            x
            if x is None or axes == 1 or index not in (0, 1, 2, 4, 5)
            else x.reshape(6, *x.shape[2:])
            for index, x in enumerate(given)
        ]
        y, state = reference("gated_delta", np.array([0, 3, 6]), qk_l2_norm=1)(*flat)
        return [y.reshape(*shaped[2].shape), state]

    check(
        "GatedDeltaNet",
        run,
        shaped,
        {"qk_l2_norm": 1},
        dtypes=[np.float32],
        shapes=("static", "symbolic", "unknown") if axes == 1 else ("static", "symbolic"),
    )


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("axes", [1, 2])
def test_queries_keys_and_values_in_one(axes: int, ragged: bool) -> None:
    if axes == 2 and ragged:
        return
    inputs = rows("gated_delta", tokens=5 if ragged else 6)
    sums = SUMS if ragged else np.array([0, 3, 6])
    inputs[3] = SUMS if ragged else None
    lead = (len(inputs[0]),) if axes == 1 else (2, 3)
    packed = np.concatenate([x.reshape(*lead, -1) for x in inputs[:3]], -1)
    gates = [inputs[index].reshape(*lead, -1) for index in (4, 5)]

    def run(*given: Any) -> list[Any]:
        row = given[0].reshape(-1, packed.shape[-1])
        parts = [row[:, :8], row[:, 8:16], row[:, 16:]]
        q, k, v = (x.reshape(len(row), heads, -1) for x, heads in zip(parts, (2, 2, 4)))
        flat = [x.reshape(len(row), -1) for x in given[4:6]]
        y, state = reference("gated_delta", sums, qk_l2_norm=1)(q, k, v, None, *flat, given[6])
        return [y.reshape(*lead, 4, 6), state]

    check(
        "GatedDeltaNet",
        run,
        [packed, None, None, inputs[3], *gates, inputs[6]],
        {"qk_l2_norm": 1},
        dtypes=[np.float32],
    )


@pytest.mark.parametrize(
    "rule, by_key", [("gated_delta", False), ("gated", True), ("delta", False)]
)
@pytest.mark.parametrize("active", [None, 0, 1])
def test_updates_of_the_first_tokens(rule: str, by_key: bool, active: int | None) -> None:
    attributes = {"qk_l2_norm": 1, "update_rule": rule, "state_update_capacity": 3}
    inputs = [*rows(rule, by_key=by_key), None, None, np.array([3, 2], np.int32)]
    if active is not None:
        inputs.append(np.array([active], np.int32))
    model = model_of("GatedDeltaNet", inputs, attributes, 3, "symbolic")
    wide = [x if x is None or x.dtype.kind == "i" else x.astype(np.float64) for x in inputs]
    expected = reference(rule, **attributes)(*wide)
    feeds = {f"in{index}": x for index, x in enumerate(inputs) if x is not None}
    found = session(model).run(None, feeds)
    specified = np.isfinite(expected[2])
    others = run_elsewhere(model, feeds)
    for run in [found] + ([others] if others else []):
        assert_close(run[0], expected[0], 2e-5, "results")
        assert_close(run[1], expected[1], 2e-5, "state")
        assert run[2].shape == expected[2].shape
        assert_close(run[2][specified], expected[2][specified], 2e-5, "updates")
    if active == 0:
        assert not found[2].any()


@pytest.mark.parametrize(
    "changed, missing, problem",
    [
        ({"update_rule": "other"}, (), "'update_rule' is 'other'"),
        ({"state_update_capacity": 9}, (), "'state_update_capacity' is 9"),
        ({"state_update_capacity": 2}, (), "'capture_count'"),
        ({"gate_activation": "relu"}, (), "'gate_activation' is 'relu'"),
        ({"gate_activation": "kda"}, (), "needs inputs 'a_log' and 'dt_bias'"),
        ({"beta_activation": "relu"}, (), "'beta_activation' is 'relu'"),
        ({}, (2,), "'key' and 'value' must both be given"),
        ({}, (1, 2, 6), "need input 'initial_state'"),
        ({}, (3, 6), "batch size"),
        ({}, (4,), "needs input 'decay'"),
        ({}, (5,), "needs input 'beta'"),
    ],
)
def test_refused(changed: dict[str, Any], missing: tuple[int, ...], problem: str) -> None:
    given = [None if index in missing else x for index, x in enumerate(rows("gated_delta"))]
    model = model_of("GatedDeltaNet", given, changed, 2)
    with pytest.raises(InvalidGraph, match=f"GatedDeltaNet.*{problem}.*node"):
        session(model)


def test_heads_that_do_not_fit() -> None:
    model = model_of("GatedDeltaNet", rows("gated_delta", heads=3), outputs=2)
    with pytest.raises(InvalidGraph, match=r"GatedDeltaNet.*2, 2 and 3 heads.*node"):
        session(model)
