# SPDX-License-Identifier: Apache-2.0
"""IOBinding: inputs and outputs of runs, bound to memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.bound_run import run_to_device, run_to_host, write_into
from bascule.device_memory import array_of, is_on_gpu
from bascule.devices import OrtDevice, is_gpu
from bascule.errors import without_code
from bascule.ir.dtype import DataType
from bascule.options import RunOptions
from bascule.providers.cuda.targets import Fresh, Wanted, Where
from bascule.providers.cuda.tensor import Tensor
from bascule.values import Array, OrtValue, element_type_of, host_view
from bascule.values_vector import OrtValueVector

if TYPE_CHECKING:
    from bascule.providers.cuda.replay import Replay
    from bascule.session import InferenceSession

_MOST_KEPT = 2
"""Results of so many runs: a caller often holds those of the last one during the next."""


class _Lease:
    """Lives as long as anybody has an array over the results of a run."""


class _Results:
    """What a run left on the GPU and on the host, and how to have the same run again."""

    def __init__(
        self, found: list[Any], fresh: Sequence[bool], gpu: int, replay: Replay | None
    ) -> None:
        self.replay = replay
        self._found = found
        self._fresh = fresh
        self._gpu = gpu
        self._lease: weakref.ref[_Lease] | None = None

    def is_free(self) -> bool:
        """Whether nobody has an array over memory that the run was given for itself."""
        return self._lease is None or self._lease() is None

    def again(self, index: int) -> Tensor | None:
        """The memory of an output, for another run."""
        found = self._found[index]
        return found if isinstance(found, Tensor) else None

    def values(self) -> list[OrtValue]:
        """The results, which are not free as long as these are held."""
        lease = None if self._lease is None else self._lease()
        if lease is None:
            lease = _Lease()
            self._lease = weakref.ref(lease)
        values = []
        for found, is_fresh in zip(self._found, self._fresh):
            if isinstance(found, Tensor):
                owner = (found.owner, lease) if is_fresh else found.owner
                tensor = Tensor(found.dtype, found.shape, found.address, owner)
                values.append(OrtValue(array_of(tensor, self._gpu)))
            else:
                values.append(OrtValue(found))
        return values


class IOBinding:
    """Inputs and outputs of runs to come, bound by name to memory that stays where it is."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._results: _Results | None = None
        self._kept: list[_Results] = []
        self._is_pending = False
        """Whether the last run may still be at work."""

    # --- binding

    def _bind_input(self, name: str, value: Any) -> None:
        if name not in self._session._signature.types:
            raise RuntimeError(f"Failed to find NodeArg with name: {name} in the def list")
        self._inputs[name] = value
        self._forget_replays()

    def _bind_output(self, name: str, target: Any) -> None:
        self._outputs[name] = target
        self._kept.clear()

    def _forget_replays(self) -> None:
        for results in self._kept:
            results.replay = None

    def bind_cpu_input(self, name: str, array: Array) -> None:
        """Feed `array`, which is kept alive and read at each run.

        Args:
            name: the input.
            array: of the shape and element type that the input has.

        Raises:
            RuntimeError: there is no such input, or `array` is no NumPy array.
        """
        if not isinstance(array, np.ndarray):
            raise RuntimeError(f"bind_cpu_input takes an array, not {type(array).__name__}")
        self._bind_input(name, array)

    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None:
        """Feed `value`, read at each run.

        Raises:
            RuntimeError: there is no input of this name.
            AttributeError: `value` is no OrtValue.
        """
        if not isinstance(value, OrtValue):
            raise _no_value("bind_ortvalue_input", value)
        self._bind_input(name, value)

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Feed foreign memory, which the caller keeps alive.

        Args:
            name: the input.
            device_type: ``cpu`` or ``cuda``.
            device_id: accepted; memory on a GPU is that of the session's.
            element_type: a NumPy type, or an ONNX type number.
            shape: the sizes; elements lie in C order without gaps.
            buffer_ptr: the address of the first element.

        Raises:
            RuntimeError: there is no such input, the type or device is unknown, or there is no such
                memory: text, a negative size or the address 0.
            Exception: there is no such kind of device.
        """
        self._bind_input(name, _memory(device_type, element_type, shape, buffer_ptr))

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for an output: in memory of its own, or in the memory at `buffer_ptr`.

        What lies at `buffer_ptr` after a run that failed is unknown: outputs are computed there.
        On a GPU, memory of an earlier run is used again once nobody has its results any more.

        Args:
            name: the output.
            device_type: ``cpu`` or ``cuda``: where it is wanted.
            device_id: accepted; a GPU is that of the session.
            element_type: a NumPy type, or an ONNX type number; with `buffer_ptr`.
            shape: the sizes; elements lie in C order without gaps; with `buffer_ptr`.
            buffer_ptr: the address of the first element; by default each run makes new memory.

        Raises:
            ValueError: there is a `buffer_ptr`, and no `element_type` or `shape`.
            RuntimeError: the type or device is unknown, or there is no such memory: text, a
                negative size or the address 0.
            Exception: there is no such kind of device.
        """
        on_gpu = is_gpu(device_type)
        if buffer_ptr is None:
            self._bind_output(name, Fresh() if on_gpu else None)
            return
        if element_type is None or shape is None:
            raise ValueError("`element_type` and `shape` are to be provided with a buffer pointer")
        self._bind_output(name, _memory(device_type, element_type, shape, buffer_ptr))

    def bind_ortvalue_output(self, name: str, value: OrtValue) -> None:
        """Write an output into the memory of `value`, which must have room for it.

        What lies there after a run that failed is unknown: outputs are computed there.
        """
        if not isinstance(value, OrtValue):
            raise _no_value("bind_ortvalue_output", value)
        value._tensor()  # refuses what is none
        self._bind_output(name, value._given)

    def clear_binding_inputs(self) -> None:
        """Forget every bound input."""
        self._inputs = {}
        self._forget_replays()

    def clear_binding_outputs(self) -> None:
        """Forget every bound output, and the results of the last run."""
        self._outputs = {}
        self._kept.clear()
        self._results = None

    # --- results

    def synchronize_inputs(self) -> None:
        """Nothing to wait for: inputs are read in the order of the default stream."""

    def synchronize_outputs(self) -> None:
        """Wait until what runs have written is complete."""
        if self._is_pending:
            self._session._cuda.device.synchronize()
            self._is_pending = False

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order of binding; waits for them.

        Raises:
            RuntimeError: outputs are bound, and no run has taken place.
        """
        if self._results is None:
            if self._outputs:
                raise RuntimeError("no run with this binding has taken place yet")
            return []
        self.synchronize_outputs()
        return self._results.values()

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        """The outputs of the last run as a raw list."""
        vector = OrtValueVector()
        for value in self.get_outputs():
            vector.push_back(value)
        return vector

    def copy_outputs_to_cpu(self) -> list[Array]:
        """Copies of the outputs of the last run, which later runs leave alone, in order of binding.

        Tensors are arrays of their shapes and types, sequences are lists, as `run` returns them.

        Raises:
            RuntimeError: outputs are bound, and no run has taken place.
        """
        return [_copied(value._array) for value in self.get_outputs()]

    # --- running

    def _run(self, run_options: Any) -> None:
        if not isinstance(run_options, RunOptions | None):
            raise TypeError(
                "incompatible function arguments: run_options must be RunOptions, not "
                f"{type(run_options).__name__}"
            )
        waits = run_options is None or run_options._waits
        free = next((each for each in self._kept if each.is_free()), None)
        try:
            if run_options is not None:
                run_options.check(self._session._cuda is not None)
            has_adapters = run_options is not None and run_options._adapters
            if free is not None and free.replay is not None and not has_adapters:
                flag = None if run_options is None else run_options._flag
                if free.replay.start(flag, waits):
                    self._results = free
                    self._is_pending = not waits
                    return
            self._run_anew(free, run_options, waits)
        except Exception as error:
            raise RuntimeError(f"Error in execution: {without_code(error)}") from error

    def _run_anew(self, free: _Results | None, run_options: Any, waits: bool) -> None:
        """Run, and keep the results; what is on the GPU goes where `free` has its results."""
        if not self._outputs:
            raise RuntimeError("At least one output should be requested.")
        self._results = None
        inputs = self._inputs if run_options is None else run_options._with_adapters(self._inputs)
        names, targets = list(self._outputs), list(self._outputs.values())
        replay = None
        if any(isinstance(target, (Tensor, Fresh)) for target in targets):
            wanted: dict[str, Wanted] = {}
            for index, (name, target) in enumerate(zip(names, targets)):
                if isinstance(target, Fresh):
                    target = Fresh(None if free is None else free.again(index))
                wanted[name] = target if isinstance(target, (Tensor, Fresh)) else Where.HOST
            found, replay = run_to_device(self._session, inputs, wanted, run_options, waits)
            found = [
                write_into(name, target, made) if isinstance(target, np.ndarray) else made
                for (name, target), made in zip(self._outputs.items(), found)
            ]
            self._is_pending = not waits
        else:
            found = run_to_host(self._session, inputs, self._outputs, run_options)
        fresh = [isinstance(target, Fresh) for target in targets]
        gpu = 0 if self._session._cuda is None else self._session._cuda.device.number
        self._results = _Results(found, fresh, gpu, replay)
        self._kept = [each for each in self._kept if each is not free][1 - _MOST_KEPT :]
        self._kept.append(self._results)


class SessionIOBinding(IOBinding):
    """An IOBinding with the raw class's signatures, which older code calls.

    `session` is an InferenceSession, or its attribute ``_sess``.
    """

    def bind_input(self, name: str, *memory: Any) -> None:
        """Feed an array, or foreign memory: device, element type, shape and address.

        The caller keeps the memory alive. `device` is an OrtDevice. RuntimeError where there is no
        such input, type or memory.
        """
        if len(memory) == 1:
            self.bind_cpu_input(name, memory[0])
        else:
            device, element_type, shape, pointer = memory
            self._bind_input(name, _memory(device, element_type, shape, pointer))

    def bind_output(self, name: str, device: str | OrtDevice = "cpu", *memory: Any) -> None:
        """Ask for an output on a device, or in memory.

        Args:
            name: the output.
            device: a name or an OrtDevice.
            *memory: element type, shape and address of memory that the caller keeps alive;
                nothing for new memory at each run.

        Raises:
            RuntimeError: there is no such type or memory.
        """
        if memory:
            element_type, shape, pointer = memory
            self._bind_output(name, _memory(device, element_type, shape, pointer))
        else:
            self._bind_output(name, Fresh() if is_gpu(device) else None)

    def get_outputs(self) -> OrtValueVector:  # type: ignore[override]
        """The outputs of the last run, in the order of binding; waits for them."""
        vector = OrtValueVector()
        for value in super().get_outputs():
            vector.push_back(value)
        return vector


def _copied(value: Any) -> Any:
    """A result in memory of its own on the host."""
    if is_on_gpu(value):
        return value.get()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


def _memory(
    device_type: str | OrtDevice, element_type: Any, shape: Sequence[int], pointer: int
) -> Any:
    """Foreign memory, as an array on the host or as a Tensor."""
    dtype = element_type_of(element_type)
    if dtype is DataType.STRING:
        raise RuntimeError("Only binding non-string Tensors is currently supported")
    if any(size < 0 for size in shape):
        raise RuntimeError(f"shape {list(shape)} has a negative size")
    if not pointer and all(shape):
        raise RuntimeError(f"the address is 0, where elements of shape {list(shape)} are to lie")
    if is_gpu(device_type):
        return Tensor(dtype, tuple(shape), pointer, None)
    return host_view(pointer, dtype, shape)


def _no_value(function: str, value: Any) -> AttributeError:
    return AttributeError(
        f"incompatible function arguments: {function} takes an OrtValue, not {type(value).__name__}"
    )
