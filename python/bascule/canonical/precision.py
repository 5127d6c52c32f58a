# SPDX-License-Identifier: Apache-2.0
"""Operators that compute in float32 and round once."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


def wide(build: Builder, x: Value) -> Value:
    """`x` in float32."""
    return build.cast(build.typed(x), DataType.FLOAT)


def narrow(build: Builder, x: Value, like: Value) -> Value:
    """Rounded to the type of `like`."""
    dtype = build.typed(like).dtype
    return build.op("CastLike", x, like) if dtype is None else build.cast(build.typed(x), dtype)
