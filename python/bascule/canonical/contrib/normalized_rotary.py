# SPDX-License-Identifier: Apache-2.0
"""A root mean square normalization and the rotary position embedding that follows it."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.rotary_embedding import counted_from, rotate
from bascule.canonical.precision import wide
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_SWAPPED = [0, 2, 1, 3]
"""Tokens and heads of four axes."""


@operator("RMSNormRotary")
def rms_norm_rotary(
    build: ContribBuilder,
    X: Value,
    scale: Value,
    position_ids: Value,
    cosine: Value,
    sine: Value,
    prefill_numerics: Value | None,
    *,
    rotary_embedding_dim: int,
    epsilon: float = 1e-6,
    flatten_batch: int = 0,
    input_start: int = 0,
    input_width: int = 0,
    output_fp16: int = 0,
    use_fp32_arithmetic: int = 1,
) -> Outputs:
    """In float32, but what is rotated is of bfloat16 where nothing else of the node is wider.

    Whether the rotation is rounded at each step is not told apart: it is not.
    """
    if build.rank_of(X, 4) != 4:
        raise build.invalid(f"input 'X' has rank {X.rank}, expected 4")
    if rotary_embedding_dim < 2 or rotary_embedding_dim % 2:
        raise build.invalid(
            f"attribute 'rotary_embedding_dim' is {rotary_embedding_dim}, expected a positive "
            "even number"
        )
    x = X
    if input_start or input_width:
        bounds = input_start, input_start + input_width
        row = build.known_dim(X, 3)
        if input_start < 0 or input_width < 1 or (row is not None and bounds[1] > row):
            raise build.invalid(
                f"columns {bounds[0]} to {bounds[1]} are no part of the {row} that 'X' has"
            )
        x = build.op("Slice", X, *(build.ints(each) for each in bounds), build.ints(3))
    ids = position_ids
    if build.rank_of(ids, 2) < 2 or build.typed(ids).shape == (1, 1):
        if flatten_batch and build.known_dim(X, 0) != 1:
            raise build.not_supported("one position for the sequences of a flattened batch")
        ids = counted_from(build, ids, X, 1)
    shape = build.typed(x).shape
    normal = build.op("RMSNormalization", wide(build, x), scale, axis=-1, epsilon=epsilon)
    normal.type = TensorType(DataType.FLOAT, shape or (None,) * 4)
    narrow_types = [build.typed(each).dtype for each in (X, cosine)]
    if not output_fp16 and narrow_types == [DataType.BFLOAT16] * 2:
        normal = wide(build, build.cast(normal, DataType.BFLOAT16))
    caches = (wide(build, cosine), wide(build, sine))
    heads = build.known_dim(X, 2)
    if heads is None:
        flat = build.op("Transpose", normal, perm=_SWAPPED)
    else:
        flat = build.op("Reshape", normal, build.ints(0, 0, -1))
    y = rotate(
        build,
        flat,
        *caches,
        ids,
        heads=heads or 0,
        interleaved=0,
        size=rotary_embedding_dim,
    )
    if heads is None:
        y = build.op("Transpose", y, perm=_SWAPPED)
    if heads is None or flatten_batch:
        columns = build.op("Mul", build.dim(X, 2), build.dim(scale, 0))
        lead = build.ints(1, -1) if flatten_batch else build.op("Shape", X, end=2)
        y = build.op("Reshape", y, build.op("Concat", lead, columns, axis=0), allowzero=1)
    y.type = TensorType(DataType.FLOAT, (None, None, None))
    return build.cast(y, DataType.FLOAT16 if output_fp16 else DataType.BFLOAT16), normal
