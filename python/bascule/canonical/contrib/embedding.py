# SPDX-License-Identifier: Apache-2.0
"""Embeddings of words, positions and segments, summed and normalized."""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@operator("EmbedLayerNormalization")
def embed_layer_normalization(
    build: ContribBuilder,
    input_ids: Value,
    segment_ids: Value | None,
    word_embedding: Value,
    position_embedding: Value,
    segment_embedding: Value | None,
    gamma: Value,
    beta: Value,
    mask: Value | None,
    position_ids: Value | None,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int | None = None,
) -> Outputs:
    if position_ids is None:
        length = build.dim(input_ids, 1)
        positions = build.op("Slice", position_embedding, build.ints(0), length, build.ints(0))
    else:
        positions = build.op("Gather", position_embedding, position_ids, axis=0)
    total = build.op("Add", build.op("Gather", word_embedding, input_ids, axis=0), positions)
    if segment_ids is not None:
        if segment_embedding is None:
            raise build.invalid("input 'segment_ids' needs input 'segment_embedding'")
        total = build.op("Add", total, build.op("Gather", segment_embedding, segment_ids, axis=0))
    y = build.op("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)
    return y, marked_words(build, mask, input_ids), total


def marked_words(build: ContribBuilder, mask: Value | None, ids: Value) -> Value | None:
    """Output 1, if it is wanted: how many words of each sample the mask marks by 1.

    Without a mask that is 0.
    """
    if not build.wants(1):
        return None
    if mask is None:
        return build.op("Expand", build.constant(np.array(0, dtype=np.int32)), build.dim(ids, 0))
    ones = build.op("Equal", mask, build.like(1, build.typed(mask)))
    marks = build.cast(ones, DataType.INT32)
    return build.op("ReduceSum", marks, build.ints(1), keepdims=0)


@operator("TorchEmbedding")
def torch_embedding(
    build: ContribBuilder,
    weight: Value,
    indices: Value,
    padding_idx: Value | None,
    scale_grad_by_freq: Value | None,
) -> Outputs:
    """Padding and scale matter for gradients only."""
    return build.op("Gather", weight, indices, axis=0)
