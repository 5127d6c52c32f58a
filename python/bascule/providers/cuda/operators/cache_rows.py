# SPDX-License-Identifier: Apache-2.0
"""CacheRows: what a step of decoding does with its new queries, keys and values."""

from __future__ import annotations

import struct
from typing import Any

from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.operators.movement import grown_cache
from bascule.providers.cuda.operators.shape import integers
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 128
_FLOATING = (0, 1, 2, 3, 4, 7, 8)
"""The inputs that are not integers."""


def _accepts(node: Node) -> str:
    values = [node.input(index) for index in _FLOATING]
    dtypes = {value.dtype for value in values if value is not None}
    return "" if len(dtypes) == 1 else "rows, caches and angles are of different types"


@kernel(
    "CacheRows",
    domain=FUSED_DOMAIN,
    dtypes=FLOATS,
    host=(6,),
    accepts=_accepts,
    updates={1: 3, 2: 4},
    lengths={6: 3},
)
def cache_rows(
    call: Call,
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    starts: Tensor,
    length: Any,
    cosine: Tensor | None = None,
    sine: Tensor | None = None,
    ids: Tensor | None = None,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Queries and keys are turned, keys and values go to their caches."""
    half = _half(call, past_key)
    _check(call, (q, k, v), (past_key, past_value), starts)
    if cosine is not None:
        _check_angles(call, k, half, cosine, sine, ids)
    batch, heads, before, size = past_key.shape
    after = max(before, integers(length)[0])
    caches = [grown_cache(call, cache, after) for cache in (past_key, past_value)]
    y = None if q is None else call.like(q)
    tensors = (q, k, v, cosine, sine, ids, starts, y, *caches)
    unit = 16 // k.itemsize
    addresses = [t.address for t in tensors if t is not None]
    turned = 0 if cosine is None else half
    vectors = not (size % unit or turned % unit or any(a % 16 for a in addresses))
    rows = k.shape[0] * k.shape[1]
    total = sum(x.size for x in (q, k, v) if x is not None)
    numbers = (
        *(batch, k.shape[1], after, 1 if cosine is None else cosine.shape[0]),
        *(0 if q is None else int(call.attribute("num_heads")), heads, size, half),
        *(int(call.attribute("interleaved", 0) != 0), 1 if ids is None else ids.shape[0]),
    )
    name = f"cache_rows_{'vectors_' if vectors else ''}{type_name(k.dtype)}"
    grid = min(-(-total // ((unit if vectors else 1) * _THREADS)), 2**20) if rows else 0
    call.launch(
        "cache_rows", name, grid, _THREADS, *tensors, Struct(struct.pack("<4q6i", *numbers))
    )
    return y, caches[0], caches[1]


def _half(call: Call, cache: Tensor) -> int:
    """The pairs of a head that are turned."""
    if cache.rank != 4:
        raise call.error(f"the cache has shape {cache.shape}, expected 4 axes")
    size = cache.shape[3]
    turned = call.attribute("rotary_embedding_dim", 0) or size
    if not 0 <= turned <= size or (turned % 2 and len(call.node.inputs) > 7):
        raise call.error(
            f"rotated are {turned} of {size} elements of a head, expected an even number of them"
        )
    return int(turned) // 2


def _check(
    call: Call,
    rows: tuple[Tensor | None, Tensor, Tensor],
    caches: tuple[Tensor, Tensor],
    starts: Tensor,
) -> None:
    batch, heads, _, size = caches[0].shape
    q, k, v = rows
    count = k.shape[1] if k.rank == 3 else 0
    if caches[1].shape != caches[0].shape:
        raise call.error(f"the caches have shapes {caches[0].shape} and {caches[1].shape}")
    expected = {"K": (k, heads), "V": (v, heads)}
    if q is not None:
        expected["Q"] = q, int(call.attribute("num_heads", 0))
    for name, (x, count_of_heads) in expected.items():
        shape = (batch, count, count_of_heads * size)
        if x.shape != shape:
            raise call.error(f"{name} has shape {x.shape}, expected {shape}")
    if starts.size != batch:
        raise call.error(f"there are {starts.size} starts for a batch of {batch}")


def _check_angles(
    call: Call, k: Tensor, half: int, cosine: Tensor, sine: Tensor | None, ids: Tensor | None
) -> None:
    if sine is None or ids is None or sine.shape != cosine.shape:
        raise call.error("the angles need two caches of one shape and position_ids")
    if cosine.rank != 2 or cosine.shape[1] != half:
        raise call.error(f"cos_cache has shape {cosine.shape}, expected (positions, {half})")
    if ids.shape not in ((1, k.shape[1]), k.shape[:2]):
        raise call.error(f"position_ids has shape {ids.shape}, expected {k.shape[:2]}")
