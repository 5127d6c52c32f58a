# SPDX-License-Identifier: Apache-2.0
"""Names for devices and kinds of memory, present or not."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from bascule.device_kinds import OrtDeviceMemoryType, OrtMemoryInfoDeviceType
from bascule.named_enum import NamedEnum

_DEVICES = {"cpu": 0, "cuda": 1, "gpu": 1, "dml": 1, "webgpu": 1, "npu": 3, "cann": 3}
_VENDORS = {"cuda": 0x10DE, "dml": 0x1414, "cann": 0x19E5}
_MEMORIES = {
    "Cpu": "cpu",
    "Cuda": "cuda",
    "CudaPinned": "cuda",
    "DML": "dml",
    "Cann": "cann",
    "CannPinned": "cann",
    "WebGPU_Buffer": "webgpu",
}


class OrtAllocatorType(NamedEnum):
    """Whether memory comes straight from the device or from an arena over it.

    Attributes:
        INVALID: neither.
        ORT_DEVICE_ALLOCATOR: straight from the device.
        ORT_ARENA_ALLOCATOR: from an arena.
    """

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class OrtMemType(NamedEnum):
    """What memory is for.

    Attributes:
        CPU_INPUT: what a device reads from the host.
        CPU_OUTPUT: what a device writes for the host.
        CPU: the same as CPU_OUTPUT.
        DEFAULT: the device's own use.
    """

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


class OrtDeviceVendorId(enum.IntEnum):
    """Numbers of device makers, as PCI has them.

    Attributes:
        NONE: no maker is meant.
        AMD: 0x1002.
        NVIDIA: 0x10DE.
        ARM: 0x13B5.
        MICROSOFT: 0x1414.
        HUAWEI: 0x19E5.
        QUALCOMM: 0x5143.
        INTEL: 0x8086.
    """

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

    The numbers of onnxruntime's raw class, (kind, memory type, [vendor,] number), are taken too.

    Args:
        name: ``cpu``, ``cuda``, ``gpu``, ``dml``, ``webgpu``, ``npu`` or ``cann``; or the number of
            the kind.
        *numbers: which of several devices; after a number for `name`: memory type, [vendor,]
            number.
        vendor_id: the maker's PCI number; -1 for what the name implies.

    Raises:
        Exception: no device kind is called `name`.
    """

    def __init__(self, name: str | int, *numbers: int, vendor_id: int = -1) -> None:
        memory = 0
        if isinstance(name, int):
            memory, *vendor, number = numbers
            self._kind, vendor_id = name, vendor[0] if vendor else 0
        else:
            if name not in _DEVICES:
                raise Exception(f"Unsupported device type: {name}")
            self._kind = _DEVICES[name]
            number, *vendor = numbers
            vendor_id = vendor[0] if vendor else vendor_id
        self._memory = int(memory)
        self._id = int(number)
        self._vendor = vendor_id if vendor_id >= 0 else _VENDORS.get(str(name), 0)

    @staticmethod
    def make(name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """The device `name` number `device_id`; it need not be present.

        Args:
            name: ``cpu``, ``cuda``, ``dml``, ``cann``, ``webgpu``, ``gpu`` or ``npu``, in any case.
            device_id: which of several.
            vendor_id: the maker's PCI number; -1 for what the name implies.

        Raises:
            Exception: no device kind is called `name`.
        """
        return OrtDevice(name.lower(), device_id, vendor_id)

    @staticmethod
    def cpu() -> int:
        """The number of the device kind "CPU"."""
        return _DEVICES["cpu"]

    @staticmethod
    def cuda() -> int:
        """The number of the device kind "GPU"."""
        return _DEVICES["cuda"]

    @staticmethod
    def npu() -> int:
        """The number of the device kind "NPU"."""
        return _DEVICES["npu"]

    @staticmethod
    def default_memory() -> int:
        """The number of a device's own kind of memory."""
        return int(OrtDeviceMemoryType.DEFAULT)

    def device_type(self) -> int:
        """0 for a CPU, 1 for a GPU, 3 for an NPU."""
        return self._kind

    def device_id(self) -> int:
        """Which of several devices of one kind."""
        return self._id

    def device_vendor_id(self) -> int:
        """The maker's PCI number, 0 when none is meant."""
        return self._vendor

    def device_mem_type(self) -> int:
        """0: the device's own memory."""
        return self._memory

    def _get_c_device(self) -> OrtDevice:  # read by callers of the raw classes
        return self


@dataclass(frozen=True, slots=True)
class OrtMemoryInfo:
    """A kind of memory.

    Attributes:
        name: of the allocator: ``Cpu``, ``Cuda``, ``CudaPinned``, ``DML``, ``Cann``,
            ``CannPinned`` or ``WebGPU_Buffer``; with `create_v2` any.
        allocator_type: whether it has an arena.
        device_id: which of several devices.
        mem_type: what the memory is for.

    Raises:
        RuntimeError: no allocator is called `name`.
    """

    name: str
    allocator_type: OrtAllocatorType
    device_id: int
    mem_type: OrtMemType
    _device: tuple[int, int, OrtDeviceMemoryType] = field(init=False, repr=False)
    """Kind, vendor and kind of memory."""

    def __post_init__(self) -> None:
        if self.name not in _MEMORIES:
            raise RuntimeError(f"Specified device is not supported: {self.name}")
        is_pinned = self.name.endswith("Pinned")
        memory = OrtDeviceMemoryType.HOST_ACCESSIBLE if is_pinned else OrtDeviceMemoryType.DEFAULT
        kind = _MEMORIES[self.name]
        object.__setattr__(self, "_device", (_DEVICES[kind], _VENDORS.get(kind, 0), memory))

    @classmethod
    def create_v2(
        cls,
        name: str,
        device_type: OrtMemoryInfoDeviceType,
        vendor_id: int,
        device_id: int,
        device_mem_type: OrtDeviceMemoryType,
        alignment: int,
        allocator_type: OrtAllocatorType,
    ) -> OrtMemoryInfo:
        """Memory of any device, present or not, under any name.

        Args:
            name: what the memory is called.
            device_type: the kind of hardware.
            vendor_id: the PCI number of its maker.
            device_id: which of several devices.
            device_mem_type: whether the host reaches it.
            alignment: in bytes, 0 for the default; memory here is aligned to 64 bytes.
            allocator_type: straight from the device, or from an arena.
        """
        info = object.__new__(cls)
        on_host = device_mem_type == OrtDeviceMemoryType.HOST_ACCESSIBLE
        values = {
            "name": name,
            "allocator_type": OrtAllocatorType(allocator_type),
            "device_id": int(device_id),
            "mem_type": OrtMemType.CPU_OUTPUT if on_host else OrtMemType.DEFAULT,
            "_device": (int(device_type), int(vendor_id), OrtDeviceMemoryType(device_mem_type)),
        }
        for key, value in values.items():
            object.__setattr__(info, key, value)
        return info

    @property
    def device_mem_type(self) -> OrtDeviceMemoryType:
        """HOST_ACCESSIBLE for memory of a device that the host reaches, else DEFAULT."""
        return self._device[2]

    @property
    def device_vendor_id(self) -> int:
        """The PCI number of the device's maker, 0 for the CPU."""
        return self._device[1]

    @property
    def _device_type(self) -> int:
        return self._device[0]


def is_gpu(device: str | OrtDevice) -> bool:
    """Whether memory of a device is an NVIDIA GPU's, and not the CPU's.

    Raises:
        RuntimeError: it is a device of another kind, on which nothing can be allocated.
        Exception: there is no such kind of device.
        TypeError: it is neither a name nor an OrtDevice.
    """
    if isinstance(device, OrtDevice):
        kind, vendor = device.device_type(), device.device_vendor_id()
        if kind == _DEVICES["cpu"]:
            return False
        if kind == _DEVICES["cuda"] and vendor in (0, _VENDORS["cuda"]):
            return True
        raise _not_here(f"of kind {kind}, vendor {vendor:#x}")
    if not isinstance(device, str):
        raise TypeError(
            "incompatible function arguments: a device must be a str or OrtDevice, not "
            f"{type(device).__name__}"
        )
    name = device.lower()
    if name not in _DEVICES:
        raise Exception(f"Unsupported device type: {device}")
    if name not in ("cpu", "cuda", "gpu"):
        raise _not_here(f"'{device}'")
    return name != "cpu"


def memory_device(info: OrtMemoryInfo) -> tuple[str, int]:
    """(kind, number) of the device whose memory `info` names.

    Raises:
        RuntimeError: nothing can be allocated there.
    """
    kind = "cpu" if info._device_type == _DEVICES["cpu"] or info.device_mem_type else "cuda"
    if kind == "cuda" and info._device[:2] != (_DEVICES["cuda"], _VENDORS["cuda"]):
        raise RuntimeError(f"No shared allocator found for: {info}")
    return kind, info.device_id


def _not_here(device: str) -> RuntimeError:
    return RuntimeError(
        f"Can't allocate memory on the device {device}: there are only CPU and CUDA providers"
    )
