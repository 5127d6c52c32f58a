# SPDX-License-Identifier: Apache-2.0
"""What an Attention node computes: the sizes of its inputs, where their elements are, options."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.tensor import Tensor

_MOST = 2**29
"""Keys, queries and heads, so that places of them, and windows, fit 32 bits."""

MASK_NONE, MASK_BOOLEAN, MASK_NARROW, MASK_WIDE = range(4)
"""How kernels read the mask: as bool, as the type of Q, as the type that sums are taken in."""


@dataclass(frozen=True, slots=True)
class Strides:
    """How far apart batch items, heads and rows are, in elements."""

    batch: int
    head: int
    row: int

    def values(self) -> tuple[int, int, int]:
        return self.batch, self.head, self.row


def strides_of(rank: int, heads: int, rows: int, size: int) -> Strides:
    """Of ``[batch, heads, rows, size]``, or of ``[batch, rows, heads * size]``."""
    if rank == 4:
        return Strides(heads * rows * size, rows * size, size)
    return Strides(heads * rows * size, size, heads * size)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of an attention."""

    batch: int
    q_heads: int
    kv_heads: int
    queries: int
    new_keys: int
    past: int
    size: int
    v_size: int

    @property
    def keys(self) -> int:
        return self.past + self.new_keys

    @property
    def group(self) -> int:
        """How many query heads share a key head."""
        return self.q_heads // self.kv_heads

    @property
    def rows(self) -> int:
        """How many rows of queries there are in all."""
        return self.batch * self.q_heads * self.queries


def sizes_of(call: Call, q: Tensor, k: Tensor, v: Tensor, past: Tensor | None) -> Sizes:
    """The sizes; an error where shapes do not fit each other."""
    heads = [call.attribute("q_num_heads", 0), call.attribute("kv_num_heads", 0)]
    takes_cache = call.node.domain != "" and q.rank == 3 and k.rank == 4
    if q.rank not in (3, 4) or k.rank != v.rank or (q.rank != k.rank and not takes_cache):
        shapes = f"{q.shape}, {k.shape} and {v.shape}"
        raise call.error(f"Q, K and V have shapes {shapes}, expected all of 3 or all of 4 axes")
    if (q.rank == 3 and not _divides(heads[0], q.shape[2])) or (
        k.rank == 3 and not _divides(heads[1], v.shape[2])
    ):
        raise call.error(
            "Q, K and V of three axes need attributes 'q_num_heads' and 'kv_num_heads' that "
            f"divide their last axes; got {heads[0]} and {heads[1]}"
        )
    q_heads = q.shape[1] if q.rank == 4 else heads[0]
    kv_heads = k.shape[1] if k.rank == 4 else heads[1]
    if kv_heads < 1 or q_heads % kv_heads:
        raise call.error(
            f"the number of query heads ({q_heads}) is not a multiple of the number of key heads "
            f"({kv_heads})"
        )
    size = q.shape[3] if q.rank == 4 else q.shape[2] // q_heads
    v_size = v.shape[3] if v.rank == 4 else v.shape[2] // kv_heads
    batch, new_keys = q.shape[0], k.shape[-2]
    for name, x, width in (("K", k, size), ("V", v, v_size)):
        four = (batch, kv_heads, new_keys, width)
        expected = four if k.rank == 4 else (batch, new_keys, kv_heads * width)
        if x.shape != expected:
            raise call.error(f"{name} has shape {x.shape}, expected {expected}")
    before = past.shape[2] if past is not None and past.rank == 4 else 0
    if max(batch * q_heads, q.shape[-2], before + new_keys) > _MOST:
        raise call.error(
            f"{batch * q_heads} heads of {q.shape[-2]} queries and {before + new_keys} keys are "
            f"too many, of which {_MOST} each can be"
        )
    return Sizes(batch, q_heads, kv_heads, q.shape[-2], new_keys, before, size, v_size)


def _divides(heads: int, size: int) -> bool:
    return heads >= 1 and size % heads == 0


def check_inputs(
    call: Call,
    sizes: Sizes,
    mask: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    lengths: Tensor | None,
    sinks: Tensor | None,
) -> None:
    """Refuse optional inputs whose shapes do not fit."""
    if (past_key is None) != (past_value is None):
        raise call.error("past_key and past_value are used together or not at all")
    pasts = (("past_key", past_key, sizes.size), ("past_value", past_value, sizes.v_size))
    for name, past, size in pasts:
        expected = (sizes.batch, sizes.kv_heads, sizes.past, size)
        if past is not None and past.shape != expected:
            raise call.error(f"{name} has shape {past.shape}, expected {expected}")
    if lengths is not None and lengths.size != sizes.batch:
        raise call.error(f"nonpad_kv_seqlen has {lengths.size} elements, expected {sizes.batch}")
    if sinks is not None and sinks.shape != (sizes.q_heads,):
        raise call.error(f"the sink has shape {sinks.shape}, expected {(sizes.q_heads,)}")
    limits = (sizes.batch, sizes.q_heads, sizes.queries)
    if mask is not None and not (
        1 <= mask.rank <= 4
        and mask.shape[-1] <= sizes.keys
        and all(dim in (1, limit) for dim, limit in zip(mask.shape[-2::-1], limits[::-1]))
    ):
        raise call.error(
            f"attn_mask has shape {mask.shape}, which does not broadcast to {(*limits, sizes.keys)}"
        )


@dataclass(frozen=True, slots=True)
class Case:
    """An attention as the kernels take it; `k` and `v` have the past ones in front."""

    sizes: Sizes
    q: Tensor
    k: Tensor
    v: Tensor
    y: Tensor
    mask: Tensor | None
    lengths: Tensor | None
    sinks: Tensor | None
    q_strides: Strides
    k_strides: Strides
    v_strides: Strides
    y_strides: Strides
    has_past: bool
    causal: bool
    left: int
    right: int
    scale: float
    cap: float

    @property
    def dtype(self) -> DataType:
        return self.q.dtype

    @property
    def mask_kind(self) -> int:
        if self.mask is None:
            return MASK_NONE
        if self.mask.dtype is DataType.BOOL:
            return MASK_BOOLEAN
        return MASK_NARROW if self.mask.dtype is self.dtype else MASK_WIDE

    @property
    def mask_strides(self) -> Strides:
        """0 along axes that the mask does not have or broadcasts."""
        shape = () if self.mask is None else self.mask.shape
        found = [0, 0, 0]
        for from_end in range(2, len(shape) + 1):
            if shape[-from_end] != 1:
                found[4 - from_end] = math.prod(shape[len(shape) - from_end + 1 :])
        return Strides(*found)

    def reads_vectors(self) -> bool:
        """Whether every row begins and ends at a multiple of 16 bytes."""
        unit = 16 // self.q.itemsize
        strides = (self.q_strides, self.k_strides, self.v_strides, self.y_strides)
        steps = [step for each in strides for step in each.values()]
        widths = (self.sizes.size, self.sizes.v_size)
        addresses = (each.address for each in (self.q, self.k, self.v, self.y))
        return not any(n % unit for n in (*steps, *widths)) and not any(a % 16 for a in addresses)

    def packed(self) -> Struct:
        """``struct Attention`` of attention.cuh."""
        s = self.sizes
        strides = (
            *self.q_strides.values(),
            *self.k_strides.values(),
            *self.v_strides.values(),
            *self.y_strides.values(),
            *self.mask_strides.values(),
        )
        numbers = (
            *(s.batch, s.q_heads, s.kv_heads, s.queries, s.keys, s.past),
            s.keys if self.mask is None else self.mask.shape[-1],
            *(s.size, s.v_size),
            *(min(window, _MOST) if window >= 0 else -1 for window in (self.left, self.right)),
            *(int(self.causal), int(self.has_past), self.mask_kind),
        )
        return Struct(struct.pack("<15q2d14i", *strides, self.scale, self.cap, *numbers))


def case_of(
    call: Call,
    sizes: Sizes,
    operands: tuple[Tensor, Tensor, Tensor, Tensor],
    mask: Tensor | None,
    lengths: Tensor | None,
    sinks: Tensor | None,
    has_past: bool,
) -> Case:
    """A case of `operands` Q, K, V and Y with the options of the node."""
    q, k, v, y = operands
    s, scale = sizes, call.attribute("scale")
    scale = 1 / math.sqrt(max(s.size, 1)) if scale is None else float(np.float32(scale))
    return Case(
        *(s, q, k, v, y, mask, lengths, sinks),
        q_strides=strides_of(q.rank, s.q_heads, s.queries, s.size),
        k_strides=strides_of(k.rank, s.kv_heads, s.keys, s.size),
        v_strides=strides_of(v.rank, s.kv_heads, s.keys, s.v_size),
        y_strides=strides_of(y.rank, s.q_heads, s.queries, s.v_size),
        has_past=has_past,
        causal=bool(call.attribute("is_causal", 0)),
        left=call.attribute("left_window_size", -1),
        right=call.attribute("right_window_size", -1),
        scale=scale,
        cap=float(np.float32(call.attribute("softcap", 0.0))),
    )
