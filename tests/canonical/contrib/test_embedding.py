# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, normal, session
from .test_normalization import _layer_norm as layer_norm

IDS = np.array([[1, 2, 0], [3, 4, 1]], np.int32)
SEGMENTS = np.array([[0, 1, 0], [1, 1, 0]], np.int32)
MASK = np.array([[1, 1, 0], [1, 0, 2]], np.int32)
POSITIONS = np.array([[0, 2, 1], [3, 1, 5]], np.int32)


def reference(
    ids: Array,
    segment_ids: Any,
    words: Array,
    positions: Array,
    segments: Any,
    gamma: Array,
    beta: Array,
    mask: Any = None,
    position_ids: Any = None,
) -> list[Any]:
    total = words[ids] + (
        positions[: ids.shape[1]] if position_ids is None else positions[position_ids]
    )
    if segment_ids is not None:
        total = total + segments[segment_ids]
    count = np.zeros(len(ids), np.int32) if mask is None else (mask == 1).sum(1)
    return [layer_norm(total, gamma, beta, 1e-4)[0], count.astype(np.int32), total]


@pytest.mark.parametrize("positions", [None, POSITIONS, POSITIONS[:1]])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("segments", [False, True])
def test_embed_layer_normalization(segments: bool, mask: bool, positions: Array | None) -> None:
    inputs = [
        IDS,
        SEGMENTS if segments else None,
        normal(5, 8),
        normal(6, 8, seed=1),
        normal(2, 8, seed=2) if segments else None,
        normal(8, seed=3),
        normal(8, seed=4),
        MASK if mask else None,
        positions,
    ]
    attributes = {"epsilon": 1e-4}
    check("EmbedLayerNormalization", reference, inputs, attributes, constants=[2, 3, 4, 5, 6])


def test_embed_layer_normalization_of_unknown_ranks() -> None:
    inputs = [IDS, None, normal(5, 8), normal(6, 8), None, normal(8), normal(8), MASK]
    check("EmbedLayerNormalization", reference, inputs, {"epsilon": 1e-4}, shapes=["unknown"])


def test_segments_without_embedding_are_refused() -> None:
    inputs = [IDS, SEGMENTS, normal(5, 8), normal(6, 8), None, normal(8), normal(8)]
    with pytest.raises(InvalidGraph, match="'segment_ids' needs input 'segment_embedding'"):
        session(model_of("EmbedLayerNormalization", inputs, outputs=2))


def test_torch_embedding() -> None:
    inputs = [normal(5, 8), np.array([[1, 2], [4, 0]]), np.array(1), np.array(True)]
    check("TorchEmbedding", lambda w, i, *_: w[i], inputs)
