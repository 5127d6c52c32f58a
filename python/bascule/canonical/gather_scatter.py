# SPDX-License-Identifier: Apache-2.0
"""Gather, Scatter and OneHot."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node

_UNSIGNED = (DataType.UINT8, DataType.UINT16, DataType.UINT32, DataType.UINT64)


@rewrite("Scatter", until=11)
def scatter(node: Node, build: Builder) -> None:
    """Only the name changed."""
    build.become("ScatterElements", *node.inputs, **node.attributes)


@rewrite("OneHot", until=10, types=True)
def one_hot(node: Node, build: Builder) -> None:
    """A negative index meant "no position"; now it counts from the end."""
    indices, depth = node.inputs[:2]
    assert indices is not None and depth is not None
    if indices.dtype in _UNSIGNED:
        return
    whole = build.cast(indices, DataType.INT64)
    outside = build.as_scalar(build.cast(depth, DataType.INT64))
    negative = build.op("Less", whole, build.int_scalar(0))
    node.set_input(0, build.op("Where", negative, outside, whole))
