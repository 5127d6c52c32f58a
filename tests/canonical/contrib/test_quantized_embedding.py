# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, session
from .test_embedding import IDS, MASK, SEGMENTS
from .test_normalization import _layer_norm as layer_norm
from .test_quantized_qlinear import BYTES, random_bytes, scale

SHAPES = [(5, 8), (6, 8), (2, 8), (8,), (8,)]
"""Of the words, the positions, the segments, gamma and beta."""


def inputs(dtype: type, segments: bool, mask: bool) -> list[Array | None]:
    tables = [random_bytes(dtype, *shape, seed=i) for i, shape in enumerate(SHAPES)]
    scales = [scale(0.01 * (i + 1)) for i in range(5)]
    zeros = [np.array(3 * i + 1, dtype) for i in range(5)]
    groups: list[list[Any]] = [tables, scales, zeros]
    if not segments:
        for group in groups:
            group[2] = None
    mask_input = MASK if mask else None
    return [IDS, SEGMENTS if segments else None, *tables, mask_input, *scales, *zeros]


def reference(ids: Array, segment_ids: Any, *others: Any) -> list[Any]:
    tables, mask, scales, zeros = others[:5], others[5], others[6:11], others[11:]
    words, positions, segments, gamma, beta = (
        None if table is None else (table.astype(np.float64) - zero) * np.float64(factor)
        for table, factor, zero in zip(tables, scales, zeros)
    )
    total = words[ids] + positions[: ids.shape[1]]
    if segment_ids is not None:
        total = total + segments[segment_ids]
    count = np.zeros(len(ids), np.int32) if mask is None else (mask == 1).sum(1)
    return [layer_norm(total, gamma, beta, 1e-4)[0], count.astype(np.int32)]


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("segments", [False, True])
def test_embed_layer_normalization(segments: bool, mask: bool, dtype: type) -> None:
    check(
        "QEmbedLayerNormalization",
        reference,
        inputs(dtype, segments, mask),
        {"epsilon": 1e-4},
        constants=[2, 3, 4, 5, 6, *range(8, 18)],
        dtypes=[np.float32],
    )


def test_tables_that_are_fed() -> None:
    given = inputs(np.uint8, True, True)
    check(
        "QEmbedLayerNormalization",
        reference,
        given,
        {"epsilon": 1e-4},
        dtypes=[np.float32],
        shapes=["static"],
    )


def test_segments_without_scale_are_refused() -> None:
    given = inputs(np.uint8, True, False)
    given[10] = None
    with pytest.raises(InvalidGraph, match="needs a segment embedding and its scale"):
        session(model_of("QEmbedLayerNormalization", given, outputs=2))
