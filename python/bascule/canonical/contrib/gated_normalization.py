# SPDX-License-Identifier: Apache-2.0
"""Root mean square normalizations, by branches and with gates, and the gates of their neighbours.

All is computed in float32 and rounded once, but where an operator says otherwise.
"""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.precision import narrow, wide
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_GATES = {"silu": "Swish", "swish": "Swish", "sigmoid": "Sigmoid"}


@operator("GatedRMSNorm")
def gated_rms_norm(
    build: ContribBuilder,
    X: Value,
    scale: Value,
    gate: Value,
    *,
    activation: str = "silu",
    epsilon: float = 1e-5,
) -> Outputs:
    """Each run of as many elements as the scale has is normalized."""
    if activation not in _GATES:
        raise build.invalid(
            f"attribute 'activation' is '{activation}', expected one of {list(_GATES)}"
        )
    row, size = build.known_dim(X, -1), build.known_dim(scale, 0)
    if row is not None and size is not None and (not size or row % size):
        raise build.invalid(f"rows of {row} are no multiple of the {size} elements of the scale")
    x, weight, z = (wide(build, each) for each in (X, scale, gate))
    if row is None or row != size:
        lead = build.op("Shape", X, end=-1)
        shape = build.op("Concat", lead, build.ints(-1), build.dim(scale, 0), axis=0)
        x = build.op("Reshape", x, shape)
    y = _normalized(build, x, weight, epsilon)
    if row is None or row != size:
        y = build.op("Reshape", y, build.shape(build.typed(X)), allowzero=1)
    y = build.op("Mul", y, build.op(_GATES[activation], z))
    return narrow(build, y, X)


@operator("BranchwiseRMSNorm")
def branchwise_rms_norm(
    build: ContribBuilder,
    X: Value,
    scale: Value | None,
    *,
    epsilon: float = 1e-5,
    num_branches: int = 0,
) -> Outputs:
    """A scale has a row for each branch, or one row for all."""
    rank = build.typed(X).rank
    if num_branches < 0 or (rank is not None and rank < 1 + (num_branches == 0)):
        raise build.invalid(f"input 'X' of rank {rank} has no branches ({num_branches})")
    x, size = wide(build, X), build.dim(X, -1)
    if num_branches:
        row = build.known_dim(X, -1)
        if row is not None and row % num_branches:
            raise build.invalid(f"rows of {row} are not {num_branches} branches of one size")
        size = build.op("Div", size, build.ints(num_branches))
        shape = build.op(
            "Concat", build.op("Shape", X, end=-1), build.ints(num_branches, -1), axis=0
        )
        x = build.op("Reshape", x, shape)
    y = root_mean_square(build, x, size, epsilon)
    if scale is not None:
        rows = build.op("Concat", build.ints(-1), size, axis=0)
        y = build.op("Mul", y, build.op("Reshape", wide(build, scale), rows))
    if num_branches:
        y = build.op("Reshape", y, build.shape(build.typed(X)), allowzero=1)
    return narrow(build, y, X)


@operator("GatedAdd")
def gated_add(
    build: ContribBuilder, X: Value, Y: Value, gate: Value, gate_weight: Value | None
) -> Outputs:
    """The gate, one number for each row, may be projected first. Each step is rounded."""
    if gate_weight is not None:
        if build.typed(X).dtype is not DataType.BFLOAT16:
            raise build.not_supported("input 'gate_weight' of another type than bfloat16")
        gate = build.op("Sigmoid", build.op("MatMul", gate, gate_weight))
    elif build.known_dim(gate, -1) not in (None, 1):
        raise build.invalid(
            f"input 'gate' has {build.known_dim(gate, -1)} numbers for each row, expected 1"
        )
    return build.give_type(build.op("Add", X, build.op("Mul", Y, gate)), X.type)


@operator("ScaledSiLU")
def scaled_silu(
    build: ContribBuilder, X: Value, scale: Value | None, *, alpha: float = 1.0
) -> Outputs:
    """What is scaled is rounded first."""
    if scale is not None and build.rank_of(scale, 0):
        raise build.invalid(f"input 'scale' has rank {scale.rank}, expected a scalar")
    if scale is None and alpha == 1:
        return build.op("Swish", X)
    x = wide(build, X)
    factor = build.like(alpha, x) if scale is None else wide(build, scale)
    return build.op("Swish", narrow(build, build.op("Mul", x, factor), X))


@operator("SwiGLU")
def swiglu(
    build: ContribBuilder,
    gate: Value,
    up: Value | None,
    *,
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    limit: float = 0.0,
    round_activation: int = 0,
) -> Outputs:
    """Without the second input a row of the first is both, one behind the other."""
    if up is None:
        row = build.known_dim(gate, -1)
        if row is not None and row % 2:
            raise build.invalid(f"input 'gate' has rows of {row}, which are no two halves")
        gate, up = build.ops("Split", gate, outputs=2, axis=-1, num_outputs=2)
    if limit <= 0 and not activation_beta and not round_activation:
        return build.op("SwiGLU", gate, up, alpha=activation_alpha)
    g, linear = wide(build, gate), wide(build, up)
    if limit > 0:
        most = build.like(limit, g)
        g = build.op("Clip", g, None, most)
        linear = build.op("Clip", linear, build.like(-limit, g), most)
    if activation_beta:
        linear = build.op("Add", linear, build.like(activation_beta, g))
    if not round_activation:
        return narrow(build, build.op("SwiGLU", g, linear, alpha=activation_alpha), gate)
    rounded = narrow(build, build.op("Swish", g, alpha=activation_alpha), gate)
    return narrow(build, build.op("Mul", wide(build, rounded), linear), gate)


_LEAST_SCORE = 1e-6


@operator("EngramGate")
def engram_gate(
    build: ContribBuilder,
    key: Value,
    query: Value,
    value: Value,
    key_norm_scale: Value,
    query_norm_scale: Value,
    conv_norm_scale: Value | None,
    *,
    epsilon: float = 1e-5,
) -> Outputs:
    """The signed square root of how much key and query agree is the gate of a value."""
    if conv_norm_scale is None and build.wants(1):
        raise build.invalid("output 'gated_value_normed' needs input 'conv_norm_scale'")
    for name, each, rank in (("key", key, 4), ("query", query, 4), ("value", value, 3)):
        if build.rank_of(each, rank) != rank:
            raise build.invalid(f"input '{name}' has rank {each.rank}, expected {rank}")
    size = build.dim(key, -1)
    normal = (root_mean_square(build, wide(build, x), size, epsilon) for x in (key, query))
    scales = build.op("Mul", wide(build, key_norm_scale), wide(build, query_norm_scale))
    products = build.op("Mul", build.op("Mul", *normal), scales)
    root = build.op("Sqrt", build.op("Cast", size, to=int(DataType.FLOAT)))
    score = build.op("Div", build.op("ReduceSum", products, build.ints(-1)), root)
    distance = build.op("Max", build.op("Abs", score), build.floats(_LEAST_SCORE))
    gate = build.op("Sigmoid", build.op("Mul", build.op("Sign", score), build.op("Sqrt", distance)))
    y = build.op("Mul", gate, build.op("Unsqueeze", wide(build, value), build.ints(2)))
    if conv_norm_scale is None:
        return narrow(build, y, key), None
    normed = build.op(
        "Mul", root_mean_square(build, y, size, epsilon), wide(build, conv_norm_scale)
    )
    return narrow(build, y, key), narrow(build, normed, key)


def root_mean_square(build: ContribBuilder, x: Value, size: Value, epsilon: float) -> Value:
    """`x`, in float32, by the root mean square of each of its rows, which have this size."""
    return _normalized(build, x, build.op("Expand", build.floats(1), size), epsilon)


def _normalized(build: ContribBuilder, x: Value, scale: Value, epsilon: float) -> Value:
    y = build.op("RMSNormalization", x, scale, axis=-1, epsilon=epsilon)
    # Not inferred when the rank of x is not known.
    return build.give_type(y, TensorType(DataType.FLOAT, build.typed(x).shape))
