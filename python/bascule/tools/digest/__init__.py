# SPDX-License-Identifier: Apache-2.0
"""A hash of what a model computes, however the file stores it (docs/digest.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bascule.tools.digest.graph import ModelHasher
from bascule.tools.digest.tensors import TensorHasher

if TYPE_CHECKING:
    from bascule.ir.graph import Model
    from bascule.ir.load import Source

PREFIX = "bascule1:"
"""What a digest begins with; the number is that of the algorithm."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of a model, and what went into it.

    Attributes:
        digest: ``bascule1:`` and 64 hexadecimal digits.
        nodes: of the graph and the graphs nested in it.
        tensors: how many were read.
        tensor_bytes: bytes of their elements, packed as the standard packs them.
        external_files: the files that were read, by their paths from the model's folder.
    """

    digest: str
    nodes: int
    tensors: int
    tensor_bytes: int
    external_files: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.digest


def digest(source: Source, progress: Callable[[int], None] | None = None) -> Digest:
    """The digest of a model; tensors are read in pieces and never held as a whole.

    Args:
        source: the path of an .onnx file, its bytes, a file object or an onnx.ModelProto.
        progress: called with the number of bytes of each piece that was read.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, InvalidArgument, Fail: the model cannot be read.

    Source: docs/digest.md has the algorithm, byte by byte.
    """
    from bascule.ir.load import load_model

    return digest_of(load_model(source), progress)


def digest_of(model: Model, progress: Callable[[int], None] | None = None) -> Digest:
    """The digest of a model as it was loaded."""
    with TensorHasher(progress) as tensors:
        found = ModelHasher(model, tensors).hash()
    return Digest(
        PREFIX + found.hex(),
        sum(1 for _ in model.graph.walk_nodes()),
        tensors.count,
        tensors.nbytes,
        list(model.external_files),
    )
