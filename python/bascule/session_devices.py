# SPDX-License-Identifier: Apache-2.0
"""What a session tells of memory and devices, and names by which callers reach its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bascule.devices import OrtAllocatorType, OrtMemoryInfo, OrtMemType
from bascule.providers.names import CPU
from bascule.values import OrtValue

if TYPE_CHECKING:
    from bascule.metadata import NodeArg
    from bascule.options import SessionOptions


class SessionDevices:
    """The part of InferenceSession that is about memory and devices."""

    _inputs_meta: list[NodeArg]
    _outputs_meta: list[NodeArg]
    _options: SessionOptions
    _providers: list[tuple[str, dict[str, str]]]

    def get_input_memory_infos(self) -> list[OrtMemoryInfo]:
        """For each input, the memory that run takes it from: the CPU's."""
        return [_cpu_memory() for _ in self._inputs_meta]

    def get_output_memory_infos(self) -> list[OrtMemoryInfo]:
        """For each output, the memory that run leaves it in: the CPU's."""
        return [_cpu_memory() for _ in self._outputs_meta]

    def create_ortvalue_from_shape_and_type(
        self,
        shape: Sequence[int],
        element_type: Any,
        device_type: str,
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """Uninitialized memory; see OrtValue.ortvalue_from_shape_and_type."""
        return OrtValue.ortvalue_from_shape_and_type(
            shape, element_type, device_type, device_id, vendor_id
        )

    def get_tuning_results(self) -> list[dict[str, Any]]:
        """Always []: tuned kernels are kept in a file (``session.autotune_file``)."""
        return []

    def set_tuning_results(
        self, results: Sequence[Mapping[str, Any]], *, error_on_invalid: bool = False
    ) -> None:
        """Nothing is taken over from other runtimes' results.

        Raises:
            RuntimeError: there are results, and `error_on_invalid` is set.
        """
        if results and error_on_invalid:
            raise RuntimeError("tuning results of another runtime cannot be used")

    def set_ep_dynamic_options(self, options: Mapping[str, str]) -> None:
        """Accepted and ignored: no provider has options that change after loading."""

    # The names below are private, but read by public projects.

    @property
    def _sess(self) -> Any:
        """What SessionIOBinding takes: there is no inner session."""
        return self

    @property
    def _sess_options(self) -> SessionOptions:
        return self._options

    @property
    def _provider_options(self) -> dict[str, dict[str, str]]:
        return {name: dict(options) for name, options in self._providers}

    @property
    def _fallback_providers(self) -> list[str]:
        return [CPU]


def _cpu_memory() -> OrtMemoryInfo:
    return OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
