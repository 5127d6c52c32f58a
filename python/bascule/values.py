# SPDX-License-Identifier: Apache-2.0
"""Values that live outside a run: OrtValue, devices, and bindings of inputs and outputs."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule import dlpack
from bascule.device_memory import array_of, empty_on_gpu, gpu_array, is_on_gpu, to_gpu
from bascule.devices import is_gpu
from bascule.ir.dtype import DataType

if TYPE_CHECKING:
    from bascule.session import InferenceSession

Array = np.ndarray[Any, Any]

ON_GPU = object()
"""A bound output that is to stay on the session's GPU, in fresh memory."""


class OrtValue:
    """A tensor (or a list of them) that sessions take and return without conversion."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, (np.ndarray, list, dict)) and value is not None:
            if is_on_gpu(value):
                self._array = gpu_array(value)
                return
            raise ValueError(f"an OrtValue cannot be made from {type(value).__name__}")
        self._array = value

    # --- making one

    @staticmethod
    def ortvalue_from_numpy(
        array: Array, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A value that shares the array's memory; one that is not contiguous is copied."""
        on_gpu = is_gpu(device_type)
        if not isinstance(array, np.ndarray) or not _has_numbers(array):
            raise RuntimeError(
                "an OrtValue can be made only supported from non-string numpy arrays"
            )
        if on_gpu:
            return OrtValue(to_gpu(array, device_id))
        return OrtValue(np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C"))

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(array: Array, onnx_type: int) -> OrtValue:
        """The array's bytes read as elements of ONNX type number `onnx_type`.

        Raises:
            RuntimeError: elements of the two types differ in size.
        """
        dtype = DataType(onnx_type).numpy
        if dtype.itemsize != array.dtype.itemsize:
            raise RuntimeError(
                f"elements of {array.dtype} have {array.dtype.itemsize} bytes, those of "
                f"{DataType(onnx_type).onnx_name} {dtype.itemsize}"
            )
        return OrtValue(np.asarray(array, order="C").view(dtype))

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: Any = None,
    ) -> OrtValue:
        """Uninitialized memory; `element_type` is a NumPy type or an ONNX type number."""
        on_gpu = is_gpu(device_type)
        if any(size < 0 for size in shape):
            raise RuntimeError(f"shape {list(shape)} has a negative size")
        dtype = _element_type(element_type)
        if on_gpu:
            return OrtValue(empty_on_gpu(shape, dtype, device_id))
        return OrtValue(np.empty(tuple(shape), dtype.numpy))

    @classmethod
    def from_dlpack(cls, data: Any) -> OrtValue:
        """A value that shares the memory of an object with ``__dlpack__``, or of a capsule.

        Raises:
            TypeError: `data` is neither.
            RuntimeError: the memory is not the CPU's or not contiguous, or the type is unknown.
        """
        if is_on_gpu(data):
            return cls(gpu_array(data))
        try:
            array = dlpack.import_array(data)
        except BufferError as error:
            raise RuntimeError(str(error)) from None
        DataType.from_numpy(array.dtype)
        if not array.flags.c_contiguous:
            raise RuntimeError("only contiguous memory can be shared")
        return cls(array)

    # --- reading it

    def numpy(self) -> Array:
        """The tensor as an array: over the same memory, or a copy of what is on a GPU."""
        if is_on_gpu(self._array):
            copied: Array = self._array.get()
            return copied
        array: Array = self._tensor()
        return array

    def _tensor(self) -> Any:
        if not isinstance(self._array, np.ndarray) and not is_on_gpu(self._array):
            raise RuntimeError("this OrtValue is not a tensor")
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The tensor for ``numpy.asarray``: over the same memory where that is possible."""
        if dtype is None and not copy:
            return self.numpy()
        return np.array(self.numpy(), dtype=dtype)

    def __dlpack__(self, **arguments: Any) -> Any:
        """A DLPack capsule over the same memory."""
        if is_on_gpu(self._array):
            return self._array.__dlpack__(**arguments)
        return dlpack.export_array(self._tensor(), **arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's numbers for the device: (1, 0) is the CPU, (2, n) is GPU n."""
        if is_on_gpu(self._array):
            return (2, int(self._array.device.id))
        return (1, 0)

    def shape(self) -> list[int]:
        """The sizes; RuntimeError for what is no tensor."""
        return list(self._tensor().shape)

    def element_type(self) -> int:
        """The ONNX number of the element type."""
        array = self._array[0] if isinstance(self._array, list) and self._array else self._array
        dtype = array.dtype if is_on_gpu(array) else np.asarray(array).dtype
        return int(DataType.from_numpy(dtype))

    def data_type(self) -> str:
        """The type as text, such as ``tensor(float)``."""
        name = f"tensor({DataType(self.element_type()).onnx_name})"
        return f"seq({name})" if isinstance(self._array, list) else name

    def device_name(self) -> str:
        """Where the value is: ``cpu`` or ``cuda``."""
        return "cuda" if is_on_gpu(self._array) else "cpu"

    def data_ptr(self) -> int:
        """The address of the first element."""
        array = self._tensor()
        return int(array.data.ptr if is_on_gpu(array) else array.ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        """Bytes of the elements as they lie in memory."""
        return int(self._tensor().nbytes)

    def is_tensor(self) -> bool:
        """Whether this is one dense tensor."""
        return isinstance(self._array, np.ndarray) or is_on_gpu(self._array)

    def is_tensor_sequence(self) -> bool:
        """Whether this is a list of tensors."""
        return isinstance(self._array, list)

    def is_sparse_tensor(self) -> bool:
        """Whether this is a sparse tensor."""
        return False

    def has_value(self) -> bool:
        """False for an optional value that is absent."""
        return self._array is not None

    def update_inplace(self, data: Array | OrtValue) -> None:
        """Copy the bytes of `data` here; the address stays.

        Raises:
            RuntimeError: `data` has another number of bytes.
        """
        source = data.numpy() if isinstance(data, OrtValue) else data
        if not isinstance(source, np.ndarray):
            raise TypeError(f"update_inplace takes an array, not {type(source).__name__}")
        target = self._tensor()
        if source.nbytes != target.nbytes:
            raise RuntimeError(f"{source.nbytes} bytes do not fit a value of {target.nbytes} bytes")
        if is_on_gpu(target):
            target.set(np.ascontiguousarray(source).view(target.dtype).reshape(target.shape))
            return
        flat = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        target.reshape(-1).view(np.uint8)[:] = flat


def _has_numbers(array: Array) -> bool:
    try:
        return DataType.from_numpy(array.dtype.newbyteorder("=")) is not DataType.STRING
    except TypeError:
        return False


def _element_type(element_type: Any) -> DataType:
    if isinstance(element_type, int):
        return DataType(element_type)
    return DataType.from_numpy(element_type)


class IOBinding:
    """Inputs and outputs of runs to come, bound by name to memory that stays where it is."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._results: list[OrtValue] | None = None

    def _known_input(self, name: str) -> None:
        known = [arg.name for arg in self._session.get_inputs()]
        known += [arg.name for arg in self._session.get_overridable_initializers()]
        if name not in known:
            raise RuntimeError(f"Failed to find NodeArg with name: {name} in the def list")

    def bind_cpu_input(self, name: str, array: Array) -> None:
        """Feed `array`, which is kept alive and read at each run."""
        if not isinstance(array, np.ndarray):
            raise RuntimeError(f"bind_cpu_input takes an array, not {type(array).__name__}")
        self._known_input(name)
        self._inputs[name] = array

    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None:
        """Feed `value`, read at each run; RuntimeError for an unknown name."""
        self._known_input(name)
        self._inputs[name] = value

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Feed foreign memory, which the caller keeps alive."""
        self._known_input(name)
        self._inputs[name] = _memory(device_type, device_id, element_type, shape, buffer_ptr)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for an output: in new memory at each run, or in the memory at `buffer_ptr`."""
        on_gpu = is_gpu(device_type)
        if buffer_ptr is None:
            self._outputs[name] = ON_GPU if on_gpu else None
            return
        if element_type is None or shape is None:
            raise ValueError("`element_type` and `shape` are to be provided with a buffer pointer")
        self._outputs[name] = _memory(device_type, device_id, element_type, shape, buffer_ptr)

    def bind_ortvalue_output(self, name: str, value: OrtValue) -> None:
        """Write an output into the memory of `value`, which must have room for it."""
        self._outputs[name] = value._tensor()

    def clear_binding_inputs(self) -> None:
        """Forget every bound input."""
        self._inputs = {}

    def clear_binding_outputs(self) -> None:
        """Forget every bound output."""
        self._outputs = {}

    def synchronize_inputs(self) -> None:
        """Nothing to wait for on the CPU."""

    def synchronize_outputs(self) -> None:
        """Nothing to wait for on the CPU."""

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order of binding."""
        if self._results is None and self._outputs:
            raise RuntimeError("no run with this binding has taken place yet")
        return list(self._results or [])

    def copy_outputs_to_cpu(self) -> list[Array]:
        """The outputs of the last run as arrays, in the order of binding."""
        return [value.numpy() for value in self.get_outputs()]

    def _run(self, run_options: Any) -> None:
        if not self._outputs:
            raise RuntimeError("Error in execution: At least one output should be requested.")
        names = list(self._outputs)
        on_gpu = any(is_on_gpu(t) or t is ON_GPU for t in self._outputs.values())
        try:
            if on_gpu:
                results = self._session._run_bound(self._inputs, self._outputs, run_options)
            else:
                results = self._session.run(names, self._inputs, run_options)
        except Exception as error:
            raise RuntimeError(f"Error in execution: {error}") from error
        values = []
        for name, result in zip(names, results):
            target = self._outputs[name]
            if isinstance(target, np.ndarray):
                if target.nbytes < result.nbytes or target.dtype != result.dtype:
                    raise RuntimeError(
                        f"Error in execution: the buffer of output '{name}' is "
                        f"{target.dtype}{list(target.shape)}, expected room for "
                        f"{result.dtype}{list(result.shape)}"
                    )
                flat = target.reshape(-1)[: result.size]
                flat[:] = result.reshape(-1)
                result = flat.reshape(result.shape)
            values.append(OrtValue(result))
        self._results = values


def _memory(
    device_type: str, device_id: int, element_type: Any, shape: Sequence[int], pointer: int
) -> Any:
    """An array over foreign memory, of the host or of a GPU."""
    if is_gpu(device_type):
        from bascule.providers.cuda.tensor import Tensor

        return array_of(Tensor(_element_type(element_type), tuple(shape), pointer, None), device_id)
    return _view(pointer, element_type, shape)


def _view(pointer: int, element_type: Any, shape: Sequence[int]) -> Array:
    """An array over foreign memory."""
    dtype = _element_type(element_type).numpy
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = (ctypes.c_uint8 * size).from_address(pointer)
    return np.frombuffer(memoryview(buffer), np.uint8).view(dtype).reshape(tuple(shape))


def run_with_values(
    session: InferenceSession,
    output_names: Sequence[str] | None,
    feeds: Mapping[str, OrtValue],
    run_options: Any,
) -> list[OrtValue]:
    """InferenceSession.run_with_ort_values."""
    arrays = {name: value._array for name, value in feeds.items()}
    if any(is_on_gpu(array) for array in arrays.values()):
        names = output_names or [arg.name for arg in session.get_outputs()]
        results = session._run_bound(arrays, dict.fromkeys(names, ON_GPU), run_options)
        return [OrtValue(result) for result in results]
    return [OrtValue(result) for result in session.run(output_names, arrays, run_options)]
