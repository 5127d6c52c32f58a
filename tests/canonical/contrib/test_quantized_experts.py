# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.kernels.test_matmul_nbits import pack

from .comparison import Array, check, model_of, normal, session
from .test_experts import SWIGLU
from .test_experts import reference as of_experts

TOKENS, WIDTH, INNER, EXPERTS = 6, 64, 32, 4
CONSTANTS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
"""All but the tokens and what the router says of them."""


class Layer:
    """One layer of all experts: its inputs, and the numbers they stand for."""

    def __init__(self, columns: int, rows: int, bits: int, block: int, zeros: bool, seed: int):
        rng = np.random.default_rng([seed, bits, block])
        patterns = rng.integers(0, 1 << bits, (EXPERTS, columns, rows))
        shape = (EXPERTS, columns, rows // block) if block else (EXPERTS, columns)
        self.scales = (rng.uniform(0.5, 1.5, shape) / (1 << bits)).astype(np.float32)
        points = rng.integers(0, 1 << bits, shape) if zeros else np.full(shape, 1 << (bits - 1))
        wide = [np.repeat(x, block, -1) if block else x[..., None] for x in (points, self.scales)]
        self.weights = (patterns - wide[0]) * wide[1].astype(np.float64)
        self.packed, self.zeros = pack(patterns, bits), pack(points, bits) if zeros else None
        self.bias = normal(EXPERTS, columns, seed=seed)


def run(
    bits: int | tuple[int, int] = 4,
    block: int = 0,
    zeros: bool = False,
    halves: int = 1,
    gate: bool = False,
    router: Array | None = None,
    bias: bool = True,
    attributes: dict[str, Any] | None = None,
    **keywords: Any,
) -> None:
    first, second = bits if isinstance(bits, tuple) else (bits, bits)
    layers = [
        Layer(halves * INNER, WIDTH, first, block, zeros, 1),
        Layer(WIDTH, INNER, second, block, zeros, 2),
        Layer(INNER, WIDTH, first, block, zeros, 3) if gate else None,
    ]
    given: list[Any] = [normal(2, TOKENS // 2, WIDTH), 2 * normal(TOKENS, EXPERTS, seed=1)]
    for layer in layers:
        given += [layer.packed, layer.scales, layer.bias if bias else None] if layer else [None] * 3
    given += [None if layer is None else layer.zeros for layer in layers]
    given.append(router)
    attributes = {"k": 2, "activation_type": "silu", **(attributes or {})}
    attributes["expert_weight_bits"] = second
    if first != second:
        attributes["fc1_expert_weight_bits"] = first
    if block:
        attributes["block_size"] = block

    def expected(x: Array, scores: Array, *others: Any) -> Array:
        parts: list[Any] = []
        for i, layer in enumerate(layers):
            parts += [layer.weights, others[3 * i + 2]] if layer else [None, None]
        normalize = 1 if router is None else attributes.get("normalize_routing_weights", 0)
        routing = {**attributes, "normalize_routing_weights": normalize}
        return of_experts(routing)(x, scores, *parts, weights=others[12])

    constants = [index for index in CONSTANTS if given[index] is not None]
    keywords = {"constants": constants, "dtypes": [np.float32], **keywords}
    check("QMoE", expected, given, attributes, **keywords)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("block", [0, 16, 32])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights(bits: int, block: int, zeros: bool) -> None:
    # With blocks of 8 bits the other runtime rounds the tokens to 8 bits too.
    run(bits, block, zeros, elsewhere=not (bits == 8 and block))


@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("given", [False, True])
def test_routes(given: bool, k: int, normalize: int) -> None:
    router = None
    if given:
        router = np.random.default_rng(4).uniform(0.1, 1, (TOKENS, EXPERTS)).astype(np.float32)
    run(router=router, attributes={"k": k, "normalize_routing_weights": normalize})


def test_bits_of_each_layer() -> None:
    run((8, 4), 16, True, elsewhere=False)
    run((2, 8), elsewhere=False)


@pytest.mark.parametrize("activation", ["relu", "gelu", "identity"])
def test_activations(activation: str) -> None:
    run(bias=False, attributes={"activation_type": activation})


def test_half_precision() -> None:
    run(block=16, dtypes=[np.float16], tolerance=4)


@pytest.mark.parametrize("limit", [None, 0.8])
def test_swiglu_in_turns(limit: float | None) -> None:
    limits = {} if limit is None else {"swiglu_limit": limit}
    run(4, 32, True, halves=2, attributes={**SWIGLU, "swiglu_fusion": 1, **limits})


def test_gate() -> None:
    run(8, 32, True, gate=True, elsewhere=False)
    run(8, halves=2, attributes={**SWIGLU, "swiglu_fusion": 2}, elsewhere=False)


@pytest.mark.parametrize(
    "attributes, error, message",
    [
        ({"quant_type": "fp8"}, NotSupported, "'quant_type' of 'fp8' is not supported"),
        ({"weights_prepacked": 1}, NotSupported, "another provider"),
        ({"expert_weight_bits": 3}, NotSupported, "weights of 3 bits"),
        ({"block_size": -1}, InvalidGraph, "'block_size' is -1"),
        ({"k": 0}, InvalidGraph, "'k' is 0"),
    ],
)
def test_is_refused(attributes: dict[str, Any], error: type, message: str) -> None:
    layer = Layer(INNER, WIDTH, 4, 0, False, 1)
    one = [layer.packed, layer.scales, None]
    given = [normal(TOKENS, WIDTH), normal(TOKENS, EXPERTS), *one, *one]
    with pytest.raises(error, match=message):
        session(model_of("QMoE", given, attributes))
    given[3] = None
    with pytest.raises(InvalidGraph, match="scales of a layer are missing"):
        session(model_of("QMoE", given))
