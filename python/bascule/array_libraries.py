# SPDX-License-Identifier: Apache-2.0
"""Results as arrays of the library that the inputs came from, over the same memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bascule.device_memory import is_on_gpu
from bascule.values import OrtValue

_REFUSALS = (AttributeError, BufferError, RuntimeError, TypeError, ValueError)
"""What libraries raise for an element type or a device that they do not take over."""


def library_of(values: Iterable[Any]) -> Callable[[Any], Any] | None:
    """What makes arrays in the kind of the first of `values` that is not of NumPy.

    It takes an array, an OrtValue or a list or dict of them. None: all of `values` are NumPy's, or
    things that are no arrays.
    """
    for value in _arrays(values):
        if isinstance(value, OrtValue):
            return _to_ort_value
        if not isinstance(value, (np.ndarray, np.generic)):
            from_dlpack = _from_dlpack(value)
            if from_dlpack is not None:
                return _Converter(type(value), from_dlpack)
    return None


def _arrays(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _arrays(value)
        elif hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__"):
            yield value


def _from_dlpack(value: Any) -> Callable[[Any], Any] | None:
    """The function of `value`'s library, whose place the array API standard or custom defines."""
    namespace = getattr(value, "__array_namespace__", None)
    spaces = [] if namespace is None else [namespace()]
    spaces.append(sys.modules.get(type(value).__module__.partition(".")[0]))
    for space in spaces:
        found: Callable[[Any], Any] | None = getattr(space, "from_dlpack", None)
        if found is not None:
            return found
    return None


class _Converter:
    """Makes arrays of one library; what it cannot take over stays an array of NumPy or CuPy."""

    def __init__(self, kind: type, from_dlpack: Callable[[Any], Any]) -> None:
        self._kind = kind
        self._from_dlpack = from_dlpack

    def __call__(self, result: Any) -> Any:
        if isinstance(result, OrtValue):
            result = result._array
        if isinstance(result, list):
            return [self(item) for item in result]
        if isinstance(result, dict):
            return {key: self(item) for key, item in result.items()}
        if isinstance(result, self._kind):
            return result
        if not isinstance(result, np.ndarray) and not is_on_gpu(result):
            return result
        try:
            return self._from_dlpack(OrtValue(result))
        except _REFUSALS:
            return result


def _to_ort_value(result: Any) -> Any:
    return result if isinstance(result, OrtValue) else OrtValue(result)
