# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, assert_close, check, model_of, normal, operators, session

RULES = ["linear", "gated", "delta", "gated_delta"]


def recurrence(
    query: Array,
    key: Array,
    value: Array,
    state: Array,
    decay: Any,
    beta: Any,
    scale: float,
) -> tuple[Array, Array, Array]:
    """Of one sample: the results, the state after each token, and what each token added.

    query, key and value are [tokens, heads, size], decay is [tokens, heads, 1 or size] and beta
    [tokens, heads or 1, 1].
    """
    heads = state.shape[0]
    key = np.repeat(key, heads // key.shape[1], 1)
    query = np.repeat(query, max(1, heads // query.shape[1]), 1)
    results, states, deltas = [], [], []
    for token in range(len(query)):
        if decay is not None:
            state = state * np.exp(decay[token])[..., None]
        k, delta = key[token], value[token]
        if beta is not None:
            delta = beta[token] * (delta - np.einsum("hkv,hk->hv", state, k))
        state = state + k[..., None] * delta[:, None]
        each = np.repeat(state, query.shape[1] // heads, 0)
        results.append(scale * np.einsum("hkv,hk->hv", each, query[token]))
        states.append(state)
        deltas.append(delta)
    return np.array(results), np.array(states), np.array(deltas)


def reference(heads: int, kv: int, rule: str, scale: float = 0.0, window: int = 0) -> Any:
    def run(
        q: Array, k: Array, v: Array, past: Any = None, decay: Any = None, beta: Any = None
    ) -> Any:
        rows = q.shape[:2]
        size = q.shape[2] // heads
        if past is None:
            past = np.zeros((rows[0], kv, size, v.shape[2] // kv))
        elif window:
            past = past[-1]
        decay = decay.reshape(*rows, kv, -1) if "gated" in rule else [None] * rows[0]
        beta = beta[..., None] if "delta" in rule else [None] * rows[0]
        found = [
            recurrence(*each, scale or size**-0.5)
            for each in zip(
                q.reshape(*rows, heads, size),
                k.reshape(*rows, -1, size),
                v.reshape(*rows, kv, -1),
                past,
                decay,
                beta,
            )
        ]
        states = np.stack([each[1] for each in found], 1)
        if window:
            none = np.zeros((max(0, window - len(states)), *states.shape[1:]))
            shown = np.concatenate([none, states[-window:]])
        else:
            shown = states[-1]
        return [np.stack([each[0] for each in found]).reshape(*rows, -1), shown]

    return run


def inputs(
    rule: str,
    heads: int = 2,
    kv: int = 2,
    keys: int = 2,
    *,
    by_key: bool = False,
    one: bool = False,
    tokens: int = 5,
) -> list[Any]:
    size = 4
    k = normal(2, tokens, keys, size, seed=1)
    k = k / np.linalg.norm(k, axis=-1, keepdims=True)
    decay = -np.abs(normal(2, tokens, kv * size if by_key else kv, seed=4))
    beta = 1 / (1 + np.exp(normal(2, tokens, 1 if one else kv, seed=5)))
    return [
        normal(2, tokens, heads * size),
        k.reshape(2, tokens, -1),
        normal(2, tokens, kv * 6, seed=2),
        normal(2, kv, size, 6, seed=3),
        decay if "gated" in rule else None,
        beta.astype(np.float32) if "delta" in rule else None,
    ]


def attributes(heads: int, kv: int, rule: str, **more: Any) -> dict[str, Any]:
    return {"q_num_heads": heads, "kv_num_heads": kv, "update_rule": rule, **more}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("heads, kv, keys", [(2, 2, 2), (4, 2, 2), (2, 4, 2), (2, 4, 4), (1, 4, 2)])
def test_rules_and_heads(heads: int, kv: int, keys: int, rule: str) -> None:
    check(
        "LinearAttention",
        reference(heads, kv, rule),
        inputs(rule, heads, kv, keys),
        attributes(heads, kv, rule),
    )


@pytest.mark.parametrize("rule", ["gated", "gated_delta"])
def test_decay_of_each_column_and_one_rate_for_all_heads(rule: str) -> None:
    check(
        "LinearAttention",
        reference(2, 2, rule, 0.25),
        inputs(rule, by_key=True, one=True),
        attributes(2, 2, rule, scale=0.25, chunk_size=16),
    )


@pytest.mark.parametrize("rule", RULES)
def test_no_state_before(rule: str) -> None:
    given = inputs(rule)
    given[3] = None
    check("LinearAttention", reference(2, 2, rule), given, attributes(2, 2, rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("heads, kv, keys", [(2, 2, 2), (4, 2, 2), (2, 4, 2)])
@pytest.mark.parametrize("tokens", [8, 32, 70])
def test_many_tokens(tokens: int, heads: int, kv: int, keys: int, rule: str) -> None:
    check(
        "LinearAttention",
        reference(heads, kv, rule),
        inputs(rule, heads, kv, keys, tokens=tokens, one=tokens == 8),
        attributes(heads, kv, rule),
    )


@pytest.mark.parametrize("decay", [0.0, -1e-3, -60.0, -np.inf])
def test_tokens_with_one_key(decay: float) -> None:
    """Each token undoes what the one before it brought."""
    given = inputs("gated_delta", tokens=40)
    given[1][:] = given[1][:, :1]
    given[4][:] = decay
    given[4][:, 30:] = -0.25
    given[5][:] = 1 - 1e-4
    check(
        "LinearAttention",
        reference(2, 2, "gated_delta"),
        given,
        attributes(2, 2, "gated_delta"),
        dtypes=[np.float32],
    )


def test_tokens_of_a_number_that_a_run_tells() -> None:
    """Few of them are taken one by one, and many by chunks."""
    given = {tokens: inputs("gated_delta", tokens=tokens) for tokens in (3, 40)}
    model = model_of("LinearAttention", given[3], attributes(2, 2, "gated_delta"), 2)
    for info in model.graph.input:
        if info.name != "in3":
            info.type.tensor_type.shape.dim[1].dim_param = "tokens"
    made = session(model)
    assert "If" in operators(made)
    for own in given.values():
        wide = [x.astype(np.float64) for x in own]
        expected = reference(2, 2, "gated_delta")(*wide)
        found = made.run(None, {f"in{index}": x for index, x in enumerate(own)})
        for array, wanted in zip(found, expected):
            assert_close(array, wanted, 2e-5, "NumPy")


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("heads, kv, keys", [(4, 2, 2), (2, 4, 2)])
@pytest.mark.parametrize("rule, tokens", [("gated_delta", 5), ("gated", 3), ("delta", 1)])
def test_states_of_the_last_tokens(
    rule: str, tokens: int, heads: int, kv: int, keys: int, past: bool
) -> None:
    given = inputs(rule, heads, kv, keys, tokens=tokens)
    given[3] = normal(3, 2, kv, 4, 6, seed=3) if past else None
    check(
        "LinearAttention",
        reference(heads, kv, rule, window=3),
        given,
        attributes(heads, kv, rule, state_window=3),
        elsewhere=False,  # it has no kernel for a window
    )


@pytest.mark.parametrize(
    "changed, missing, problem",
    [
        ({"update_rule": "other"}, (), "'update_rule' is 'other'"),
        ({"state_window": 9}, (), "'state_window' is 9"),
        ({"q_num_heads": 3}, (), r"q_num_heads \(3\) and kv_num_heads \(2\)"),
        ({"q_num_heads": 6}, (), "'query' has rows of 8, which are not 6 heads"),
        ({"kv_num_heads": 8, "q_num_heads": 8}, (), "'value' has rows of 12"),
        ({}, (4,), "needs input 'decay'"),
        ({}, (5,), "needs input 'beta'"),
    ],
)
def test_refused(changed: dict[str, Any], missing: tuple[int, ...], problem: str) -> None:
    given = [None if index in missing else x for index, x in enumerate(inputs("gated_delta"))]
    model = model_of("LinearAttention", given, {**attributes(2, 2, "gated_delta"), **changed}, 2)
    with pytest.raises(InvalidGraph, match=f"LinearAttention.*{problem}.*node"):
        session(model)
