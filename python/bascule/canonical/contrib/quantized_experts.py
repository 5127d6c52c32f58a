# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts with weights of 2, 4 or 8 bits, which stay packed until an expert is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.experts import Activation, Layer, Router, mix
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.packed_weights import unpacked
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@dataclass
class _PackedLayer(Layer):
    """Weights ``[experts, columns, rows * bits / 8]``, the first in the lowest bits.

    A scale and a zero point are for a column, or for a block of one.
    """

    scales: Value
    zeros: Value | None
    bits: int
    block_size: int

    def of_expert(self, build: Builder, expert: Value, x: Value) -> Value:
        def own(values: Value) -> Value:
            return build.op("Gather", values, expert, axis=0)

        numbers = self._apart(build, own(self.weights))
        scales = build.op("Cast", own(self.scales), to=int(DataType.FLOAT))
        if self.zeros is not None:
            count = build.op("Shape", scales, start=-1)
            zeros = self._apart(build, own(self.zeros))
            zeros = build.op("Slice", zeros, build.ints(0), count, build.ints(-1))
        else:
            middle = build.constant(np.array(1 << (self.bits - 1), np.uint8))
            zeros = build.op("Expand", middle, build.op("Shape", scales))
        along = {"axis": 1, "block_size": self.block_size} if self.block_size else {"axis": 0}
        return build.op(
            "CastLike", build.op("DequantizeLinear", numbers, scales, zeros, **along), x
        )

    def _apart(self, build: Builder, packed: Value) -> Value:
        return packed if self.bits == 8 else unpacked(build, packed, self.bits)


@operator("QMoE")
def quantized_mixture_of_experts(
    build: ContribBuilder,
    input: Value,
    router_probs: Value,
    fc1_experts_weights: Value,
    fc1_scales: Value | None,
    fc1_experts_bias: Value | None,
    fc2_experts_weights: Value,
    fc2_scales: Value | None,
    fc2_experts_bias: Value | None,
    fc3_experts_weights: Value | None,
    fc3_scales: Value | None,
    fc3_experts_bias: Value | None,
    fc1_zero_points: Value | None,
    fc2_zero_points: Value | None,
    fc3_zero_points: Value | None,
    router_weights: Value | None,
    fc1_global_scale: Value | None,
    fc2_global_scale: Value | None,
    fc1_act_scale: Value | None,
    fc2_act_scale: Value | None,
    fc1_act_block_scale: Value | None,
    fc2_act_block_scale: Value | None,
    *,
    accuracy_level: int = 0,
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    activation_type: str = "relu",
    block_size: int = 0,
    expert_weight_bits: int = 4,
    fc1_expert_weight_bits: int | None = None,
    fc2_expert_weight_bits: int | None = None,
    fc3_expert_weight_bits: int | None = None,
    k: int = 1,
    normalize_routing_weights: int = 0,
    quant_type: str = "int",
    swiglu_fusion: int = 0,
    swiglu_limit: float | None = None,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
    weights_prepacked: int | None = None,
) -> Outputs:
    if quant_type != "int":
        raise build.not_supported(f"attribute 'quant_type' of '{quant_type}'")
    if (weights_prepacked or 0) > 0:
        raise build.not_supported("weights in the layout of another provider")
    if block_size < 0:
        raise build.invalid(f"attribute 'block_size' is {block_size}")

    def layer(
        weights: Value,
        scales: Value | None,
        bias: Value | None,
        zeros: Value | None,
        bits: int | None,
    ) -> _PackedLayer:
        bits = expert_weight_bits if bits is None else bits
        if bits not in (2, 4, 8):
            raise build.not_supported(f"weights of {bits} bits")
        if scales is None:
            raise build.invalid("the scales of a layer are missing")
        return _PackedLayer(weights, bias, scales, zeros, bits, block_size)

    gate = None
    if fc3_experts_weights is not None:
        gate = layer(
            fc3_experts_weights,
            fc3_scales,
            fc3_experts_bias,
            fc3_zero_points,
            fc3_expert_weight_bits,
        )
    first = layer(
        fc1_experts_weights, fc1_scales, fc1_experts_bias, fc1_zero_points, fc1_expert_weight_bits
    )
    last = layer(
        fc2_experts_weights, fc2_scales, fc2_experts_bias, fc2_zero_points, fc2_expert_weight_bits
    )
    activation = Activation(
        activation_type,
        activation_alpha,
        activation_beta,
        swiglu_limit,
        swiglu_fusion,
        bool(swiglu_limit_after_activation),
    )
    # The shares of the chosen experts always make up 1; only given weights may be left as they are.
    normalize = router_weights is None or bool(normalize_routing_weights)
    router = Router(router_probs, k, normalize, bool(use_sparse_mixer), router_weights)
    return mix(build, input, router, (first, gate), last, activation)
