# SPDX-License-Identifier: Apache-2.0
"""Several products with packed weights that read the same rows, with what stands around them."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.packed_weights import product
from bascule.ir.graph import Value


@operator("MatMulNBitsMlp")
def matmul_nbits_mlp(
    build: ContribBuilder,
    A: Value,
    skip: Value | None,
    norm_scale: Value | None,
    gate_B: Value,
    gate_scales: Value,
    gate_bias: Value | None,
    up_B: Value,
    up_scales: Value,
    up_bias: Value | None,
    *,
    K: int,
    N: int,
    block_size: int,
    activation: str,
    bits: int = 4,
    accuracy_level: int = 0,
    epsilon: float = 1e-5,
) -> Outputs:
    """`accuracy_level` allows a product of less precision than A has, which is not made use of."""
    if activation != "silu":
        raise build.not_supported(f"activation '{activation}'")
    rows, total = _normalized(build, A, skip, norm_scale, epsilon)

    def projected(b: Value, scales: Value, bias: Value | None) -> Value:
        inputs = (rows, b, scales, None, None, bias)
        return product(build, *inputs, K=K, N=N, block_size=block_size, bits=bits)

    gate = build.op("Swish", projected(gate_B, gate_scales, gate_bias))
    return build.op("Mul", gate, projected(up_B, up_scales, up_bias)), total


@operator("MatMulNBitsQkv")
def matmul_nbits_qkv(
    build: ContribBuilder,
    A: Value,
    skip: Value | None,
    norm_scale: Value,
    q_B: Value,
    q_scales: Value,
    q_bias: Value | None,
    k_B: Value,
    k_scales: Value,
    k_bias: Value | None,
    v_B: Value,
    v_scales: Value,
    v_bias: Value | None,
    *,
    K: int,
    Nq: int,
    Nkv: int,
    block_size: int,
    bits: int = 4,
    accuracy_level: int = 0,
    epsilon: float = 1e-6,
) -> Outputs:
    rows, total = _normalized(build, A, skip, norm_scale, epsilon)
    found = [
        product(
            build, rows, b, scales, None, None, bias, K=K, N=n, block_size=block_size, bits=bits
        )
        for b, scales, bias, n in (
            (q_B, q_scales, q_bias, Nq),
            (k_B, k_scales, k_bias, Nkv),
            (v_B, v_scales, v_bias, Nkv),
        )
    ]
    return *found, total


def _normalized(
    build: ContribBuilder, x: Value, skip: Value | None, scale: Value | None, epsilon: float
) -> tuple[Value, Value | None]:
    """RMSNormalization, if there is a scale, of the sum with a residual; and that sum."""
    if scale is None:
        if skip is not None:
            raise build.invalid("input 'skip' is there without 'norm_scale'")
        return x, None
    total = None if skip is None else build.op("Add", x, skip)
    y = build.op("RMSNormalization", x if total is None else total, scale, axis=-1, epsilon=epsilon)
    return y, total


@operator("MatMulNBitsQLoRA")
def matmul_nbits_qlora(
    build: ContribBuilder,
    X: Value,
    W: Value,
    scales: Value,
    lora_A: Value,
    lora_A_scales: Value,
    lora_B: Value,
    lora_B_scales: Value,
    *,
    K: int,
    N: int,
    block_size: int = 32,
    bits: int = 4,
    lora_block_size: int = 32,
    lora_bits: int = 8,
    accuracy_level: int = 0,
) -> Outputs:
    """A product, and two behind each other that adapt it; an adapter without weights is none."""
    base = product(build, X, W, scales, K=K, N=N, block_size=block_size, bits=bits)
    down, up = build.typed(lora_A).static_shape, build.typed(lora_B).static_shape
    rank = build.known_dim(lora_A_scales, 0)
    if down is None or up is None or rank is None:
        raise build.not_supported("an adapter whose sizes are not known")
    if 0 in up:
        return base
    how = {"block_size": lora_block_size, "bits": lora_bits}
    if 0 in down:
        front = build.op("Shape", X, end=-1)
        shape = build.op("Concat", front, build.ints(rank), axis=0)
        lower = build.op("Expand", build.like(0.0, build.typed(X)), shape)
    else:
        lower = product(build, X, lora_A, lora_A_scales, K=K, N=rank, **how)
    return build.op("Add", base, product(build, lower, lora_B, lora_B_scales, K=rank, N=N, **how))
