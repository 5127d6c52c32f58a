# SPDX-License-Identifier: Apache-2.0
"""Attention in NumPy, as the operators of the domain define it."""

from __future__ import annotations

import numpy as np

from .comparison import Array


def split_heads(x: Array, heads: int) -> Array:
    """``[batch, rows, heads * size]`` as ``[batch, heads, rows, size]``."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def join_heads(x: Array) -> Array:
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def added_mask(
    mask: Array, rows: int, keys: int, past: int = 0, filter_value: float = -1e4
) -> Array:
    """A mask in any form as numbers to add, ``[batch, 1, rows or 1, keys]``."""
    if mask.ndim == 4:
        seen = mask[:, :, past : past + rows, :keys] > 0
    elif mask.ndim == 1:
        raise ValueError("the number of samples is not known")
    else:
        seen = mask[:, None, None] > 0 if mask.ndim == 2 else mask[:, None] > 0
    return np.where(seen, 0.0, filter_value)


def bounds_mask(bounds: Array, batch: int, keys: int) -> Array:
    """The same for a vector of where keys end and, with twice as many, where they begin."""
    steps = np.arange(keys)
    seen = steps < bounds[:batch, None]
    if len(bounds) == 2 * batch:
        seen &= steps >= bounds[batch:, None]
    return np.where(seen, 0.0, -1e4)[:, None, None]


def attend(
    q: Array,
    k: Array,
    v: Array,
    added: Array | float = 0.0,
    causal: bool = False,
    scale: float = 0.0,
    past: int = 0,
) -> tuple[Array, Array]:
    """The result, ``[batch, heads, rows, size]``, and the scores."""
    scores = q @ k.swapaxes(-1, -2) * (scale or 1 / np.sqrt(q.shape[-1])) + added
    if causal:
        rows, keys = scores.shape[-2:]
        later = np.arange(keys) > past + np.arange(rows)[:, None]
        scores = np.where(later, np.finfo(np.float32).min, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v, scores
