# SPDX-License-Identifier: Apache-2.0
"""Operators of domain ``com.microsoft``: what runtimes' own optimizers and quantizers leave.

They become nodes of the newest standard opset, and a few of the fused operators where the standard
cannot say it. They have one version and no schema here: each rewrite checks what it relies on.
There is one file per family; importing this package registers them all.
"""

from __future__ import annotations

from bascule.canonical.contrib import (  # noqa: F401
    activations,
    aggressive_decoding,
    attention,
    attention_lstm,
    beam_search,
    blocked_channels,
    boxes,
    causal_convolution,
    complex,
    convolutions,
    distances,
    embedding,
    expert_router,
    experts,
    finite,
    gated_delta_net,
    gated_normalization,
    greedy_search,
    group_query_attention,
    hashing,
    hyper_connections,
    inverse,
    linear_attention,
    linear_quantization,
    multi_head_attention,
    ngram_hashing,
    ngrams,
    normalization,
    normalized_rotary,
    packed_projections,
    packed_rows,
    packed_weights,
    padding,
    position_bias,
    products,
    qlinear,
    quantized_attention,
    quantized_embedding,
    quantized_experts,
    quantized_products,
    recurrent,
    rotary_embedding,
    sampling,
    softmax,
    sparse_attention,
    standard,
    time_warping,
    whisper_search,
    word_embedding,
)
