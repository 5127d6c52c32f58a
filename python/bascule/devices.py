# SPDX-License-Identifier: Apache-2.0
"""Names for devices and kinds of memory, present or not."""

from __future__ import annotations

import enum
from dataclasses import dataclass

_DEVICES = {"cpu": 0, "cuda": 1, "gpu": 1, "dml": 1, "webgpu": 1, "npu": 3, "cann": 3}
_VENDORS = {"cuda": 0x10DE, "dml": 0x1414, "cann": 0x19E5}
_MEMORIES = ("Cpu", "Cuda", "CudaPinned", "DML", "Cann", "CannPinned", "WebGPU_Buffer")


class OrtAllocatorType(enum.IntEnum):
    """Whether memory comes straight from the device or from an arena over it."""

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class OrtMemType(enum.IntEnum):
    """What memory is for."""

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


class OrtDeviceVendorId(enum.IntEnum):
    """PCI numbers of device makers."""

    NONE = 0
    AMD = 0x1002
    NVIDIA = 0x10DE
    ARM = 0x13B5
    MICROSOFT = 0x1414
    HUAWEI = 0x19E5
    QUALCOMM = 0x5143
    INTEL = 0x8086


class OrtDevice:
    """A device by kind and number; it need not be present.

    Raises:
        Exception: no device kind is called `name`.
    """

    def __init__(self, name: str, device_id: int, vendor_id: int = -1) -> None:
        if name not in _DEVICES:
            raise Exception(f"Unsupported device type: {name}")
        self._name = name
        self._id = device_id
        self._vendor = vendor_id if vendor_id >= 0 else _VENDORS.get(name, 0)

    @staticmethod
    def make(name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """The device `name` (cpu, cuda, dml, cann, webgpu, gpu, npu) number `device_id`."""
        return OrtDevice(name.lower(), device_id, vendor_id)

    @staticmethod
    def cpu() -> int:
        """The number of the device kind "CPU"."""
        return _DEVICES["cpu"]

    @staticmethod
    def cuda() -> int:
        """The number of the device kind "GPU"."""
        return _DEVICES["cuda"]

    def device_type(self) -> int:
        """0 for a CPU, 1 for a GPU, 3 for an NPU."""
        return _DEVICES[self._name]

    def device_id(self) -> int:
        """Which of several devices of one kind."""
        return self._id

    def device_vendor_id(self) -> int:
        """The maker's PCI number, 0 when none is meant."""
        return self._vendor

    def device_mem_type(self) -> int:
        """0: the device's own memory."""
        return 0


@dataclass(frozen=True, slots=True)
class OrtMemoryInfo:
    """A kind of memory: the allocator's `name`, its type, the device's number, and the use.

    Raises:
        RuntimeError: no allocator is called `name`.
    """

    name: str
    allocator_type: OrtAllocatorType
    device_id: int
    mem_type: OrtMemType

    def __post_init__(self) -> None:
        if self.name not in _MEMORIES:
            raise RuntimeError(f"Specified device is not supported: {self.name}")

    @property
    def device_mem_type(self) -> int:
        """5 for host memory that a device reaches, else 0."""
        return 5 if self.name.endswith("Pinned") else 0

    @property
    def device_vendor_id(self) -> int:
        """The PCI number of the device's maker, 0 for the CPU."""
        return _VENDORS.get(self.name.removesuffix("Pinned").lower(), 0)


def is_gpu(device_type: str) -> bool:
    """Whether memory of a device is an NVIDIA GPU's, and not the CPU's.

    Raises:
        RuntimeError: it is a device of another kind, on which nothing can be allocated.
        Exception: there is no such kind of device.
    """
    name = device_type.lower()
    if name not in _DEVICES:
        raise Exception(f"Unsupported device type: {device_type}")
    if name not in ("cpu", "cuda", "gpu"):
        raise RuntimeError(
            f"Can't allocate memory on the device '{device_type}': there are only CPU and CUDA "
            "providers"
        )
    return name != "cpu"
