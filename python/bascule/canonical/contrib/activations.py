# SPDX-License-Identifier: Apache-2.0
"""Gelu in its forms, with what is added first; and the activations that other operators end in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value


@operator("Gelu")
def gelu(build: ContribBuilder, X: Value) -> Outputs:
    return build.op("Gelu", X)


@operator("BiasGelu")
def bias_gelu(build: ContribBuilder, A: Value, B: Value) -> Outputs:
    return build.op("Gelu", build.op("Add", A, B))


@operator("FastGelu")
def fast_gelu(build: ContribBuilder, X: Value, bias: Value | None) -> Outputs:
    return build.op("Gelu", build.plus(X, bias), approximate="tanh")


@operator("QuickGelu")
def quick_gelu(build: ContribBuilder, X: Value, *, alpha: float = 1.702) -> Outputs:
    return build.op("Swish", X, alpha=alpha)


@operator("BiasSplitGelu")
def bias_split_gelu(build: ContribBuilder, X: Value, bias: Value) -> Outputs:
    """The left half of a row times the Gelu of the right half."""
    left, right = build.ops("Split", build.op("Add", X, bias), outputs=2, axis=-1, num_outputs=2)
    return build.op("Mul", left, build.op("Gelu", right))


@operator("BiasAdd")
def bias_add(build: ContribBuilder, X: Value, bias: Value, skip: Value) -> Outputs:
    return build.op("Add", build.op("Add", X, bias), skip)


# The attributes of each activation, in the order in which a node lists its parameters.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Celu": ("alpha",),
    "Elu": ("alpha",),
    "Gelu": (),
    "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (),
    "LeakyRelu": ("alpha",),
    "Mish": (),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}


def activate(
    build: ContribBuilder, x: Value, activation: str, parameters: Sequence[float | None]
) -> Value:
    """An activation by its name; None, or what the list lacks, is the operator's own default."""
    if not activation:
        return x
    given = [each for each in parameters if each is not None]
    if activation == "Clip":
        if len(given) != 2:
            raise build.invalid(f"activation 'Clip' takes two parameters, got {len(given)}")
        return build.op("Clip", x, *(build.like(each, build.typed(x)) for each in given))
    names = _PARAMETERS.get(activation)
    if names is None:
        raise build.invalid(f"activation '{activation}' is unknown")
    if len(given) > len(names):
        raise build.invalid(
            f"activation '{activation}' takes {len(names)} parameters, got {len(given)}"
        )
    attributes: dict[str, Any] = {
        name: value for name, value in zip(names, parameters) if value is not None
    }
    return build.op(activation, x, **attributes)
