# SPDX-License-Identifier: Apache-2.0
"""Streams of features beside each other: what of them a block reads, and where its result goes.

All is computed in float32 and rounded once. Streams are ``[..., branches, features]``, or, of a
number of branches that is given, ``[..., branches * features]``.
"""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.precision import narrow, wide
from bascule.ir.graph import Value


@operator("HyperConnectionPreMix")
def hyper_connection_pre_mix(
    build: ContribBuilder,
    streams: Value,
    pre_mix: Value,
    *,
    num_branches: int = 0,
    reduction_scale: float = 1.0,
) -> Outputs:
    apart = _Streams(build, streams, num_branches)
    weighed = build.op("Mul", apart.value, apart.weights(pre_mix))
    total = build.op("ReduceSum", weighed, build.ints(1), keepdims=0)
    if reduction_scale != 1:
        total = build.op("Mul", total, build.floats(reduction_scale))
    lead = build.op("Shape", streams, end=-1 if num_branches else -2)
    shape = build.op("Concat", lead, apart.features, axis=0)
    return narrow(build, build.op("Reshape", total, shape, allowzero=1), streams)


@operator("HyperConnectionPostMix")
def hyper_connection_post_mix(
    build: ContribBuilder,
    streams: Value,
    block_output: Value,
    post_mix: Value,
    stream_mix: Value | None,
    *,
    num_branches: int = 0,
) -> Outputs:
    """The streams are mixed by a matrix, if there is one; its rows are those that are read."""
    apart = _Streams(build, streams, num_branches)
    mixed = apart.value
    if stream_mix is not None:
        square = build.op("Concat", apart.count, apart.branches, apart.branches, axis=0)
        matrix = build.op("Reshape", wide(build, stream_mix), square, allowzero=1)
        mixed = build.op("MatMul", build.op("Transpose", matrix, perm=[0, 2, 1]), mixed)
    row = build.op("Concat", apart.count, build.ints(1), apart.features, axis=0)
    block = build.op("Reshape", wide(build, block_output), row, allowzero=1)
    y = build.op("Add", mixed, build.op("Mul", apart.weights(post_mix), block))
    y = build.op("Reshape", y, build.shape(build.typed(streams)), allowzero=1)
    return narrow(build, y, streams)


class _Streams:
    """The streams of each row, ``[rows, branches, features]``."""

    def __init__(self, build: ContribBuilder, streams: Value, num_branches: int) -> None:
        rank, row = build.typed(streams).rank, build.known_dim(streams, -1)
        if num_branches < 0 or (rank is not None and rank < 1 + (num_branches == 0)):
            raise build.invalid(f"input 'streams' of rank {rank} has no branches ({num_branches})")
        self._build = build
        self.features = build.dim(streams, -1)
        if num_branches:
            if row is not None and row % num_branches:
                raise build.invalid(f"rows of {row} are not {num_branches} branches of one size")
            self.branches = build.ints(num_branches)
            self.features = build.op("Div", self.features, self.branches)
        else:
            self.branches = build.op("Shape", streams, start=-2, end=-1)
        lead = build.op("Shape", streams, end=-1 if num_branches else -2)
        self.count = build.op("ReduceProd", lead, keepdims=1)
        shape = build.op("Concat", self.count, self.branches, self.features, axis=0)
        self.value = build.op("Reshape", wide(build, streams), shape, allowzero=1)

    def weights(self, x: Value) -> Value:
        """With a number for each branch of a row, or for each of its features."""
        build = self._build
        shape = build.op("Concat", self.count, self.branches, build.ints(-1), axis=0)
        return build.op("Reshape", wide(build, x), shape)
