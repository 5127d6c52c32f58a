# SPDX-License-Identifier: Apache-2.0
"""Hashes of tensors, read piece by piece; of a mapped file no piece stays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bascule.ir.constant import Constant
from bascule.ir.graph import SparseConstant
from bascule.ir.pages import give_back
from bascule.native import usable_cpus
from bascule.tools.digest.fields import hash_fields

PIECE = 1 << 20
"""Bytes that are hashed at a time, by one thread. Part of the algorithm."""


class TensorHasher:
    """Hashes tensors, each once, on all CPUs. A context manager, as its threads have to end."""

    def __init__(self, progress: Callable[[int], None] | None = None) -> None:
        self.count = 0
        self.nbytes = 0
        self._progress = progress
        self._known: dict[int, tuple[Constant, bytes]] = {}
        self._threads = ThreadPoolExecutor(usable_cpus())

    def __enter__(self) -> TensorHasher:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def hash(self, tensor: Constant) -> bytes:
        """Element type, shape and elements."""
        known = self._known.get(id(tensor))
        if known is None:
            self.count += 1
            self.nbytes += tensor.nbytes
            elements = self._strings(tensor) if tensor.strings is not None else self._raw(tensor)
            found = hash_fields(
                "tensor", int(tensor.dtype), len(tensor.shape), *tensor.shape, *elements
            )
            # The tensor is kept, or another could get its id.
            known = self._known[id(tensor)] = (tensor, found)
        return known[1]

    def hash_sparse(self, tensor: SparseConstant) -> bytes:
        """Shape, values and indices of a sparse tensor."""
        parts = self.hash(tensor.values), self.hash(tensor.indices)
        return hash_fields("sparse tensor", len(tensor.shape), *tensor.shape, *parts)

    def _strings(self, tensor: Constant) -> list[bytes]:
        assert tensor.strings is not None
        self._report(tensor.nbytes)
        return [text.encode("utf-8", "surrogateescape") for text in tensor.strings.flat]

    def _raw(self, tensor: Constant) -> list[bytes]:
        """The hash of each piece of the packed elements."""
        assert tensor.raw is not None
        data = tensor.raw.cast("B") if tensor.raw.format != "B" else tensor.raw
        spare = 8 * len(data) - tensor.size * tensor.dtype.bits
        pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
        if spare:  # the bits behind the last element may be anything
            *rest, last = pieces[-1].tobytes()
            pieces[-1] = memoryview(bytes([*rest, last & (0xFF >> spare)]))
        if len(pieces) == 1:
            return [self._piece(pieces[0])]
        return list(self._threads.map(self._piece, pieces))

    def _piece(self, piece: memoryview) -> bytes:
        found = hashlib.sha256(piece).digest()
        give_back(piece)
        self._report(len(piece))
        return found

    def _report(self, nbytes: int) -> None:
        if self._progress is not None:
            self._progress(nbytes)
