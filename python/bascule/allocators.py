# SPDX-License-Identifier: Apache-2.0
"""Arenas and shared allocators as callers describe them; memory here needs neither.

A session plans the memory of its runs itself, and memory that is freed is kept for the next run.
What is asked for is checked, so that code for onnxruntime goes on, and has no other effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bascule.devices import OrtMemoryInfo
from bascule.named_enum import NamedEnum
from bascule.providers.names import CPU, available_providers

_CPU_DEVICE = 0


class ArenaExtendStrategy(NamedEnum):
    """By how much an arena grows.

    Attributes:
        kNextPowerOfTwo: to the next power of two.
        kSameAsRequested: by what was asked for.
    """

    kNextPowerOfTwo = 0
    kSameAsRequested = 1


kNextPowerOfTwo = ArenaExtendStrategy.kNextPowerOfTwo
kSameAsRequested = ArenaExtendStrategy.kSameAsRequested


class OrtArenaCfg:
    """Sizes of an arena; -1 stands for a default. They are kept and have no effect.

    Args:
        *values: ``max_mem``, ``arena_extend_strategy``, ``initial_chunk_size_bytes`` and
            ``max_dead_bytes_per_chunk``; or one dict of any of the attributes.

    Attributes:
        max_mem: the most bytes that the arena may take.
        arena_extend_strategy: an ArenaExtendStrategy's number.
        initial_chunk_size_bytes: bytes of the first piece.
        max_dead_bytes_per_chunk: bytes that a piece may waste.
        initial_growth_chunk_size_bytes: bytes of the second piece.
        max_power_of_two_extend_bytes: bytes of a piece at most.

    Raises:
        RuntimeError: the dict has an unknown key.
        TypeError: the values are neither.
    """

    max_mem: int
    arena_extend_strategy: int
    initial_chunk_size_bytes: int
    max_dead_bytes_per_chunk: int
    initial_growth_chunk_size_bytes: int
    max_power_of_two_extend_bytes: int

    def __init__(self, *values: Any) -> None:
        for name in _ARENA:
            setattr(self, name, -1)
        given: Mapping[Any, Any]
        if len(values) == 1 and isinstance(values[0], dict):
            given = values[0]
        elif len(values) == 4:
            given = dict(zip(_ARENA, values))
        else:
            raise TypeError(
                "incompatible constructor arguments: expected four integers or one dict, not "
                f"{values}"
            )
        for name, value in given.items():
            if name not in _ARENA:
                raise RuntimeError(f"Invalid OrtArenaCfg option: {name}")
            setattr(self, name, int(value))


_ARENA = (
    "max_mem",
    "arena_extend_strategy",
    "initial_chunk_size_bytes",
    "max_dead_bytes_per_chunk",
    "initial_growth_chunk_size_bytes",
    "max_power_of_two_extend_bytes",
)


def create_and_register_allocator(mem_info: OrtMemoryInfo, arena_cfg: OrtArenaCfg | None) -> None:
    """Accepted for the CPU's memory, without effect: sessions share what they free.

    Raises:
        RuntimeError: the memory is another device's.
        TypeError: an argument is of another type.
    """
    _check(mem_info, arena_cfg)
    if mem_info._device_type != _CPU_DEVICE:
        raise RuntimeError(
            "Error when creating and registering allocator: Only CPU devices are supported. Please "
            "call create_and_register_allocator_v2() for other devices."
        )


def create_and_register_allocator_v2(
    provider_type: str,
    mem_info: OrtMemoryInfo,
    options: Mapping[str, str],
    arena_cfg: OrtArenaCfg | None,
) -> None:
    """Accepted for a provider of this machine, without effect: sessions share what they free.

    Args:
        provider_type: the provider's name.
        mem_info: the memory.
        options: of the allocator; not read.
        arena_cfg: the arena, or None.

    Raises:
        RuntimeError: there is no such provider here.
        TypeError: an argument is of another type.
    """
    _check(mem_info, arena_cfg)
    if provider_type != CPU and provider_type not in available_providers():
        raise RuntimeError(
            "Error when creating and registering allocator in create_and_register_allocator_v2: "
            f"{provider_type} is not a provider of this installation"
        )


def _check(mem_info: Any, arena_cfg: Any) -> None:
    if not isinstance(mem_info, OrtMemoryInfo) or not isinstance(
        arena_cfg, (OrtArenaCfg, type(None))
    ):
        raise TypeError(
            "incompatible function arguments: expected OrtMemoryInfo and OrtArenaCfg or None, not "
            f"{type(mem_info).__name__} and {type(arena_cfg).__name__}"
        )
