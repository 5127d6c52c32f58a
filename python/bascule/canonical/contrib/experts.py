# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: each token goes through the few experts that a router scores highest."""

from __future__ import annotations

from dataclasses import dataclass

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType

_GATED = ("swiglu", "geglu")
_PLAIN = ("relu", "relu2", "gelu", "silu", "identity")


@dataclass
class Activation:
    name: str
    alpha: float
    beta: float
    limit: float | None
    fusion: int
    """Where the halves of a gated one are: in two layers (0), in turns (1), or in a row (2)."""
    limits_result: bool


@dataclass
class Layer:
    """Weights ``[experts, columns, rows]`` and biases ``[experts, columns]``."""

    weights: Value
    bias: Value | None

    def of_expert(self, build: Builder, expert: Value, x: Value) -> Value:
        """The weights of one expert, ``[columns, rows]``, of the type of `x`."""
        return build.op("Gather", self.weights, expert, axis=0)


@dataclass
class Router:
    """How many experts see a token, by the `scores` of all, ``[tokens, experts]``."""

    scores: Value
    count: int
    normalize: bool
    sparse_mixer: bool
    weights: Value | None = None
    """What the chosen ones weigh, if not their share by the softmax of the scores."""


@operator("MoE")
def mixture_of_experts(
    build: ContribBuilder,
    input: Value,
    router_probs: Value,
    fc1_experts_weights: Value,
    fc1_experts_bias: Value | None,
    fc2_experts_weights: Value,
    fc2_experts_bias: Value | None,
    fc3_experts_weights: Value | None,
    fc3_experts_bias: Value | None,
    *,
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    activation_type: str = "relu",
    k: int = 1,
    normalize_routing_weights: int = 0,
    swiglu_fusion: int = 0,
    swiglu_limit: float | None = None,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
) -> Outputs:
    gate = None
    if fc3_experts_weights is not None:
        gate = Layer(fc3_experts_weights, fc3_experts_bias)
    activation = Activation(
        activation_type,
        activation_alpha,
        activation_beta,
        swiglu_limit,
        swiglu_fusion,
        bool(swiglu_limit_after_activation),
    )
    layers = (Layer(fc1_experts_weights, fc1_experts_bias), gate)
    last = Layer(fc2_experts_weights, fc2_experts_bias)
    router = Router(router_probs, k, bool(normalize_routing_weights), bool(use_sparse_mixer))
    return mix(build, input, router, layers, last, activation)


def mix(
    build: ContribBuilder,
    input: Value,
    router: Router,
    layers: tuple[Layer, Layer | None],
    last: Layer,
    activation: Activation,
) -> Value:
    """What the experts of each token make of it, by the weights of the router.

    `layers` are the first and, if there is one, its gate.
    """
    _check(build, router, activation, layers[1])
    shape, width = build.op("Shape", input), build.dim(input, -1)
    rows = build.op("Concat", build.ints(-1), width, axis=0)
    tokens = build.op("Reshape", input, rows)
    weights, chosen = _routes(build, router)
    weights = build.op("CastLike", weights, input)
    body = _of_one_expert(build, tokens, weights, chosen, layers, last, activation)
    none = build.op("Mul", tokens, build.like(0.0, build.typed(input)))
    count = build.as_scalar(build.dim(layers[0].weights, 0))
    return build.op("Reshape", build.op("Loop", count, None, none, body=body), shape, allowzero=1)


def _check(
    build: ContribBuilder, router: Router, activation: Activation, gate: Layer | None
) -> None:
    if router.sparse_mixer:
        raise build.not_supported("attribute 'use_sparse_mixer'")
    if activation.name not in (*_PLAIN, *_GATED):
        raise build.invalid(f"attribute 'activation_type' is '{activation.name}'")
    if router.count < 1:
        raise build.invalid(f"attribute 'k' is {router.count}, expected a positive number")
    if activation.fusion not in (0, 1, 2):
        raise build.invalid(f"attribute 'swiglu_fusion' is {activation.fusion}, expected 0, 1 or 2")
    if activation.name in _GATED and (gate is None) != (activation.fusion > 0):
        raise build.invalid("a gated activation needs either fc3 or an fc1 of both halves")


def _routes(build: ContribBuilder, router: Router) -> tuple[Value, Value]:
    """The weights of the experts of each token, and which these are."""
    wide = build.op("Cast", router.scores, to=int(DataType.FLOAT))
    shares = build.op("Softmax", wide, axis=-1)
    weights, chosen = build.ops("TopK", shares, build.ints(router.count), outputs=2)
    if router.weights is not None:
        given = build.op("Cast", router.weights, to=int(DataType.FLOAT))
        weights = build.op("GatherElements", given, chosen, axis=-1)
    if router.normalize:
        total = build.op("ReduceSum", weights, build.ints(-1), keepdims=1)
        weights = build.op("Div", weights, total)
    return weights, chosen


def _of_one_expert(
    build: ContribBuilder,
    tokens: Value,
    weights: Value,
    chosen: Value,
    layers: tuple[Layer, Layer | None],
    last: Layer,
    activation: Activation,
) -> Graph:
    """The body of the loop: what one expert adds for its tokens; without any, it rests."""
    inside = build.body("expert")
    body = inside.graph
    expert = inside.parameter("expert", TensorType(DataType.INT64, ()))
    goes_on = inside.parameter("goes_on", TensorType(DataType.BOOL, ()))
    dtype = build.typed(tokens).dtype
    sums = inside.parameter("sums", None if dtype is None else TensorType(dtype, (None, None)))
    is_chosen = inside.op("Cast", inside.op("Equal", chosen, expert), to=int(DataType.INT64))
    own = inside.op("ReduceMax", is_chosen, inside.ints(-1), keepdims=0)
    rows = inside.op("Squeeze", inside.op("NonZero", own), inside.ints(0))
    shares = inside.op("Mul", weights, inside.op("CastLike", is_chosen, weights))
    share = inside.op("ReduceSum", shares, inside.ints(-1), keepdims=1)

    rest, then = build.body("rests"), build.body("works")
    rest.graph.add_output(rest.op("Identity", sums))
    x = then.op("Gather", tokens, rows, axis=0)
    first, gate = (None if each is None else _apply(then, x, each, expert) for each in layers)
    assert first is not None
    y = _apply(then, _activated(then, first, gate, activation), last, expert)
    y = then.op("Mul", y, then.op("Gather", share, rows, axis=0))
    index = then.op("Unsqueeze", rows, then.ints(1))
    then.graph.add_output(then.op("ScatterND", sums, index, y, reduction="add"))

    some = inside.op("Greater", inside.op("Size", rows), inside.int_scalar(0))
    body.add_output(inside.op("Identity", goes_on))
    body.add_output(inside.op("If", some, then_branch=then.graph, else_branch=rest.graph))
    return body


def _apply(build: Builder, x: Value, layer: Layer, expert: Value) -> Value:
    weights = layer.of_expert(build, expert, x)
    bias = None if layer.bias is None else build.op("Gather", layer.bias, expert, axis=0)
    return build.op("Gemm", x, weights, bias, transB=1)


def _activated(build: Builder, x: Value, gate: Value | None, activation: Activation) -> Value:
    if activation.name in _GATED:
        return _gated(build, x, gate, activation)
    y = x
    if activation.name in ("relu", "relu2"):
        y = build.op("Relu", x)
    elif activation.name == "gelu":
        y = build.op("Gelu", x, approximate="tanh")
    elif activation.name == "silu":
        y = build.op("Swish", x)
    if activation.name == "relu2":
        y = build.op("Mul", y, y)
    return y if gate is None else build.op("Mul", y, gate)


def _gated(build: Builder, x: Value, other: Value | None, activation: Activation) -> Value:
    """One half, activated, times the other."""
    if other is not None:
        gate, linear = x, other
    elif activation.fusion == 1:
        turns = build.op("Reshape", x, build.ints(0, -1, 2))
        gate, linear = (build.op("Gather", turns, build.int_scalar(i), axis=2) for i in range(2))
    else:
        halves = build.op("Split", x, outputs=2, axis=1, num_outputs=2)
        assert halves.producer is not None
        gate, linear = halves.producer.outputs
    if activation.name == "geglu":
        return build.op("Mul", build.op("Gelu", gate, approximate="tanh"), linear)
    limit = activation.limit
    if limit is not None:
        linear = build.op("Clip", linear, build.like(-limit, x), build.like(limit, x))
        if not activation.limits_result:
            gate = build.op("Min", gate, build.like(limit, x))
    y = build.op("Swish", gate, alpha=activation.alpha)
    if limit is not None and activation.limits_result:
        y = build.op("Min", y, build.like(limit, x))
    if activation.beta:
        linear = build.op("Add", linear, build.like(activation.beta, x))
    return build.op("Mul", y, linear)
