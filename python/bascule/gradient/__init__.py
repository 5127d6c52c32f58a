# SPDX-License-Identifier: Apache-2.0
"""Reverse-mode differentiation of graphs.

`differentiate` adds to a graph the nodes that compute gradients, in standard operators. One small
rule an operator says how, one file a family; see `registry`.
"""

from __future__ import annotations

from bascule.gradient import (  # noqa: F401  (importing a family registers its rules)
    activation,
    arithmetic,
    convolution,
    dropout,
    einsum,
    elementwise,
    indexing,
    loss,
    matmul,
    movement,
    normalization,
    pooling,
    reduction,
    softmax,
)
from bascule.gradient.node import bind_gradients, expand_gradients, request_gradient
from bascule.gradient.reverse import differentiate

__all__ = ["bind_gradients", "differentiate", "expand_gradients", "request_gradient"]
