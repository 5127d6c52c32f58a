# SPDX-License-Identifier: Apache-2.0
"""Turn what a caller passes to `run` into values a Program takes, or say what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bascule import dlpack
from bascule.device_memory import gpu_array, is_on_gpu, tensor_of
from bascule.errors import Fail, InvalidArgument, add_details
from bascule.ir.dtype import DataType
from bascule.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    Shape,
    TensorType,
    Type,
    shared_sizes,
)
from bascule.providers.cuda.tensor import Tensor
from bascule.values import OrtValue


class Signature:
    """The inputs and outputs of a session, as checks need them.

    `inputs` are (name, type) in graph order; `defaults` are initializers that a feed may override:
    all other inputs must be fed, but for optional ones.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[str, Type | None]],
        outputs: Sequence[str],
        defaults: Mapping[str, Any],
    ) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        # A file may hold initializers at addresses that native code does not read from.
        self.defaults = {name: np.require(d, requirements="A") for name, d in defaults.items()}
        self.types = dict(inputs)
        self._shared = shared_sizes([type_ for _, type_ in self.inputs])

    def output_numbers(self, names: Any) -> list[int]:
        """Positions of the outputs asked for; [] stands for all of them."""
        if names is None:
            return []
        if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
            raise TypeError(
                "incompatible function arguments: output_names must be None or a list of str, "
                f"not {type(names).__name__}"
            )
        numbers = []
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"incompatible function arguments: output name {name!r} is no str")
            if name not in self.outputs:
                raise InvalidArgument(f"Invalid output name:{name}", outputs=self.outputs)
            numbers.append(self.outputs.index(name))
        return numbers

    def check_missing(self, feeds: Any) -> None:
        """That a feed is a dict with all that must be fed."""
        if not hasattr(feeds, "items") or not hasattr(feeds, "keys"):
            raise AttributeError(
                f"incompatible function arguments: input_feed must be a dict from input name to "
                f"value, not {type(feeds).__name__}"
            )
        missing = [
            name
            for name, type_ in self.inputs
            if name not in feeds
            and name not in self.defaults
            and not isinstance(type_, OptionalType)
        ]
        if missing:
            raise ValueError(
                f"Required inputs ({missing}) are missing from input feed ({list(feeds)})."
            )

    def check_names(self, feeds: Any) -> None:
        """The names of a feed, before any value is looked at."""
        self.check_missing(feeds)
        for name in feeds:
            if name not in self.types:
                raise InvalidArgument(
                    f"Invalid input name: {name}", inputs=[n for n, _ in self.inputs]
                )

    def names_hold(self, values: Sequence[Any]) -> bool:
        """Whether sizes of one name are equal in these values (one per input, in order)."""
        return all(
            np.shape(values[i])[axis] == np.shape(values[j])[other]
            for i, axis, j, other in self._shared
            if values[i] is not None and values[j] is not None
        )

    def values(self, feeds: Mapping[str, Any]) -> list[Any]:
        """One native-ready object per input, in order."""
        self.check_names(feeds)
        result = []
        for name, type_ in self.inputs:
            if name in feeds and not (feeds[name] is None and name in self.defaults):
                try:
                    result.append(convert(name, feeds[name], type_))
                except InvalidArgument as error:
                    add_details(error, signature=self)
                    raise
            else:
                result.append(self.defaults.get(name))
        return result

    def __str__(self) -> str:
        """The inputs as ``x float[batch,3], mask int64[batch]``."""
        # Imported here: only errors are told so, and it imports the graph.
        from bascule.ir.printer import format_type

        return ", ".join(f"{name} {format_type(type_)}" for name, type_ in self.inputs)


def convert(name: str, value: Any, type_: Type | None) -> Any:
    """`value` for the input `name` of type `type_`: an array, a list, a dict or None."""
    if isinstance(value, OrtValue):
        value = value._given
    if isinstance(type_, OptionalType):
        return None if value is None else convert(name, value, type_.element)
    if value is None:
        raise Fail(f"Missing Input: {name}")
    if isinstance(type_, SequenceType):
        if not isinstance(value, list):
            raise InvalidArgument(
                f"Input '{name}' expected to be of type: 3 but received a tensor", expected=type_
            )
        return [convert(f"{name}[{i}]", item, type_.element) for i, item in enumerate(value)]
    if isinstance(type_, MapType):
        if not isinstance(value, dict):
            raise RuntimeError(f"Input '{name}' must be one dict, not {type(value).__name__}")
        element = type_.value
        if isinstance(element, TensorType):  # one element a key, whatever shape the model declares
            element = TensorType(element.dtype)
        return {
            _map_key(name, key, type_): convert(
                f"{name}[{key!r}]", _map_item(item, element), element
            )
            for key, item in value.items()
        }
    if not isinstance(type_, TensorType):
        return value
    array = _tensor(name, value, type_)
    _check_shape(name, array.shape, type_.shape)
    return array


def _map_key(name: str, key: Any, type_: MapType) -> Any:
    """A key as int or str."""
    if type_.key is DataType.STRING:
        if isinstance(key, str):
            return key
    elif isinstance(key, (int, np.integer)) and -(1 << 63) <= key < 1 << 63:
        return int(key)
    raise InvalidArgument(
        f"Unexpected key {key!r} of type {type(key).__name__} for input '{name}'", expected=type_
    )


def _map_item(item: Any, type_: Type) -> Any:
    """Python numbers, the usual values of a map, take the element type; the rest stays."""
    if isinstance(item, (bool, int, float, str)) and isinstance(type_, TensorType):
        text, fraction = isinstance(item, str), isinstance(item, float)
        if text == (type_.dtype is DataType.STRING) and not (fraction and type_.dtype.is_integer):
            with np.errstate(over="ignore"):
                return np.array(item, type_.dtype.numpy)
    return np.asarray(item) if isinstance(item, (np.generic, str, float)) else item


def _tensor(name: str, value: Any, type_: TensorType) -> Any:
    if isinstance(value, list):
        value = _from_list(name, value, type_)
    elif isinstance(value, Tensor):
        return _of_type(name, value, type_)
    elif not isinstance(value, np.ndarray):
        if is_on_gpu(value):
            return _on_gpu(name, value, type_)
        value = _from_protocol(name, value, type_)
    array: np.ndarray[Any, Any] = np.asarray(value)
    if type_.dtype is DataType.STRING:
        if not _is_text(array.dtype):
            raise _wrong_dtype(name, array.dtype, array.shape, type_)
        return _strings(array)
    try:
        actual = DataType.from_numpy(array.dtype.newbyteorder("="))
    except TypeError:
        raise _wrong_dtype(name, array.dtype, array.shape, type_) from None
    if actual is not type_.dtype:
        raise _wrong_dtype(name, array.dtype, array.shape, type_)
    # ascontiguousarray would turn a scalar into a vector.
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return array if array.flags.aligned else array.copy()


def _on_gpu(name: str, value: Any, type_: TensorType) -> Any:
    """A Tensor over the memory of an array on a GPU."""
    try:
        array = gpu_array(value)
    except (RuntimeError, BufferError, TypeError, ValueError) as error:
        raise RuntimeError(f"Unable to handle the GPU array of input '{name}': {error}") from None
    return _of_type(name, tensor_of(array), type_)


def _of_type(name: str, tensor: Tensor, type_: TensorType) -> Tensor:
    if tensor.dtype is not type_.dtype:
        raise _wrong_dtype(name, tensor.dtype.numpy, tensor.shape, type_)
    return tensor


def _from_list(name: str, value: list[Any], type_: TensorType) -> np.ndarray[Any, Any]:
    try:
        dtype = object if type_.dtype is DataType.STRING else type_.dtype.numpy
        return np.array(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise RuntimeError(f"Input '{name}': cannot make {type_} from a list: {error}") from None


def _from_protocol(name: str, value: Any, type_: TensorType) -> Any:
    python_scalar = isinstance(value, (int, float, complex, str, bytes))
    if isinstance(value, np.generic) or not python_scalar:
        if hasattr(value, "__dlpack__"):
            try:
                return dlpack.import_array(value)
            except (BufferError, RuntimeError, TypeError, ValueError):
                pass  # text, or memory that is laid out in another way
        if hasattr(value, "__array__"):
            try:
                return np.asarray(value)
            except (RuntimeError, TypeError, ValueError) as error:
                raise RuntimeError(
                    f"Unable to handle object of type {type(value)} for input '{name}': {error}"
                ) from None
    raise RuntimeError(
        f"Unable to handle object of type {type(value)}. Input must be a list of dictionaries or "
        f"a single numpy array for input '{name}', expected {type_}."
    )


def _is_text(dtype: np.dtype[Any]) -> bool:
    # The types of ml_dtypes are of kind V too.
    return dtype.kind in "OUST" or dtype.type is np.void


def _strings(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype.kind == "O" and set(map(type, array.flat)) <= {str}:
        return array
    result = np.empty(array.shape, dtype=object)
    for index, item in np.ndenumerate(array):
        if isinstance(item, np.void):
            item = item.tobytes()
        if isinstance(item, bytes):
            result[index] = item.rstrip(b"\0").decode("utf-8", "surrogateescape")
        else:
            result[index] = str(item)
    return result


def _wrong_dtype(
    name: str, found: np.dtype[Any], shape: Sequence[int], type_: TensorType
) -> InvalidArgument:
    fix = ""
    try:
        dtype = DataType.from_numpy(found.newbyteorder("="))
        actual = f"tensor({dtype.onnx_name})"
        if DataType.STRING not in (dtype, type_.dtype):
            fix = f"feed {name}.astype('{type_.dtype.numpy.name}')"
    except TypeError:
        actual = f"array of {found}"
    return InvalidArgument(
        f"Unexpected input data type. Actual: ({actual}) , expected: ({type_})",
        input=name,
        shape=list(shape),
        fix=fix,
    )


def _check_shape(name: str, actual: tuple[int, ...], expected: Shape | None) -> None:
    if expected is None:
        return
    fits = len(actual) == len(expected)
    if fits and all(d == got or not isinstance(d, int) for got, d in zip(actual, expected)):
        return
    wanted = [dim if dim is not None else "?" for dim in expected]
    if not fits:
        raise InvalidArgument(
            f"Invalid rank for input: {name} Got: {len(actual)} Expected: {len(expected)} "
            "Please fix either the inputs/outputs or the model.",
            got=list(actual),
            expected=wanted,
        )
    wrong = [
        f" index: {axis} Got: {got} Expected: {dim}"
        for axis, (got, dim) in enumerate(zip(actual, expected))
        if isinstance(dim, int) and dim != got
    ]
    raise InvalidArgument(
        f"Got invalid dimensions for input: {name} for the following indices\n"
        + "\n".join(wrong)
        + "\n Please fix either the inputs/outputs or the model.",
        got=list(actual),
        expected=wanted,
    )
