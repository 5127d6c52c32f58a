# SPDX-License-Identifier: Apache-2.0
"""Enumerations by which callers name kinds of hardware, memory and compiled models."""

from __future__ import annotations

import enum

from bascule.named_enum import NamedEnum


class OrtHardwareDeviceType(NamedEnum):
    """Kinds of hardware.

    Attributes:
        CPU: a processor.
        GPU: a graphics processor.
        NPU: a processor for neural networks; none is used here.
    """

    CPU = 0
    GPU = 1
    NPU = 2


class OrtMemoryInfoDeviceType(NamedEnum):
    """Kinds of hardware that memory belongs to.

    Attributes:
        CPU: a processor.
        GPU: a graphics processor.
        FPGA: programmable hardware; none is used here.
        NPU: a processor for neural networks; none is used here.
    """

    CPU = 0
    GPU = 1
    FPGA = 2
    NPU = 3


class OrtDeviceMemoryType(NamedEnum):
    """Whether the host can reach a device's memory.

    Attributes:
        DEFAULT: the device's own memory.
        HOST_ACCESSIBLE: memory that host and device both reach, as CUDA's pinned memory.
    """

    DEFAULT = 0
    HOST_ACCESSIBLE = 5


class OrtExecutionProviderDevicePolicy(NamedEnum):
    """What to prefer where several devices could run a model.

    Attributes:
        DEFAULT: the CPU.
        PREFER_CPU: the CPU.
        PREFER_NPU: the CPU, as there is no provider for NPUs.
        PREFER_GPU: a GPU if there is one, else the CPU.
        MAX_PERFORMANCE: a GPU if there is one, else the CPU.
        MAX_EFFICIENCY: the CPU.
        MIN_OVERALL_POWER: the CPU.
    """

    DEFAULT = 0
    PREFER_CPU = 1
    PREFER_NPU = 2
    PREFER_GPU = 3
    MAX_PERFORMANCE = 4
    MAX_EFFICIENCY = 5
    MIN_OVERALL_POWER = 6


class OrtCompileApiFlags(enum.IntFlag):
    """What would make the compilation of a model an error; nothing takes them, see ModelCompiler.

    Attributes:
        NONE: nothing.
        ERROR_IF_NO_NODES_COMPILED: no node was compiled.
        ERROR_IF_OUTPUT_FILE_EXISTS: the file to be written is there already.
    """

    NONE = 0
    ERROR_IF_NO_NODES_COMPILED = 1
    ERROR_IF_OUTPUT_FILE_EXISTS = 2

    __str__ = enum.Enum.__str__
