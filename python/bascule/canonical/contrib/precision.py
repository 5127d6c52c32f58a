# SPDX-License-Identifier: Apache-2.0
"""Computing in float32, and rounding once."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


def wide(build: ContribBuilder, x: Value) -> Value:
    """`x` in float32."""
    return build.cast(build.typed(x), DataType.FLOAT)


def narrow(build: ContribBuilder, x: Value, like: Value) -> Value:
    """Rounded to the type of `like`."""
    dtype = build.typed(like).dtype
    return build.op("CastLike", x, like) if dtype is None else build.cast(build.typed(x), dtype)
