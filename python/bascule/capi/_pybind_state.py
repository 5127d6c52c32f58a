# SPDX-License-Identifier: Apache-2.0
"""The same names under the module that onnxruntime itself imports them from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bascule.capi import onnxruntime_pybind11_state as _state

if TYPE_CHECKING:
    from bascule.capi.onnxruntime_pybind11_state import *  # noqa: F403

__all__ = _state.__all__


def __getattr__(name: str) -> Any:
    return getattr(_state, name)


def __dir__() -> list[str]:
    return dir(_state)
