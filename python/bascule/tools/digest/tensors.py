# SPDX-License-Identifier: Apache-2.0
"""Hashes of tensors, read piece by piece; of a mapped file no piece stays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from bascule.ir.constant import Constant
from bascule.ir.graph import SparseConstant
from bascule.tools.digest.fields import Field, hash_fields
from bascule.tools.pieces import Job, Pieces, bytes_of

PIECE = 1 << 20
"""Bytes that are hashed at a time, by one thread. Part of the algorithm."""


class TensorHasher:
    """Hashes tensors, each once, on all CPUs. A context manager, as its threads have to end."""

    def __init__(self, progress: Callable[[int], None] | None = None) -> None:
        self.count = 0
        self.nbytes = 0
        self._progress = progress
        self._known: dict[int, tuple[Constant, bytes]] = {}
        self._pieces: Pieces[bytes] = Pieces()

    def __enter__(self) -> TensorHasher:
        return self

    def __exit__(self, *error: object) -> None:
        self._pieces.__exit__(*error)

    def hash(self, tensor: Constant) -> bytes:
        """Element type, shape and elements."""
        if id(tensor) not in self._known:
            self.hash_all([tensor])
        return self._known[id(tensor)][1]

    def hash_all(self, tensors: Iterable[Constant]) -> None:
        """Hash tensors that will be asked for, without a pause between one and the next."""
        todo = {id(tensor): tensor for tensor in tensors if id(tensor) not in self._known}
        found = self._pieces.map(job for tensor in todo.values() for job in self._jobs(tensor))
        for tensor in todo.values():
            self.count += 1
            self.nbytes += tensor.nbytes
            if tensor.strings is not None:
                elements = self._strings(tensor)
            else:
                elements = [next(found) for _ in range(0, bytes_of(tensor).nbytes, PIECE)]
            fields: list[Field] = [int(tensor.dtype), len(tensor.shape), *tensor.shape, *elements]
            # The tensor is kept, or another could get its id.
            self._known[id(tensor)] = tensor, hash_fields("tensor", *fields)

    def hash_sparse(self, tensor: SparseConstant) -> bytes:
        """Shape, values and indices of a sparse tensor."""
        parts = self.hash(tensor.values), self.hash(tensor.indices)
        return hash_fields("sparse tensor", len(tensor.shape), *tensor.shape, *parts)

    def _strings(self, tensor: Constant) -> list[bytes]:
        assert tensor.strings is not None
        self._report(tensor.nbytes)
        return [text.encode("utf-8", "surrogateescape") for text in tensor.strings.flat]

    def _jobs(self, tensor: Constant) -> Iterator[Job[bytes]]:
        """The hash of each piece of the packed elements."""
        if tensor.strings is not None:
            return
        data = bytes_of(tensor)
        spare = 8 * len(data) - tensor.size * tensor.dtype.bits
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            if spare and start + PIECE >= len(data):  # the bits behind the last may be anything
                *rest, last = piece.tobytes()
                piece = memoryview(bytes([*rest, last & (0xFF >> spare)]))
            yield self._hash_piece, (piece,)

    def _hash_piece(self, piece: memoryview) -> bytes:
        found = hashlib.sha256(piece).digest()
        self._report(len(piece))
        return found

    def _report(self, nbytes: int) -> None:
        if self._progress is not None:
            self._progress(nbytes)
