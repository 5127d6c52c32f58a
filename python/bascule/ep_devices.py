# SPDX-License-Identifier: Apache-2.0
"""The devices of this machine that an execution provider can use, and copies between them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bascule._version import __version__
from bascule.device_kinds import OrtDeviceMemoryType, OrtHardwareDeviceType
from bascule.device_memory import is_on_gpu
from bascule.devices import OrtAllocatorType, OrtDeviceVendorId, OrtMemoryInfo, OrtMemType
from bascule.errors import Fail
from bascule.providers.names import CPU, CUDA, available_providers
from bascule.values import OrtValue

_MAKERS = {
    "GenuineIntel": ("Intel", int(OrtDeviceVendorId.INTEL)),
    "AuthenticAMD": ("AMD", int(OrtDeviceVendorId.AMD)),
    "ARM": ("ARM", int(OrtDeviceVendorId.ARM)),
}
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class OrtHardwareDevice:
    """A piece of hardware.

    Attributes:
        type: CPU or GPU.
        vendor: the maker's name, such as ``Intel``; empty where it is unknown.
        vendor_id: the maker's PCI number, 0 where it is unknown.
        device_id: which of several, as CUDA counts GPUs.
        metadata: ``Description``, the model's name, of a GPU.
    """

    type: OrtHardwareDeviceType
    vendor: str
    vendor_id: int
    device_id: int
    metadata: dict[str, str] = field(default_factory=dict)


class OrtSyncStream:
    """A stream of a device, on which copies are put in order."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # of CuPy

    def get_handle(self) -> int:
        """The address that ``user_compute_stream`` takes, as a string."""
        return int(self._stream.ptr)


@dataclass(frozen=True, slots=True)
class OrtEpDevice:
    """An execution provider on a piece of hardware.

    Attributes:
        ep_name: the provider, such as ``CPUExecutionProvider``.
        ep_vendor: ``bascule``.
        device: the hardware.
        ep_metadata: ``version``, that of bascule.
        ep_options: none are needed.
    """

    ep_name: str
    ep_vendor: str
    device: OrtHardwareDevice
    ep_metadata: dict[str, str] = field(default_factory=dict)
    ep_options: dict[str, str] = field(default_factory=dict)

    def memory_info(self, mem_type: OrtDeviceMemoryType) -> OrtMemoryInfo | None:
        """The device's own memory, or the host memory that it reaches; None for the CPU's."""
        if self.ep_name == CPU:
            return None
        name = "CudaPinned" if mem_type == OrtDeviceMemoryType.HOST_ACCESSIBLE else "Cuda"
        kind = OrtAllocatorType.ORT_DEVICE_ALLOCATOR
        return OrtMemoryInfo(name, kind, self.device.device_id, OrtMemType.DEFAULT)

    def create_sync_stream(self) -> OrtSyncStream:
        """A new stream of the device.

        Raises:
            RuntimeError: the device is the CPU, which has none.
        """
        if self.ep_name == CPU:
            raise RuntimeError("ep_device does not use DEFAULT memory of a non-CPU device.")
        import cupy

        with cupy.cuda.Device(self.device.device_id):
            return OrtSyncStream(cupy.cuda.Stream(non_blocking=True))


def get_ep_devices() -> list[OrtEpDevice]:
    """The providers of this installation with the hardware that they run on, the CPU first."""
    hardware = get_hardware_devices()
    names = {OrtHardwareDeviceType.CPU: CPU, OrtHardwareDeviceType.GPU: CUDA}
    return [
        OrtEpDevice(names[each.type], "bascule", each, {"version": __version__})
        for each in hardware
    ]


def get_hardware_devices() -> list[OrtHardwareDevice]:
    """The CPU, and the GPUs that CuPy finds."""
    vendor, number = _cpu_maker()
    found = [OrtHardwareDevice(OrtHardwareDeviceType.CPU, vendor, number, 0)]
    if CUDA in available_providers():
        import cupy

        for index in range(cupy.cuda.runtime.getDeviceCount()):
            name = cupy.cuda.runtime.getDeviceProperties(index)["name"]
            text = name.decode() if isinstance(name, bytes) else str(name)
            maker = int(OrtDeviceVendorId.NVIDIA)
            metadata = {"Description": text}
            gpu = OrtHardwareDevice(OrtHardwareDeviceType.GPU, "NVIDIA", maker, index, metadata)
            found.append(gpu)
    return found


def _cpu_maker() -> tuple[str, int]:
    """Name and PCI number of the CPU's maker; ("", 0) where that is unknown."""
    text = platform.processor() + platform.machine()
    if _CPUINFO.is_file():
        text += _CPUINFO.read_text(errors="replace")[:4096]
    if "aarch64" in text or "arm64" in text:
        return _MAKERS["ARM"]
    return next((maker for key, maker in _MAKERS.items() if key in text), ("", 0))


def register_execution_provider_library(registration_name: str, library_path: str) -> None:
    """Refused: providers of shared libraries need onnxruntime's binary interface.

    Raises:
        Fail: always; the message says whether the file exists.
    """
    path = os.fspath(library_path)
    if not os.path.isfile(path):
        raise Fail(f"Failed to load library {path} with error: the file does not exist")
    raise Fail(
        f"Failed to load library {path}: execution providers of shared libraries need the binary "
        "interface of onnxruntime, which bascule does not have",
        provider=registration_name,
        available=available_providers(),
    )


def unregister_execution_provider_library(registration_name: str) -> None:
    """Refused: no library can have been registered.

    Raises:
        Fail: always.
    """
    raise Fail(f"Execution provider library: {registration_name} was not registered.")


def copy_tensors(
    src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: OrtSyncStream | None = None
) -> None:
    """Copy each tensor of `src` to the one of `dst` at its place, of which one is on a GPU.

    Args:
        src: what is copied.
        dst: where to, with as many bytes.
        stream: a stream of the GPU to put copies between GPU memories on, which is not waited for.

    Raises:
        RuntimeError: the lists differ in length or are empty, a size differs, or both sides are on
            the CPU, where NumPy copies.
    """
    if len(src) != len(dst) or not src:
        raise RuntimeError("Invalid arguments provided to CopyTensors.")
    for source, target in zip(src, dst):
        if not is_on_gpu(source._array) and not is_on_gpu(target._array):
            raise RuntimeError(
                "Data transfer implementation between source and destination device was not found."
            )
        _copy(source, target, stream)


def _copy(source: OrtValue, target: OrtValue, stream: OrtSyncStream | None) -> None:
    if not is_on_gpu(source._array) or not is_on_gpu(target._array):
        target.update_inplace(source)
        return
    if source.tensor_size_in_bytes() != target.tensor_size_in_bytes():
        raise RuntimeError(
            f"{source.tensor_size_in_bytes()} bytes do not fit a value of "
            f"{target.tensor_size_in_bytes()} bytes"
        )
    count = source.tensor_size_in_bytes()
    if stream is None:
        target._array.data.copy_from_device(source._array.data, count)
    else:
        target._array.data.copy_from_device_async(source._array.data, count, stream._stream)
