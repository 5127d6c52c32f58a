# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .attending import attend, join_heads, split_heads
from .comparison import Array, check, normal

COUNTS = np.array([1, 2, 4], np.int32)
BATCH, ROWS, HEADS, SIZE = 3, 4, 2, 8
HIDDEN = HEADS * SIZE
OFFSETS = np.array([[0, 4, 5, 8], [9, 10, 11, 1], [2, 3, 6, 7]], np.int32)
SUMS = np.array([0, 1, 3, 7], np.int32)
TOKENS = 7


def restored(rows: Array) -> Array:
    y = np.zeros((BATCH * ROWS, rows.shape[1]))
    y[OFFSETS.reshape(-1)[:TOKENS]] = rows
    return y.reshape(BATCH, ROWS, -1)


def attended(q: Array, k: Array, v: Array, bias: Any, scale: float) -> Array:
    hidden = np.where(np.arange(ROWS) < COUNTS[:, None], 0.0, -np.inf)[:, None, None]
    added = hidden if bias is None else hidden + bias
    heads = [split_heads(restored(each), HEADS) for each in (q, k, v)]
    y = join_heads(attend(*heads, added, scale=scale)[0])
    return y.reshape(BATCH * ROWS, -1)[OFFSETS.reshape(-1)[:TOKENS]]


def test_remove_padding() -> None:
    def reference(x: Array, counts: Array) -> list[Array]:
        rows = x.reshape(-1, x.shape[-1])[OFFSETS.reshape(-1)[:TOKENS]]
        return [rows, OFFSETS, SUMS, np.array([4], np.int32)]

    check("RemovePadding", reference, [normal(BATCH, ROWS, 5), COUNTS])


def test_restore_padding() -> None:
    check("RestorePadding", lambda x, offsets: restored(x), [normal(TOKENS, 5), OFFSETS])


@pytest.mark.parametrize("scale", [0.0, 0.2])
@pytest.mark.parametrize("bias", [None, (1, 1), (BATCH, HEADS)])
def test_packed_attention(bias: tuple[int, int] | None, scale: float) -> None:
    def reference(x: Array, w: Array, b: Array, *rest: Any) -> Array:
        parts = np.split(x @ w + b, 3, -1)
        return attended(*parts, rest[2] if len(rest) > 2 else None, scale)

    inputs = [normal(TOKENS, 12), normal(12, 3 * HIDDEN) / np.float32(3), normal(3 * HIDDEN)]
    inputs += [OFFSETS, SUMS]
    if bias is not None:
        inputs.append(normal(*bias, ROWS, ROWS, seed=4))
    check("PackedAttention", reference, inputs, {"num_heads": HEADS, "scale": scale})


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_packed_multi_head_attention(packed: bool, bias: bool) -> None:
    def reference(q: Array, k: Any, v: Any, b: Any, *rest: Any) -> Array:
        if packed:
            q, k, v = (q[:, :, i].reshape(TOKENS, -1) for i in range(3))
        if b is not None:
            q, k, v = (each + part for each, part in zip((q, k, v), np.split(b, 3)))
        return attended(q, k, v, None, 0.0)

    if packed:
        rows: list[Any] = [normal(TOKENS, HEADS, 3, SIZE), None, None]
    else:
        rows = [normal(TOKENS, HIDDEN, seed=i) for i in range(3)]
    inputs = [*rows, normal(3 * HIDDEN, seed=5) if bias else None, OFFSETS, SUMS]
    check("PackedMultiHeadAttention", reference, inputs, {"num_heads": HEADS})
