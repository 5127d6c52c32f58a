# SPDX-License-Identifier: Apache-2.0
"""TfIdfVectorizer of numbers; strings stay on the CPU."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor

_BLOCK = 128
_MODES = {"TF": 0, "IDF": 1, "TFIDF": 2}


def _accepts(node: Node) -> str:
    if node.attributes.get("pool_strings"):
        return "strings stay on the CPU"
    return "" if node.attributes.get("mode", "TF") in _MODES else "the mode is not known"


def _grams(call: Call) -> dict[tuple[int, ...], int]:
    """The element of the result for each n-gram that counts."""
    pool, indexes = (list(call.attribute(n) or ()) for n in ("pool_int64s", "ngram_indexes"))
    starts = [*(call.attribute("ngram_counts") or ()), len(pool)]
    shortest, longest = (int(call.attribute(f"{n}_gram_length", 1)) for n in ("min", "max"))
    numbers = iter(indexes)
    grams = {}
    for length, (begin, end) in enumerate(pairwise(starts), 1):
        if not 0 <= begin <= end <= len(pool) or (end - begin) % length:
            raise call.error(f"ngram_counts does not cut the pool of {len(pool)} tokens")
        for at in range(begin, end, length):
            index = next(numbers, -1)
            if index < 0:
                raise call.error("ngram_indexes has no index for an n-gram")
            if shortest <= length <= longest:
                grams[tuple(pool[at : at + length])] = index
    return grams


def _tables(call: Call) -> tuple[Tensor, ...]:
    """The n-grams one after the other, where each begins, and which those of each element are."""
    size = max(call.attribute("ngram_indexes") or [-1]) + 1
    grams = sorted(_grams(call).items(), key=lambda item: item[1])
    pool = np.array([token for gram, _ in grams for token in gram], np.int64)
    begin = np.cumsum([0, *(len(gram) for gram, _ in grams)], dtype=np.int64)
    first = np.searchsorted([index for _, index in grams], np.arange(size + 1)).astype(np.int64)
    arrays = [pool, begin, first]
    weights = call.attribute("weights")
    if weights:
        if len(weights) < size:
            raise call.error(f"weights has {len(weights)} elements, expected {size}")
        arrays.append(np.asarray(weights, np.float32))
    return tuple(map(call.upload, arrays))


@kernel("TfIdfVectorizer", dtypes=(DataType.INT32, DataType.INT64), accepts=_accepts)
def tf_idf_vectorizer(call: Call, x: Tensor) -> Tensor:
    """How often each n-gram occurs, weighted."""
    if x.rank > 2:
        raise call.error(f"input has shape {x.shape}, expected one or two axes")
    skips = int(call.attribute("max_skip_count", 0))
    pool, begin, first, *weights = call.prepared("tables", _tables)
    size = first.size - 1
    rows, columns = x.shape[0] if x.rank == 2 else 1, x.shape[-1] if x.rank else 1
    y = call.empty((rows, size) if x.rank == 2 else (size,), DataType.FLOAT)
    weighting = _MODES[call.attribute("mode", "TF")]
    counting = Struct(struct.pack("<4qi4x", rows, columns, size, skips, weighting))
    grid = min(-(-rows * size // _BLOCK), 1 << 20)
    tables = (pool, begin, first, weights[0] if weights else None)
    call.launch("tf_idf", f"tf_idf_{type_name(x.dtype)}", grid, _BLOCK, x, *tables, y, counting)
    return y
