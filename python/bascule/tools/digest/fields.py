# SPDX-License-Identifier: Apache-2.0
"""Hashes of fields, types and shapes: what everything else of a digest is built from."""

from __future__ import annotations

import hashlib
from typing import Union

from bascule.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
)

Field = Union[bytes, str, int]


def hash_fields(kind: str, *fields: Field) -> bytes:
    """SHA-256 of `kind` and the fields, each behind its length: no two lists give the same text."""
    hasher = hashlib.sha256()
    for field in (kind, *fields):
        data = encoded(field)
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.digest()


def encoded(field: Field) -> bytes:
    """Text as UTF-8, a number as 8 bytes, the lowest first, in two's complement."""
    if isinstance(field, str):
        return field.encode("utf-8", "surrogateescape")
    if isinstance(field, int):
        return field.to_bytes(8, "little", signed=True)
    return field


def hash_type(type_: Type | None) -> bytes:
    """A type with the sizes of its shape and their names."""
    if isinstance(type_, (TensorType, SparseTensorType)):
        kind = "tensor type" if isinstance(type_, TensorType) else "sparse tensor type"
        return hash_fields(kind, int(type_.dtype), hash_shape(type_.shape))
    if isinstance(type_, SequenceType):
        return hash_fields("sequence type", hash_type(type_.element))
    if isinstance(type_, OptionalType):
        return hash_fields("optional type", hash_type(type_.element))
    if isinstance(type_, MapType):
        return hash_fields("map type", int(type_.key), hash_type(type_.value))
    return hash_fields("no type")


def hash_shape(shape: Shape | None) -> bytes:
    """Fixed sizes, names of sizes, and unknown ones."""
    if shape is None:
        return hash_fields("no shape")
    fields: list[Field] = []
    for dim in shape:
        fields += [
            "fixed" if isinstance(dim, int) else "named" if dim else "unknown",
            dim or (0 if isinstance(dim, int) else ""),
        ]
    return hash_fields("shape", *fields)
