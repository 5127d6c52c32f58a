# SPDX-License-Identifier: Apache-2.0
"""What a session tells of memory and devices, and names by which callers reach its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bascule.devices import OrtAllocatorType, OrtMemoryInfo, OrtMemType, is_gpu
from bascule.values import OrtValue

if TYPE_CHECKING:
    from bascule.metadata import ModelMetadata, NodeArg
    from bascule.options import SessionOptions
    from bascule.session_profile import Trace


class SessionDevices:
    """The part of InferenceSession that is about memory and devices."""

    _inputs_meta: list[NodeArg]
    _outputs_meta: list[NodeArg]
    _options: SessionOptions
    _overridable: list[NodeArg]
    _metadata: ModelMetadata
    _cuda: Any
    _trace: Trace

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
        """Uninitialized memory; see OrtValue.ortvalue_from_shape_and_type.

        Args:
            shape: the sizes.
            element_type: a NumPy type or its name, or an ONNX type number.
            device_type: ``cpu`` or ``cuda``.
            device_id: which GPU.
            vendor_id: not needed.

        Raises:
            RuntimeError: the session has no provider on the device, or the type or a size is wrong.
        """
        if is_gpu(device_type) and self._cuda is None:
            raise RuntimeError(
                f"No session allocator found for Device: {device_type}:{device_id}: the session "
                "has only the CPU provider"
            )
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
            TypeError: `results` is no list.
        """
        if not isinstance(results, list):
            raise TypeError("incompatible function arguments: results must be a list")
        if results and error_on_invalid:
            raise RuntimeError("tuning results of another runtime cannot be used")

    def set_ep_dynamic_options(self, options: Mapping[str, str]) -> None:
        """Accepted and ignored: no provider has options that change after loading.

        Raises:
            RuntimeError: there are no options.
        """
        if not options:
            raise RuntimeError("No options were provided")

    # The names below are private, but read by public projects.

    @property
    def _sess(self) -> Any:
        """What SessionIOBinding takes: there is no inner session."""
        return self

    @property
    def _sess_options(self) -> SessionOptions:
        return self._options

    @property
    def _overridable_initializers(self) -> list[NodeArg]:
        return self._overridable

    @property
    def _model_meta(self) -> ModelMetadata:
        return self._metadata

    @property
    def _profiling_start_time_ns(self) -> int:
        return self._trace.started_ns


def _cpu_memory() -> OrtMemoryInfo:
    return OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
