# SPDX-License-Identifier: Apache-2.0
"""The compiled extension, told which Python classes it speaks of."""

from __future__ import annotations

import importlib
import operator
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bascule import errors
from bascule.ir.dtype import OF_ML_DTYPES, OF_NUMPY, DataType


def _load() -> Any:
    try:
        return importlib.import_module("bascule._native")
    except ImportError as error:
        present = [path.name for path in Path(__file__).parent.glob("_native*")]
        raise ImportError(
            f"bascule's compiled part cannot be loaded by Python {platform.python_version()}: "
            f"{error}; there is {', '.join(sorted(present)) or 'none'}. It is built by: "
            "pip install --force-reinstall --no-deps bascule"
        ) from error


_native: Any = _load()


def _dtypes(types: Iterable[DataType]) -> dict[int, np.dtype[Any]]:
    return {int(dtype): dtype.numpy for dtype in types if dtype is not DataType.STRING}


_native.set_dtypes(_dtypes(OF_NUMPY), lambda: _dtypes(OF_ML_DTYPES))
_native.set_error_classes(
    errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented
)


def usable_cpus() -> int:
    """One thread per usable CPU, container limits included."""
    return int(_native.usable_cpus())


_keys: np.random.Generator | None = None


def set_seed(seed: int) -> None:
    """Seed the random operators that have no seed of their own.

    Args:
        seed: 0 to 2**64 - 1; down to -2**63 those of the same 64 bits are meant.

    Raises:
        TypeError: it is another number, or none.
    """
    global _keys
    number = operator.index(seed)
    if -(1 << 63) <= number < 0:
        number += 1 << 64
    _native.set_random_seed(number)
    _keys = np.random.default_rng(number)


def next_random_key() -> int:
    """64 bits for one generator of a provider that draws its own numbers."""
    global _keys
    if _keys is None:  # only now: the module of random numbers takes long to import
        _keys = np.random.default_rng()
    return int(_keys.integers(1 << 64, dtype=np.uint64))


def block_size() -> int:
    """How many channels onnxruntime has side by side on this processor, at its last level."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return 16
    return 16 if _native.detected_isa().startswith("avx512") else 8
