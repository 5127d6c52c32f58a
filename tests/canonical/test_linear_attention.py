# SPDX-License-Identifier: Apache-2.0
"""The standard's LinearAttention, beside the recurrence in float64 and its own definition."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

import bascule
from bascule.canonical import registry
from bascule.errors import InvalidGraph

from .contrib import comparison
from .contrib.comparison import assert_close, feeds_of, operators, session
from .contrib.test_linear_attention import RULES, attributes, inputs, reference

OPSET = 27


def model_of(*arguments: Any) -> onnx.ModelProto:
    model = comparison.model_of(*arguments, domain="")
    model.opset_import[0].version = OPSET
    return model


def check(
    given: list[Any],
    told: dict[str, Any],
    *,
    dtype: Any = np.float32,
    states: Any = None,
    shapes: str = "static",
) -> None:
    """Against the recurrence, with states of the type `states`."""
    typed = [
        x if x is None else x.astype((states or dtype) if index == 3 else dtype)
        for index, x in enumerate(given)
    ]
    wide = [x if x is None else x.astype(np.float64) for x in typed]
    run = reference(told["q_num_heads"], told["kv_num_heads"], told["update_rule"])
    made = session(model_of("LinearAttention", typed, told, 2, shapes))
    found = made.run(None, feeds_of(typed))
    state = dtype if given[3] is None else states or dtype
    assert [x.dtype for x in found] == [np.dtype(dtype), np.dtype(state)]
    for array, wanted in zip(found, run(*wide), strict=True):
        assert_close(array, wanted, comparison.TOLERANCES[array.dtype], shapes)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("heads, kv", [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize("past", [False, True])
def test_rules_and_heads(past: bool, tokens: int, heads: int, kv: int, rule: str) -> None:
    given = inputs(rule, heads, kv, kv, tokens=tokens, one=tokens == 5)
    if not past:
        given[3] = None
    for shapes in ("static", "symbolic", "unknown"):
        check(given, attributes(heads, kv, rule), shapes=shapes)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("states", [None, np.float32])
@pytest.mark.parametrize("shapes", ["static", "symbolic"])
@pytest.mark.parametrize("past", [False, True])
def test_halves(past: bool, shapes: str, states: Any, dtype: Any) -> None:
    given = inputs("gated_delta", tokens=40)
    if not past:
        given[3] = None
    told = attributes(2, 2, "gated_delta")
    check(given, told, dtype=dtype, states=states, shapes=shapes)


@pytest.mark.parametrize("rule", ["gated", "gated_delta"])
@pytest.mark.parametrize("tokens", [3, 40])
def test_decays_of_each_column(tokens: int, rule: str) -> None:
    check(inputs(rule, by_key=True, tokens=tokens), attributes(2, 2, rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scale", [0.0, 0.25])
def test_means_what_its_definition_means(
    scale: float, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(rule, 4, 2, tokens=40)
    told = {**attributes(4, 2, rule), "scale": scale}
    model = model_of("LinearAttention", given, told, 2)
    found = session(model).run(None, feeds_of(given))
    monkeypatch.delitem(registry._steps, ("", "LinearAttention"))
    for array, other in zip(found, session(model).run(None, feeds_of(given)), strict=True):
        assert_close(array, other, 2e-5, "beside the definition")


def test_goes_by_chunks() -> None:
    """As many as do not fill the last chunk; few go one by one."""
    given = inputs("gated_delta", tokens=40)
    model = model_of("LinearAttention", given, attributes(2, 2, "gated_delta"), 2)
    assert "Pad" in operators(session(model))
    few = inputs("gated_delta", tokens=3)
    model = model_of("LinearAttention", few, attributes(2, 2, "gated_delta"), 2)
    assert "Pad" not in operators(session(model))


def test_what_is_known_of_the_results_is_told() -> None:
    given = inputs("gated", tokens=3)
    model = model_of("LinearAttention", given, attributes(2, 2, "gated"), 2, "symbolic")
    for info, size in zip(model.graph.input, ("batch",) * 5):
        info.type.tensor_type.shape.dim[0].dim_param = size
    y, state = session(model).get_outputs()
    assert y.shape[0] == state.shape[0] == "batch"
    assert (y.type, len(y.shape), len(state.shape)) == ("tensor(float)", 3, 4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("place", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("fault", [np.nan, np.inf])
@pytest.mark.parametrize("token", [20, 69])
def test_later_tokens_do_not_reach_earlier_ones(
    token: int, fault: float, place: int, rule: str
) -> None:
    given = inputs(rule, 4, 2, tokens=70, one=True)
    if given[place] is None:
        return
    told = attributes(4, 2, rule)
    made = session(model_of("LinearAttention", given, told, 2))
    sound = made.run(None, feeds_of(given))
    given[place][1, token, 0] = fault
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = reference(4, 2, rule)(*(x if x is None else x.astype(np.float64) for x in given))
    y, state = made.run(None, feeds_of(given))
    np.testing.assert_array_equal(y[:, :token], sound[0][:, :token])
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(wanted[0]))
    assert not np.isfinite(state)[~np.isfinite(wanted[1])].any()
    np.testing.assert_array_equal(y[0], sound[0][0])
    np.testing.assert_array_equal(state[0], sound[1][0])


@pytest.mark.parametrize("rule", RULES)
def test_samples_do_not_depend_on_their_neighbours(rule: str) -> None:
    given = inputs(rule, 4, 2, tokens=45)
    made = session(model_of("LinearAttention", given, attributes(4, 2, rule), 2, "symbolic"))
    together = made.run(None, feeds_of(given))
    for sample in range(2):
        own = [x if x is None else x[sample : sample + 1] for x in given]
        for alone, both in zip(made.run(None, feeds_of(own)), together, strict=True):
            np.testing.assert_array_equal(alone[0], both[sample])


@pytest.mark.parametrize("wanted", [0, 1])
def test_one_of_its_results(wanted: int) -> None:
    given = inputs("delta", tokens=9)
    model = model_of("LinearAttention", given, attributes(2, 2, "delta"), 2)
    both = session(model).run(None, feeds_of(given))
    del model.graph.output[1 - wanted]
    [alone] = session(model).run(None, feeds_of(given))
    np.testing.assert_array_equal(alone, both[wanted])


@pytest.mark.parametrize(
    "changed, missing, problem",
    [
        ({"update_rule": "other"}, (), "'update_rule' is 'other'"),
        ({"q_num_heads": 3}, (), r"q_num_heads \(3\) must be a positive multiple"),
        ({"q_num_heads": 1}, (), r"q_num_heads \(1\) must be a positive multiple"),
        ({"q_num_heads": 6}, (), "'query' has rows of 8, which are not 6 heads"),
        ({"q_num_heads": 0, "kv_num_heads": 0}, (), "q_num_heads"),
        ({}, (4,), "needs input 'decay'"),
        ({}, (5,), "needs input 'beta'"),
    ],
)
def test_refused(changed: dict[str, Any], missing: tuple[int, ...], problem: str) -> None:
    given = [None if index in missing else x for index, x in enumerate(inputs("gated_delta"))]
    model = model_of("LinearAttention", given, {**attributes(2, 2, "gated_delta"), **changed}, 2)
    with pytest.raises(InvalidGraph, match=f"LinearAttention.*{problem}"):
        bascule.InferenceSession(model.SerializeToString())
