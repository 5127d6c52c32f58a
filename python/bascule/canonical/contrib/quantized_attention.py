# SPDX-License-Identifier: Apache-2.0
"""Self-attention whose projections are products of integers."""

from __future__ import annotations

from bascule.canonical.contrib.attention import (
    attend_projected,
    check_projection,
    split_projection,
    stacked_past,
)
from bascule.canonical.contrib.multi_head_attention import Masking
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.quantized_products import scaled, zero_points
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@operator("QAttention")
def quantized_attention(
    build: ContribBuilder,
    input: Value,
    weight: Value,
    bias: Value,
    input_scale: Value,
    weight_scale: Value,
    mask_index: Value | None,
    input_zero_point: Value | None,
    weight_zero_point: Value | None,
    past: Value | None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> Outputs:
    """From the projections on it is Attention, in the type of the bias."""
    if past_present_share_buffer:
        raise build.not_supported("attribute 'past_present_share_buffer'")
    check_projection(build, weight, num_heads)
    zeros = zero_points(build, input_zero_point, weight_zero_point)
    sums = build.op("MatMulInteger", input, weight, *zeros)
    # The sums are beyond the range of float16 more often than not.
    wide = [build.cast(build.typed(x), DataType.FLOAT) for x in (input_scale, weight_scale, bias)]
    real = build.op("Add", scaled(build, sums, build.op("Mul", *wide[:2])), wide[2])
    packed = build.op("CastLike", real, bias)
    return attend_projected(
        build,
        split_projection(build, packed),
        num_heads,
        Masking(mask_index, mask_filter_value, None, bool(unidirectional)),
        stacked_past(build, past, None),
        scale,
        0 if do_rotary else None,
    )
