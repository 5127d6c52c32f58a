# SPDX-License-Identifier: Apache-2.0
"""OrtValue: a value that lives outside a run."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule import dlpack
from bascule.bound_run import run_to_device
from bascule.device_memory import array_of, empty_on_gpu, gpu_array, is_on_gpu, tensor_of, to_gpu
from bascule.devices import OrtDevice, OrtMemoryInfo, is_gpu, memory_device
from bascule.ir.dtype import DataType
from bascule.providers.cuda.targets import Fresh
from bascule.providers.cuda.tensor import Tensor
from bascule.sparse import SparseTensor

if TYPE_CHECKING:
    from bascule.session import InferenceSession

Array = np.ndarray[Any, Any]


class OrtValue:
    """A tensor (or a list of them) that sessions take and return without conversion.

    Its static methods make one. On the CPU it shares the memory of a NumPy array, on a GPU
    that of a CuPy array. ``numpy.asarray``, ``torch.from_dlpack`` and other libraries read it
    without a copy.

    Args:
        value: a NumPy array, a list of such, a dict, a SparseTensor, another OrtValue, None, or an
            array in GPU memory of a library that has DLPack or ``__cuda_array_interface__``.

    Raises:
        ValueError: `value` is of another type.
    """

    _array: Any

    def __init__(self, value: Any) -> None:
        if isinstance(value, OrtValue):
            value = value._array
        if not isinstance(value, (np.ndarray, list, dict, SparseTensor)) and value is not None:
            if is_on_gpu(value):
                self._array = gpu_array(value)
                return
            raise ValueError(f"an OrtValue cannot be made from {type(value).__name__}")
        self._array = value

    @functools.cached_property
    def _given(self) -> Any:
        """What a run takes for it."""
        return tensor_of(self._array) if is_on_gpu(self._array) else self._array

    # --- making one

    @staticmethod
    def ortvalue_from_numpy(
        array: Array,
        /,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """A value that shares the array's memory; one that is not contiguous is copied.

        Args:
            array: any shape, of a type that ONNX has, not text.
            device_type: ``cpu``, or ``cuda`` for a copy on GPU `device_id`; or an OrtDevice.
            device_id: which GPU.
            vendor_id: not needed.

        Raises:
            RuntimeError: `array` is no array of numbers, or nothing can be allocated on the device.
            Exception: there is no such kind of device.
        """
        on_gpu = is_gpu(device_type)
        device_id = _number(device_type, device_id)
        if not isinstance(array, np.ndarray) or not _has_numbers(array):
            raise RuntimeError(
                "Creation of OrtValues is currently only supported from non-string numpy arrays"
            )
        if on_gpu:
            return OrtValue(to_gpu(array, device_id))
        return OrtValue(np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C"))

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(array: Array, onnx_element_type: int) -> OrtValue:
        """The array's bytes read as elements of ONNX type number `onnx_element_type`.

        The shape is the array's. Types of less than a byte are taken as packed, the first element
        in the lowest bits, so that some bytes at the end of `array` are not read.

        Raises:
            RuntimeError: elements of the two types differ in size, they are objects or text, or
                there is no type of this number.
            TypeError: `array` is no array.
        """
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"incompatible function arguments: expected an array, not {type(array).__name__}"
            )
        kind = element_type_of(onnx_element_type)
        if kind is DataType.STRING or array.dtype.hasobject:
            raise RuntimeError(
                "Creation of OrtValues is currently only supported from non-string numpy arrays"
            )
        if kind.bits < 8 and array.dtype.itemsize == 1:
            return OrtValue(_unpacked(array, kind))
        if kind.numpy.itemsize != array.dtype.itemsize:
            raise RuntimeError(
                f"elements of {array.dtype} have {array.dtype.itemsize} bytes, those of "
                f"{kind.onnx_name} {kind.numpy.itemsize}"
            )
        return OrtValue(np.asarray(array, order="C").view(kind.numpy))

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int],
        element_type: Any,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: OrtMemoryInfo | None = None,
    ) -> OrtValue:
        """Uninitialized memory.

        Args:
            shape: the sizes.
            element_type: a NumPy type or its name, or an ONNX type number.
            device_type: ``cpu`` or ``cuda``; or an OrtDevice.
            device_id: which GPU.
            vendor_id: not needed.
            memory_info: names the memory instead of a device.

        Raises:
            RuntimeError: a size is negative, the type has no elements of a fixed size, or nothing
                can be allocated there.
            Exception: there is no such kind of device.
        """
        if memory_info is not None:
            device_type, device_id = memory_device(memory_info)
        on_gpu = is_gpu(device_type)
        device_id = _number(device_type, device_id)
        if any(size < 0 for size in shape):
            raise RuntimeError(f"shape {list(shape)} has a negative size")
        dtype = element_type_of(element_type)
        if dtype is DataType.STRING:
            raise RuntimeError(
                "Creation of OrtValues is currently only supported from non-string numpy arrays"
            )
        if on_gpu:
            return OrtValue(empty_on_gpu(shape, dtype, device_id))
        try:
            return OrtValue(np.empty(tuple(shape), dtype.numpy))
        except (MemoryError, ValueError) as error:
            raise RuntimeError(f"Can't allocate memory on the device cpu: {error}") from None

    @classmethod
    def from_dlpack(cls, data: Any) -> OrtValue:
        """A value that shares the memory of an object with ``__dlpack__``, or of a capsule.

        Args:
            data: of a CPU or a CUDA device, of any shape and of an element type that ONNX has, but
                complex ones; dense and in C order.

        Raises:
            TypeError: `data` is neither.
            RuntimeError: another device, type or layout.
        """
        if is_on_gpu(data):
            return cls(gpu_array(data))
        try:
            array = dlpack.import_array(data)
        except BufferError as error:
            raise RuntimeError(str(error)) from None
        if array.dtype.kind == "c":
            raise RuntimeError(f"Unsupported DLPack data type: {array.dtype}")
        DataType.from_numpy(array.dtype)
        if not array.flags.c_contiguous:
            raise RuntimeError(
                "ORT only supports contiguous tensor for now: the shared memory of shape "
                f"{list(array.shape)} is not contiguous"
            )
        return cls(array)

    @staticmethod
    def ort_value_from_sparse_tensor(sparse_tensor: SparseTensor) -> OrtValue:
        """A value that holds this sparse tensor; AttributeError for anything else."""
        if not hasattr(sparse_tensor, "_get_c_tensor"):
            raise AttributeError(
                "incompatible function arguments: sparse_tensor must be a SparseTensor, not "
                f"{type(sparse_tensor).__name__}"
            )
        return OrtValue(sparse_tensor._get_c_tensor())

    @classmethod
    def _over(
        cls,
        owner: Any,
        pointer: int,
        element_type: Any,
        shape: Sequence[int],
        device: str | OrtDevice,
    ) -> OrtValue:
        """A value over foreign memory, which `owner` keeps alive."""
        dtype = element_type_of(element_type)
        if is_gpu(device):
            tensor = Tensor(dtype, tuple(shape), pointer, owner)
            return cls(array_of(tensor, _number(device, 0)))
        return cls(host_view(pointer, dtype, shape, owner))

    # --- reading it

    def numpy(self) -> Array:
        """The tensor as an array: over the same memory, or a copy of what is on a GPU.

        Its dtype is NumPy's or, for bfloat16, float8, int4 and their kin, that of ml_dtypes.

        Raises:
            RuntimeError: this is no dense tensor.
        """
        if is_on_gpu(self._array):
            copied: Array = self._array.get()
            return copied
        array: Array = self._tensor()
        return array

    def as_sparse_tensor(self) -> SparseTensor:
        """The sparse tensor; RuntimeError for what is none."""
        if not isinstance(self._array, SparseTensor):
            raise RuntimeError(
                "This OrtValue does not contain SparseTensor. Check data_type() value."
            )
        return self._array

    @property
    def _ortvalue(self) -> OrtValue:  # read by callers of the raw classes
        return self

    def _get_c_value(self) -> OrtValue:  # too
        return self

    def _tensor(self) -> Any:
        if not isinstance(self._array, np.ndarray) and not is_on_gpu(self._array):
            raise RuntimeError("this OrtValue is not a tensor")
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The tensor for ``numpy.asarray``: over the same memory where that is possible.

        ValueError for ``copy=False`` where it is not.
        """
        array = self.numpy()
        if copy:
            return np.array(array, dtype=dtype)
        found: Array = array if dtype is None else array.astype(dtype, copy=False)
        if copy is False and (found is not array or is_on_gpu(self._array)):
            raise ValueError(f"this value cannot be shared as an array of {found.dtype}")
        return found

    def __dlpack__(self, **arguments: Any) -> Any:
        """A DLPack capsule over the same memory."""
        if is_on_gpu(self._array):
            return self._array.__dlpack__(**arguments)
        return dlpack.export_array(self._tensor(), **arguments)

    def to_dlpack(self) -> Any:
        """A DLPack capsule over the same memory, by the name that the raw class has for it.

        Raises:
            RuntimeError: this is no dense tensor.
        """
        return self.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's numbers for the device: (1, 0) is the CPU, (2, n) is GPU n."""
        if is_on_gpu(self._array):
            return (2, int(self._array.device.id))
        return (1, 0)

    def shape(self) -> list[int]:
        """The sizes, of a sparse tensor as if it were dense; RuntimeError for what is no tensor."""
        if isinstance(self._array, SparseTensor):
            return self._array.dense_shape()
        return list(self._tensor().shape)

    def element_type(self) -> int:
        """The ONNX number of the element type."""
        array = self._array[0] if isinstance(self._array, list) and self._array else self._array
        if isinstance(array, SparseTensor):
            array = array.values()
        dtype = array.dtype if is_on_gpu(array) else np.asarray(array).dtype
        return int(DataType.from_numpy(dtype))

    def data_type(self) -> str:
        """The type as text, such as ``tensor(float)``."""
        if isinstance(self._array, SparseTensor):
            return self._array.data_type()
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
        return isinstance(self._array, SparseTensor)

    def has_value(self) -> bool:
        """False for an optional value that is absent."""
        return self._array is not None

    def update_inplace(self, data: Array | OrtValue) -> None:
        """Copy the bytes of `data` here; the address stays.

        Args:
            data: an array or OrtValue with as many bytes; shape and element type do not count.

        Raises:
            RuntimeError: `data` has another number of bytes, it is text, or this is no tensor.
            TypeError: `data` is neither.
        """
        source = data.numpy() if isinstance(data, OrtValue) else data
        if not isinstance(source, np.ndarray):
            raise TypeError(f"update_inplace takes an array, not {type(source).__name__}")
        target = self._tensor()
        if not (_has_numbers(source) and (is_on_gpu(target) or _has_numbers(target))):
            raise RuntimeError(
                "Inplace update of OrtValues is currently only supported from non-string numpy "
                "arrays"
            )
        if source.nbytes != target.nbytes:
            raise RuntimeError(f"{source.nbytes} bytes do not fit a value of {target.nbytes} bytes")
        elements = np.ascontiguousarray(source).reshape(-1).view(target.dtype).reshape(target.shape)
        if is_on_gpu(target):
            target.set(elements)
        else:
            target[...] = elements


def host_view(pointer: int, dtype: DataType, shape: Sequence[int], owner: Any = None) -> Array:
    """An array over foreign memory of the host, which `owner` or else the caller keeps alive."""
    size = math.prod(shape) * dtype.numpy.itemsize
    if not size:
        return np.empty(tuple(shape), dtype.numpy)
    buffer = (ctypes.c_uint8 * size).from_address(pointer)
    buffer.owner = owner  # type: ignore[attr-defined]
    return np.frombuffer(memoryview(buffer), np.uint8).view(dtype.numpy).reshape(tuple(shape))


def _number(device: str | OrtDevice, number: int) -> int:
    """Which of several devices is meant."""
    return device.device_id() if isinstance(device, OrtDevice) else number


def _unpacked(array: Array, dtype: DataType) -> Array:
    """As many elements of less than a byte as `array` has bytes, from its first ones."""
    bytes_ = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    shifts = np.arange(0, 8, dtype.bits, dtype=np.uint8)
    elements = (bytes_[:, None] >> shifts) & ((1 << dtype.bits) - 1)
    unpacked: Array = elements.reshape(-1)[: array.size].reshape(array.shape).view(dtype.numpy)
    return unpacked


def _has_numbers(array: Array) -> bool:
    try:
        return DataType.from_numpy(array.dtype.newbyteorder("=")) is not DataType.STRING
    except TypeError:
        return False


def element_type_of(element_type: Any) -> DataType:
    """A NumPy type or an ONNX type number as a DataType; RuntimeError for what is neither."""
    try:
        if not isinstance(element_type, int):
            return DataType.from_numpy(np.dtype(element_type).newbyteorder("="))
        if (dtype := DataType(element_type)) is not DataType.UNDEFINED:
            return dtype
    except (TypeError, ValueError):
        pass
    raise RuntimeError(f"tensor type {element_type} is not supported")


def run_with_values(
    session: InferenceSession,
    output_names: Sequence[str] | None,
    feeds: Mapping[str, OrtValue],
    run_options: Any,
) -> list[OrtValue]:
    """InferenceSession.run_with_ort_values."""
    if not isinstance(feeds, Mapping):
        raise AttributeError(
            "incompatible function arguments: input_dict_ort_values must be a dict from input name "
            f"to OrtValue, not {type(feeds).__name__}"
        )
    others = [name for name, value in feeds.items() if not isinstance(value, OrtValue)]
    if others:
        kind = type(feeds[others[0]]).__name__
        raise AttributeError(f"input '{others[0]}' must be an OrtValue here, not {kind}: use run")
    given = {name: value._given for name, value in feeds.items()}
    if not any(isinstance(value, Tensor) for value in given.values()):
        return [OrtValue(result) for result in session.run(output_names, given, run_options)]
    names = output_names or [arg.name for arg in session.get_outputs()]
    results, _ = run_to_device(session, given, dict.fromkeys(names, Fresh()), run_options)
    session._trim(run_options)
    gpu = session._cuda.device.number
    by_name = dict(zip(dict.fromkeys(names), results))  # a name may be wanted more than once
    return [
        OrtValue(array_of(result, gpu) if isinstance(result, Tensor) else result)
        for result in map(by_name.__getitem__, names)
    ]
