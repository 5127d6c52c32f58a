# SPDX-License-Identifier: Apache-2.0
"""The Python classes of onnxruntime under their defining module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bascule.binding import IOBinding
from bascule.devices import OrtDevice, OrtDeviceVendorId
from bascule.providers.names import check_and_normalize_provider_args
from bascule.session import InferenceSession
from bascule.session import InferenceSession as Session
from bascule.sparse import SparseTensor
from bascule.values import OrtValue

if TYPE_CHECKING:
    from bascule.adapters import AdapterFormat
    from bascule.compiled_models import ModelCompiler
    from bascule.ep_devices import copy_tensors

_LATER = ("AdapterFormat", "ModelCompiler", "copy_tensors")


def get_ort_device_type(device_type: str) -> int:
    """The number of a kind of device: 0 for a CPU, 1 for a GPU, 3 for an NPU.

    Raises:
        Exception: there is no such kind.
    """
    return OrtDevice.make(device_type, 0).device_type()


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from bascule.capi import onnxruntime_pybind11_state

    return getattr(onnxruntime_pybind11_state, name)


__all__ = [
    "AdapterFormat",
    "IOBinding",
    "InferenceSession",
    "ModelCompiler",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtValue",
    "Session",
    "SparseTensor",
    "check_and_normalize_provider_args",
    "copy_tensors",
    "get_ort_device_type",
]
