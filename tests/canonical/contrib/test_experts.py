# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported

from .comparison import Array, check, model_of, normal, session
from .test_activations import tanh_gelu

TOKENS, WIDTH, INNER, EXPERTS = 6, 8, 5, 4


def silu(x: Array, alpha: float = 1.0) -> Array:
    return x / (1 + np.exp(-alpha * x))


PLAIN: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "gelu": tanh_gelu,
    "silu": silu,
    "identity": lambda x: x,
}


def activated(x: Array, other: Any, attributes: dict[str, Any]) -> Array:
    name, fusion = attributes["activation_type"], attributes.get("swiglu_fusion", 0)
    if name in PLAIN:
        return PLAIN[name](x) * (1 if other is None else other)
    if fusion == 1:
        x, other = x[..., 0::2], x[..., 1::2]
    elif fusion == 2:
        x, other = np.split(x, 2, -1)
    if name == "geglu":
        return tanh_gelu(x) * other
    limit, after = attributes.get("swiglu_limit", np.inf), "swiglu_limit_after_activation"
    other = np.clip(other, -limit, limit) + attributes.get("activation_beta", 0.0)
    alpha = attributes.get("activation_alpha", 1.0)
    if attributes.get(after):
        return np.minimum(silu(x, alpha), limit) * other
    return silu(np.minimum(x, limit), alpha) * other


def reference(attributes: dict[str, Any]) -> Any:
    def run(
        x: Array,
        scores: Array,
        w1: Array,
        b1: Any,
        w2: Array,
        b2: Any,
        w3: Any = None,
        b3: Any = None,
        weights: Any = None,
    ) -> Array:
        tokens = x.reshape(-1, x.shape[-1])
        y = np.zeros(tokens.shape)
        for index, (token, score, result) in enumerate(zip(tokens, scores, y)):
            shares = np.exp(score - score.max())
            shares = shares / shares.sum() if weights is None else weights[index]
            best = np.argsort(-score, kind="stable")[: attributes["k"]]
            scale = shares[best].sum() if attributes.get("normalize_routing_weights") else 1.0
            for e in best:
                first = w1[e] @ token + (0 if b1 is None else b1[e])
                other = None if w3 is None else w3[e] @ token + (0 if b3 is None else b3[e])
                inner = activated(first, other, attributes)
                result += shares[e] / scale * (w2[e] @ inner + (0 if b2 is None else b2[e]))
        return y.reshape(x.shape)

    return run


def inputs(halves: int = 1, gate: bool = False, bias: bool = True) -> list[Array | None]:
    found: list[Array | None] = [
        normal(2, TOKENS // 2, WIDTH),
        2 * normal(TOKENS, EXPERTS, seed=1),
        normal(EXPERTS, halves * INNER, WIDTH, seed=2) / np.float32(3),
        normal(EXPERTS, halves * INNER, seed=3) if bias else None,
        normal(EXPERTS, WIDTH, INNER, seed=4) / np.float32(2),
        normal(EXPERTS, WIDTH, seed=5) if bias else None,
    ]
    if gate:
        found += [normal(EXPERTS, INNER, WIDTH, seed=6), normal(EXPERTS, INNER, seed=7)]
    return found


def run(given: list[Array | None], attributes: dict[str, Any], **keywords: Any) -> None:
    attributes = {"k": 2, **attributes}
    check("MoE", reference(attributes), given, attributes, constants=[2, 3, 4, 5], **keywords)


@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_routes(k: int, normalize: int) -> None:
    attributes = {"k": k, "normalize_routing_weights": normalize, "activation_type": "silu"}
    run(inputs(), attributes)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", PLAIN)
def test_activations(activation: str, bias: bool) -> None:
    elsewhere = activation != "relu2"
    run(
        inputs(bias=bias), {"activation_type": activation}, elsewhere=elsewhere, dtypes=[np.float32]
    )


def test_gate() -> None:
    run(inputs(gate=True), {"activation_type": "silu"}, elsewhere=False)


SWIGLU = {"activation_type": "swiglu", "activation_alpha": 1.7, "activation_beta": 1.0}


@pytest.mark.parametrize("limit", [None, 0.8])
def test_swiglu_in_turns(limit: float | None) -> None:
    limits = {} if limit is None else {"swiglu_limit": limit}
    run(inputs(2), {**SWIGLU, "swiglu_fusion": 1, **limits})


@pytest.mark.parametrize(
    "halves, attributes",
    [
        (2, {**SWIGLU, "swiglu_fusion": 2, "swiglu_limit": 0.8}),
        (
            2,
            {**SWIGLU, "swiglu_fusion": 1, "swiglu_limit": 0.3, "swiglu_limit_after_activation": 1},
        ),
        (1, SWIGLU),
        (2, {"activation_type": "geglu", "swiglu_fusion": 1}),
        (2, {"activation_type": "geglu", "swiglu_fusion": 2}),
    ],
)
def test_other_gated_activations(halves: int, attributes: dict[str, Any]) -> None:
    run(inputs(halves, gate=halves == 1), attributes, elsewhere=False, dtypes=[np.float32])


def test_packed_tokens() -> None:
    given = inputs()
    assert given[0] is not None
    given[0] = given[0].reshape(TOKENS, WIDTH)
    run(given, {"activation_type": "relu"}, dtypes=[np.float32])


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"activation_type": "sine"}, "attribute 'activation_type' is 'sine'"),
        ({"k": 0}, "attribute 'k' is 0"),
        ({"activation_type": "swiglu"}, "either fc3 or an fc1 of both halves"),
        ({"swiglu_fusion": 3}, "'swiglu_fusion' is 3"),
    ],
)
def test_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        session(model_of("MoE", inputs(), attributes))


def test_sparse_mixer_is_refused() -> None:
    with pytest.raises(NotSupported, match="'use_sparse_mixer' is not supported"):
        session(model_of("MoE", inputs(), {"use_sparse_mixer": 1}))
