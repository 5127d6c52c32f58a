# SPDX-License-Identifier: Apache-2.0
"""The standard's Attention, or the fused one where the standard's cannot say it."""

from __future__ import annotations

from dataclasses import dataclass

from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.graph import Value
from bascule.ir.types import TensorType


@dataclass
class Heads:
    """How many heads the last axes of query and of key and value hold."""

    query: int
    key: int


@dataclass
class Attended:
    """What Attention gives; the last three only if they were asked for."""

    y: Value
    present_key: Value | None = None
    present_value: Value | None = None
    scores: Value | None = None


def attend(
    build: ContribBuilder,
    query: Value,
    key: Value,
    value: Value,
    heads: Heads,
    *,
    mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    lengths: Value | None = None,
    sink: Value | None = None,
    cached: bool = False,
    presents: bool = False,
    causal: bool = False,
    left_window: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    scores_mode: int | None = None,
) -> Attended:
    """`query` has three axes; so have key and value, or four if they are `cached`.

    `lengths` are those of the keys, `sink` one more score for each head, `presents` asks for the
    joined keys and values, and `scores_mode` for the scores of a stage.
    """
    inputs = [query, key, value, mask, past_key, past_value, lengths, sink]
    while inputs[-1] is None:
        inputs.pop()
    attributes = {
        "q_num_heads": heads.query,
        "kv_num_heads": None if cached else heads.key,
        "is_causal": 1 if causal else None,
        "left_window_size": left_window if left_window >= 0 else None,
        "scale": scale or None,
        "softcap": softcap or None,
        "qk_matmul_output_mode": scores_mode,
    }
    count = 4 if scores_mode is not None else 3 if presents else 1
    make = build.fused if cached or sink is not None else build.ops
    outputs = make("Attention", *inputs, outputs=count, **attributes)
    dtype, known = build.typed(query).dtype, query.shape
    if dtype is not None:
        outer = known[:2] if known is not None and len(known) == 3 else (None, None)
        outputs[0].type = TensorType(dtype, (*outer, None))
        for each in outputs[1:]:
            each.type = TensorType(dtype, (None, None, None, None))
    return Attended(*outputs)


def heads_apart(build: ContribBuilder, x: Value, heads: int) -> Value:
    """``[batch, rows, heads * size]`` as ``[batch, heads, rows, size]``."""
    rows = build.op("Reshape", x, build.ints(0, 0, heads, -1))
    return build.op("Transpose", rows, perm=[0, 2, 1, 3])


def update_cache(
    build: ContribBuilder, cache: Value, rows: Value, starts: Value, total: Value
) -> Value:
    """``[batch, heads, length, size]`` with each sample's new rows from its start on.

    The cache grows when it is shorter than `total`.
    """
    (present,) = build.fused("UpdateCache", cache, rows, starts, total)
    known = build.typed(cache).shape
    if cache.dtype is not None and known is not None and len(known) == 4:
        present.type = TensorType(cache.dtype, (known[0], known[1], None, known[3]))
    return present
