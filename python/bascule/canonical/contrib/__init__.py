# SPDX-License-Identifier: Apache-2.0
"""Operators of domain ``com.microsoft``: what runtimes' own optimizers leave in a model.

They become nodes of the newest standard opset, and a few of the fused operators where the standard
cannot say it. There is one file per family; importing this package registers them all.
"""

from __future__ import annotations

from bascule.canonical.contrib import (  # noqa: F401
    group_query_attention,
    normalization,
    rotary_embedding,
)
