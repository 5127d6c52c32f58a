# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, normal, session


def routed(logits: Array, bias: Array, attributes: dict[str, Any]) -> Array:
    groups, kept = attributes.get("n_group", 1), attributes.get("topk_group", 1)
    rows = logits.reshape(-1, len(bias))
    y = np.full_like(rows, attributes.get("router_sentinel", -10000.0))
    for row, scores in zip(y, rows):
        weights = 1 / (1 + np.exp(-scores))
        apart = (weights + bias).reshape(groups, -1)
        best = -np.sort(-apart, axis=1)[:, : attributes.get("group_topk", 2)]
        allowed = np.argsort(-best.sum(1), kind="stable")[:kept]
        masked = np.full_like(apart, -np.inf)
        masked[allowed] = apart[allowed]
        order = np.argsort(-masked.ravel(), kind="stable")[: attributes["top_k"]]
        order = order[np.isfinite(masked.ravel()[order])]
        row[order] = np.log(np.maximum(weights[order], 1e-20))
    return y


@pytest.mark.parametrize("shape", [(5, 8), (2, 5, 8)])
@pytest.mark.parametrize(
    "attributes",
    [
        {"top_k": 3},
        {"top_k": 8, "router_sentinel": -5.0},
        {"top_k": 3, "n_group": 4, "topk_group": 2},
        {"top_k": 5, "n_group": 4, "topk_group": 2, "group_topk": 1},
        {"top_k": 3, "n_group": 2, "topk_group": 1, "group_topk": 9},
        {"top_k": 3, "n_group": 2, "topk_group": 2},
    ],
)
def test_routes(attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    logits, bias = 3 * normal(*shape), normal(8, seed=1)
    check(
        "MoEGroupRouter",
        lambda x, b: routed(x, b, attributes),
        [logits, bias],
        attributes,
        dtypes=[np.float32],
    )


def test_first_of_equals() -> None:
    attributes = {"top_k": 3, "n_group": 4, "topk_group": 2}
    inputs = [np.zeros((2, 8), np.float32), np.zeros(8, np.float32)]
    check(
        "MoEGroupRouter",
        lambda x, b: routed(x, b, attributes),
        inputs,
        attributes,
        dtypes=[np.float32],
    )


def test_halves() -> None:
    attributes = {"top_k": 3, "n_group": 4, "topk_group": 2}
    logits, bias = 3 * normal(5, 8, dtype=np.float16), normal(8, seed=1)
    model = model_of("MoEGroupRouter", [logits, bias], attributes)
    [found] = session(model).run(None, {"in0": logits, "in1": bias})
    assert found.dtype == np.float16
    expected = routed(logits.astype(np.float64), bias, attributes)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("projected", [False, True])
def test_all_scores(projected: bool) -> None:
    def reference(x: Array, bias: Array, weight: Any = None) -> list[Any]:
        weights = 1 / (1 + np.exp(-(x if weight is None else x @ weight.T)))
        return [None, weights + bias, weights]

    inputs = [normal(5, 8), normal(8)]
    if projected:
        inputs = [normal(5, 256) / 16, normal(8), normal(8, 256, seed=1)]
    check("MoEGroupRouter", reference, inputs, {"top_k": 2}, dtypes=[np.float32], left_out=[0])


@pytest.mark.parametrize(
    "attributes, outputs, left_out, problem",
    [
        ({"top_k": 0}, 1, [], "must be positive"),
        ({"top_k": 2, "n_group": 2, "topk_group": 3}, 1, [], "no more than n_group"),
        ({"top_k": 2, "n_group": 3}, 1, [], "8 experts are not 3 groups"),
        ({"top_k": 9}, 1, [], "fewer than top_k"),
        ({"top_k": 2}, 3, [], "excludes the other outputs"),
        ({"top_k": 2, "n_group": 2}, 3, [0], "have one group"),
    ],
)
def test_refused(
    attributes: dict[str, Any], outputs: int, left_out: list[int], problem: str
) -> None:
    inputs = [normal(5, 8), normal(8)]
    model = model_of("MoEGroupRouter", inputs, attributes, outputs, left_out=left_out)
    with pytest.raises(InvalidGraph, match=f"MoEGroupRouter.*{problem}.*node"):
        session(model)
