# SPDX-License-Identifier: Apache-2.0
"""Merge two Casts into one when the first loses nothing.

Before:
    g (float16[2] x) => (int32[2] y) { a = Cast<to = 1>(x) y = Cast<to = 6>(a) }
After:
    g (float16[2] x) => (int32[2] y) { y = Cast<to = 6>(x) }
Keeps:
    g (float[2] x) => (float[2] y) { a = Cast<to = 10>(x) y = Cast<to = 1>(a) }
"""

from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.optimizer.pattern import op, shared, values
from bascule.optimizer.rewrite import Match, rule

(x,) = values("x")
_FIRST = shared(op.Cast(x))

_MANTISSA = {
    DataType.BFLOAT16: 8,
    DataType.FLOAT16: 11,
    DataType.FLOAT: 24,
    DataType.DOUBLE: 53,
}
"""The bits of the integers that a type has exactly."""


@rule(op.Cast(_FIRST))
def merge_casts(match: Match) -> Value | None:
    start, middle = match[x].dtype, match[_FIRST].dtype
    if start is None or middle is None or not is_lossless(start, middle):
        return None
    return match.build.node("Cast", [match[x]], match.root.attributes).output


def is_lossless(start: DataType, end: DataType) -> bool:
    """True when every element of type `start` is one of type `end` too."""
    if start is end:
        return True
    if start is DataType.BOOL:
        return end.is_integer or end in _MANTISSA
    if start.is_integer and end in _MANTISSA:
        return start.bits - _is_signed(start) <= _MANTISSA[end]
    if start.is_integer and end.is_integer:
        if _is_signed(start) == _is_signed(end):
            return start.bits < end.bits
        return _is_signed(end) and start.bits < end.bits
    if start in (DataType.FLOAT16, DataType.BFLOAT16):
        return end in (DataType.FLOAT, DataType.DOUBLE)
    return start is DataType.FLOAT and end is DataType.DOUBLE


def _is_signed(dtype: DataType) -> bool:
    return dtype.name.startswith("INT")
