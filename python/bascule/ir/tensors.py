# SPDX-License-Identifier: Apache-2.0
"""onnx.TensorProto to Constant: every way of storing elements, each checked before it is read."""

from __future__ import annotations

import math
import mmap
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.errors import Fail, InvalidGraph
from bascule.ir.check import require_text
from bascule.ir.constant import Constant, pack
from bascule.ir.dtype import DataType
from bascule.ir.graph import SparseConstant
from bascule.ir.walk import tensors_in
from bascule.ir.wire import LIST_BYTES, Payload, decode_varints, list_mark

if TYPE_CHECKING:
    import onnx

MAX_RANK = 64
"""NumPy's own limit; no operator needs more."""

MAX_DENSE_BYTES = 64 << 20
"""A sparse initializer may grow to this size when it is made dense."""

_RAW = 9
_EXTERNAL = 1
_TYPED_FIELDS: dict[int, tuple[str, Any]] = {
    4: ("float_data", np.float32),
    5: ("int32_data", np.int32),
    7: ("int64_data", np.int64),
    10: ("double_data", np.float64),
    11: ("uint64_data", np.uint64),
}
_FIELD_OF: dict[DataType, int] = {dtype: 5 for dtype in DataType} | {
    DataType.FLOAT: 4,
    DataType.COMPLEX64: 4,
    DataType.INT64: 7,
    DataType.DOUBLE: 10,
    DataType.COMPLEX128: 10,
    DataType.UINT32: 11,
    DataType.UINT64: 11,
}

External = Callable[[str, dict[str, str], int], memoryview]
"""(tensor name, external_data entries, bytes expected) -> the bytes."""


class TensorReader:
    """Makes Constants of TensorProtos whose big payloads were cut out by `wire.cut_payloads`."""

    def __init__(
        self, payloads: list[Payload], nonce: int, external: External, mapped: bool
    ) -> None:
        self._payloads = payloads
        self._nonce = nonce
        self._external = external
        self._mapped = mapped

    def read(self, proto: onnx.TensorProto, where: str) -> Constant:
        """`where` names the tensor in errors."""
        dtype = element_type(proto.data_type, where)
        shape = checked_shape(proto.dims, dtype, where)
        cut, inline = self._payload(proto, where)
        if proto.data_location == _EXTERNAL:
            if dtype is DataType.STRING:
                raise InvalidGraph(
                    f"Tensor '{where}' holds strings, which cannot be external data."
                )
            nbytes = (math.prod(shape) * dtype.bits + 7) // 8
            data = self._external(where, _external_entries(proto, where), nbytes)
            # Contents given in memory are no file: their pages would not come back.
            return Constant(dtype, shape, data, mapped=isinstance(data.obj, mmap.mmap))
        if dtype is DataType.STRING:
            return Constant(dtype, shape, strings=_strings(proto, shape, where))
        if cut is not None:
            if cut.field == _RAW:
                return _from_raw(dtype, shape, cut.data, where, mapped=self._mapped)
            inline = [cut.field]
        elif not inline:
            return _from_raw(dtype, shape, memoryview(proto.raw_data), where, mapped=False)
        if inline[0] != _FIELD_OF[dtype]:
            name = _TYPED_FIELDS[inline[0]][0]
            raise InvalidGraph(f"Tensor '{where}' keeps {dtype.onnx_name} elements in {name}.")
        if cut is None:
            name, numpy_type = _TYPED_FIELDS[inline[0]]
            array = np.array(getattr(proto, name), dtype=numpy_type)
        elif cut.field in (4, 10):  # packed floats are in raw form already
            return _from_raw(dtype, shape, cut.data, where, mapped=self._mapped)
        else:
            array = decode_varints(cut.data).view(np.int64)
        return _from_raw(dtype, shape, _to_raw(array, dtype), where, mapped=False)

    def _payload(self, proto: onnx.TensorProto, where: str) -> tuple[Payload | None, list[int]]:
        """What was cut out of the tensor, and the typed fields in it; refused when it has two."""
        cut = self._cut_payload(proto, where)
        inline = [
            number for number, (name, _) in _TYPED_FIELDS.items() if len(getattr(proto, name))
        ]
        sources = len(inline) + bool(proto.raw_data) + bool(len(proto.string_data))
        if sources + (cut is not None) + (proto.data_location == _EXTERNAL) > 1:
            raise InvalidGraph(
                f"Tensor '{where}' stores its elements twice; exactly one of raw_data, the typed "
                "fields and external data may be used."
            )
        return cut, inline

    def check_unread(self, message: Any) -> None:
        """Refuse `message`, which nothing reads, for a tensor in it that has two payloads."""
        for tensor in tensors_in(message):
            self._payload(tensor, tensor.name)

    def read_numbers(self, proto: onnx.AttributeProto) -> list[Any] | array[Any]:
        """The list of an attribute of type FLOATS or INTS."""
        is_float = proto.type == 6 or (proto.type == 0 and len(proto.floats) > 0)
        numbers: Any = proto.floats if is_float else proto.ints
        code = "f" if is_float else "q"
        mark = list_mark(self._nonce, "")
        if self._payloads and proto.doc_string.startswith(mark):
            found = array(code)
            found.frombytes(self._payloads[int(proto.doc_string[len(mark) :])].data)
            return found
        return array(code, numbers) if len(numbers) * 4 > LIST_BYTES else list(numbers)

    def _cut_payload(self, proto: onnx.TensorProto, where: str) -> Payload | None:
        if not proto.HasField("segment"):
            return None
        segment = proto.segment
        if segment.end != self._nonce or not 0 <= segment.begin < len(self._payloads):
            raise InvalidGraph(f"Tensor '{where}' is a segment of a tensor, which has no meaning.")
        return self._payloads[int(segment.begin)]

    def read_sparse(self, proto: onnx.SparseTensorProto, where: str) -> SparseConstant:
        values = self.read(proto.values, where)
        indices = self.read(proto.indices, f"{where} (indices)")
        shape = checked_shape(proto.dims, values.dtype, where)
        count = values.shape[0] if len(values.shape) == 1 else -1
        if count < 0 or indices.shape not in ((count,), (count, len(shape))):
            raise InvalidGraph(
                f"Sparse tensor '{where}' has values of shape {values.shape} and indices of shape "
                f"{indices.shape}; expected [N] and [N] or [N, {len(shape)}]."
            )
        if indices.dtype is not DataType.INT64:
            raise InvalidGraph(f"Sparse tensor '{where}' has indices that are not int64.")
        bounds = np.array(shape if indices.shape != (count,) else [math.prod(shape)])
        found = indices.numpy().reshape(count, len(bounds))
        if count and ((found < 0).any() or (found >= bounds).any()):
            raise InvalidGraph(f"Sparse tensor '{where}' has an index out of bounds.")
        steps = np.array([math.prod(bounds[axis + 1 :]) for axis in range(len(bounds))], np.int64)
        if (np.diff(found @ steps) <= 0).any():
            raise InvalidGraph(f"Sparse tensor '{where}' has indices that do not ascend.")
        return SparseConstant(values, indices, shape)


def densify(sparse: SparseConstant, where: str) -> Constant:
    """The dense form of a sparse initializer."""
    values = sparse.values.numpy()
    size = math.prod(sparse.shape)
    if size * values.dtype.itemsize > MAX_DENSE_BYTES:
        raise InvalidGraph(
            f"Sparse initializer '{where}' of shape {sparse.shape} would take "
            f"{size * values.dtype.itemsize} bytes in dense form, more than {MAX_DENSE_BYTES}."
        )
    dense = np.zeros(sparse.shape, dtype=values.dtype)
    if sparse.values.dtype is DataType.STRING:
        dense.fill("")
    indices = sparse.indices.numpy()
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return Constant.from_numpy(dense)


def element_type(number: int, where: str) -> DataType:
    try:
        dtype = DataType(number)
    except ValueError:
        dtype = DataType.UNDEFINED
    if dtype is DataType.UNDEFINED:
        raise InvalidGraph(f"Tensor '{where}' has the unknown element type {number}.")
    return dtype


def checked_shape(dims: Any, dtype: DataType, where: str) -> tuple[int, ...]:
    """`dims` as a shape, refused when no array of this shape could exist."""
    shape = tuple(dims)
    if len(shape) > MAX_RANK:
        raise InvalidGraph(
            f"Tensor '{where}' has rank {len(shape)}; at most {MAX_RANK} is allowed."
        )
    if any(dim < 0 for dim in shape):
        raise InvalidGraph(f"Tensor '{where}' has a negative size in its shape {list(shape)}.")
    if math.prod(dim for dim in shape if dim) * max(dtype.numpy.itemsize, 1) >= 1 << 63:
        raise InvalidGraph(f"Tensor '{where}' of shape {list(shape)} is too large to exist.")
    return shape


def _external_entries(proto: onnx.TensorProto, where: str) -> dict[str, str]:
    entries = {entry.key: entry.value for entry in proto.external_data}
    require_text(*entries, *entries.values())
    if len(entries) < len(proto.external_data):
        raise InvalidGraph(f"External data of tensor '{where}' is described twice.")
    return entries


def _from_raw(
    dtype: DataType, shape: tuple[int, ...], raw: memoryview, where: str, *, mapped: bool
) -> Constant:
    size = math.prod(shape)
    expected = (size * dtype.bits + 7) // 8
    if len(raw) != expected:
        raise InvalidGraph(
            f"Tensor '{where}' of shape {list(shape)} and type {dtype.onnx_name} has {len(raw)} "
            f"bytes of data; expected {expected}."
        )
    if dtype is DataType.BOOL and size:
        array = np.frombuffer(raw, np.uint8)
        if array.max() > 1:  # any other byte would be undefined behaviour in C++
            return Constant(dtype, shape, memoryview((array != 0).view(np.uint8)))
    return Constant(dtype, shape, raw, mapped=mapped)


def _to_raw(array: np.ndarray[Any, Any], dtype: DataType) -> memoryview:
    """Elements of a typed field to the raw form."""
    if dtype.bits == 6:
        array = pack(array.astype(np.uint8), 6)
    elif dtype.bits < 8:
        array = array.astype(np.uint8)
    elif array.dtype.itemsize * 8 > dtype.bits:
        array = array.astype(f"u{dtype.bits // 8}")
    if not array.size:
        return memoryview(b"")
    return np.ascontiguousarray(array).view(np.uint8).data


def _strings(proto: onnx.TensorProto, shape: tuple[int, ...], where: str) -> np.ndarray[Any, Any]:
    items = proto.string_data
    if len(items) != math.prod(shape):
        raise Fail(
            f"Tensor '{where}' of shape {list(shape)} has {len(items)} strings; "
            f"expected {math.prod(shape)}."
        )
    strings = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        strings[index] = item.decode("utf-8", "surrogateescape")
    return strings.reshape(shape)
