# SPDX-License-Identifier: Apache-2.0
"""RotaryEmbedding."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 128


@dataclass(frozen=True, slots=True)
class _Form:
    """x is ``[batch, length, heads * size]`` if `flat`, else ``[batch, heads, length, size]``."""

    flat: bool
    batch: int
    heads: int
    length: int
    size: int
    half: int


def _accepts(node: Node) -> str:
    dtypes = {value.dtype for value in node.inputs[:3] if value is not None}
    return "" if len(dtypes) == 1 else "the caches are of another type than the input"


@kernel("RotaryEmbedding", dtypes=FLOATS, accepts=_accepts)
def rotary_embedding(
    call: Call, x: Tensor, cosine: Tensor, sine: Tensor, ids: Tensor | None = None
) -> Tensor:
    form = _form(call, x)
    _check(call, form, cosine, sine, ids)
    y = call.like(x)
    unit = 16 // x.itemsize
    widths = (form.half, form.size)
    addresses = (x.address, cosine.address, sine.address, y.address)
    vectors = not any(n % unit for n in widths) and not any(a % 16 for a in addresses)
    per_thread = unit if vectors else 1
    rows = form.batch * form.heads * form.length
    if rows >= 1 << 32 or max(form.heads, form.length, cosine.shape[0]) >= 1 << 31:
        raise call.error(f"an input of shape {x.shape} has too many rows")
    count = rows * (form.size - form.half) // per_thread
    packed = struct.pack(
        "<q8iq",
        rows,
        *(form.flat, form.heads, form.length, form.size, form.half),
        call.attribute("interleaved", 0) != 0,
        *(1 if ids is None else ids.shape[0], cosine.shape[0], cosine.shape[0]),
    )
    name = f"rotate_{'vectors_' if vectors else ''}{type_name(x.dtype)}"
    grid = min(-(-count // _THREADS), 2**20)
    call.launch("rotary_embedding", name, grid, _THREADS, x, cosine, sine, ids, y, Struct(packed))
    return y


def _form(call: Call, x: Tensor) -> _Form:
    heads = call.attribute("num_heads", 0)
    if x.rank == 3:
        if heads < 1 or x.shape[2] % heads:
            raise call.error(
                "an input of three axes needs attribute 'num_heads' that divides its last axis; "
                f"got {heads} and shape {x.shape}"
            )
        batch, length, size = x.shape[0], x.shape[1], x.shape[2] // heads
    elif x.rank == 4:
        batch, heads, length, size = x.shape
    else:
        raise call.error(f"the input has shape {x.shape}, expected 3 or 4 axes")
    rotated = call.attribute("rotary_embedding_dim", 0) or size
    if not 0 <= rotated <= size or rotated % 2:
        raise call.error(
            f"rotated are {rotated} of {size} elements of a head, expected an even number of them"
        )
    return _Form(x.rank == 3, batch, heads, length, size, rotated // 2)


def _check(call: Call, form: _Form, cosine: Tensor, sine: Tensor, ids: Tensor | None) -> None:
    cache = cosine.shape
    if sine.shape != cache:
        raise call.error(f"sin_cache has shape {sine.shape}, expected that of cos_cache, {cache}")
    if ids is not None:
        fits, expected = len(cache) == 2, f"(positions, {form.half})"
    else:
        fits = len(cache) == 3 and cache[1] == form.length and cache[0] in (1, form.batch)
        expected = f"{(form.batch, form.length, form.half)}"
    if not fits or cache[-1] != form.half:
        raise call.error(f"cos_cache has shape {cache}, expected {expected}")
    rows = [(items, form.length) for items in (1, form.batch)]
    if ids is not None and ids.shape not in rows:
        raise call.error(f"position_ids has shape {ids.shape}, expected {rows[1]}")
