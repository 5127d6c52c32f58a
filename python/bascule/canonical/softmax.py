# SPDX-License-Identifier: Apache-2.0
"""Softmax, LogSoftmax and Hardmax, which used to work on a matrix."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node, Value


@rewrite("Softmax", "LogSoftmax", "Hardmax", until=12, types=True)
def coerced_to_matrix(node: Node, build: Builder) -> None:
    """All axes from `axis` on were taken together."""
    x = node.inputs[0]
    assert x is not None
    axis = node.attributes.get("axis", 1)
    single = _single_axis(x, axis)
    if single is not None:
        node.attributes["axis"] = single
        return
    matrix = build.op("Flatten", x, axis=axis)
    rows = build.op(node.op_type, matrix, axis=-1)
    build.become("Reshape", rows, build.shape(x), allowzero=1)


def _single_axis(x: Value, axis: int) -> int | None:
    """The one axis that the old form works along, if there is only one of more than one element."""
    if x.shape is None:
        return -1 if axis == -1 else None
    rank = len(x.shape)
    start = axis + rank if axis < 0 else axis
    if not 0 <= start < rank:
        return None
    wide = [i for i in range(start, rank) if x.shape[i] != 1]
    if len(wide) > 1:
        return None
    return wide[0] if wide and wide[0] != rank - 1 else -1
