# SPDX-License-Identifier: Apache-2.0
"""Embeddings whose tables, and the parameters of their normalization, are quantized."""

from __future__ import annotations

from bascule.canonical.contrib.embedding import marked_words
from bascule.canonical.contrib.linear_quantization import dequantize
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value


@operator("QEmbedLayerNormalization")
def quantized_embed_layer_normalization(
    build: ContribBuilder,
    input_ids: Value,
    segment_ids: Value | None,
    word_embedding_quant: Value,
    position_embedding_quant: Value,
    segment_embedding: Value | None,
    gamma_quant: Value,
    beta_quant: Value,
    mask: Value | None,
    word_embedding_scale: Value,
    position_embedding_scale: Value,
    segment_embedding_scale: Value | None,
    gamma_scale: Value,
    beta_scale: Value,
    word_embedding_zero_point: Value,
    position_embedding_zero_point: Value,
    segment_embedding_zero_point: Value | None,
    gamma_zero_point: Value,
    beta_zero_point: Value,
    *,
    epsilon: float = 1e-12,
) -> Outputs:
    """Only the rows that are looked up are dequantized."""
    words = build.op("Gather", word_embedding_quant, input_ids, axis=0)
    length = build.dim(input_ids, 1)
    positions = build.op("Slice", position_embedding_quant, build.ints(0), length, build.ints(0))
    total = build.op(
        "Add",
        dequantize(build, words, word_embedding_scale, word_embedding_zero_point),
        dequantize(build, positions, position_embedding_scale, position_embedding_zero_point),
    )
    if segment_ids is not None:
        if segment_embedding is None or segment_embedding_scale is None:
            raise build.invalid("input 'segment_ids' needs a segment embedding and its scale")
        rows = build.op("Gather", segment_embedding, segment_ids, axis=0)
        segments = dequantize(build, rows, segment_embedding_scale, segment_embedding_zero_point)
        total = build.op("Add", total, segments)
    gamma = dequantize(build, gamma_quant, gamma_scale, gamma_zero_point)
    beta = dequantize(build, beta_quant, beta_scale, beta_zero_point)
    y = build.op("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)
    return y, marked_words(build, mask, input_ids)
