# SPDX-License-Identifier: Apache-2.0
"""The compiled extension, told which Python classes it speaks of."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from bascule import errors
from bascule.ir.dtype import DataType

_native: Any = importlib.import_module("bascule._native")

_native.set_dtypes(
    {int(d): d.numpy for d in DataType if d not in (DataType.UNDEFINED, DataType.STRING)}
)
_native.set_error_classes(
    errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented
)


def usable_cpus() -> int:
    """One thread per usable CPU, container limits included."""
    return int(_native.usable_cpus())


_keys: np.random.Generator | None = None


def set_seed(seed: int) -> None:
    """Seed the random operators that have no seed of their own."""
    global _keys
    _native.set_random_seed(seed)
    _keys = np.random.default_rng(seed)


def next_random_key() -> int:
    """64 bits for one generator of a provider that draws its own numbers."""
    global _keys
    if _keys is None:  # only now: the module of random numbers takes long to import
        _keys = np.random.default_rng()
    return int(_keys.integers(1 << 64, dtype=np.uint64))
