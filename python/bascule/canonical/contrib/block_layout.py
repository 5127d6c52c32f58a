# SPDX-License-Identifier: Apache-2.0
"""How weights lie in memory whose channels stand in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def filled(weights: Array) -> int:
    """How many of the last rows are zeros."""
    used = np.flatnonzero(weights.reshape(len(weights), -1).any(axis=1))
    return int(len(weights) - 1 - used[-1]) if used.size else len(weights)


def without_blocks(weights: Array, group: int, size: int) -> Array:
    """The weights of a convolution in the standard's order, whole blocks of channels."""
    apart, order = order_of_blocks(weights.shape, group, size)
    plain: Array = weights.reshape(apart).transpose(order).reshape(weights.shape)
    return plain


def order_of_blocks(
    shape: Sequence[int], group: int, size: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that weights in blocks have in memory, and these in the standard's order."""
    outputs, inputs, height, width = shape
    if inputs < size and (group == 1 or inputs == 1):  # one by one, as the images have them
        return (outputs // size, inputs, height, width, size), (0, 4, 1, 2, 3)
    return (outputs // size, inputs // size, height, width, size, size), (0, 5, 1, 4, 2, 3)
