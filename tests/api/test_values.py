# SPDX-License-Identifier: Apache-2.0
"""OrtValue, devices and sparse tensors."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

import bascule as ort

X = np.arange(6, dtype=np.float32).reshape(2, 3)
Value = ort.OrtValue


def test_a_value_shares_the_memory_of_its_array() -> None:
    x = X.copy()
    value = Value.ortvalue_from_numpy(x)
    x[0, 0] = 9
    assert value.numpy()[0, 0] == 9
    assert np.shares_memory(value.numpy(), x)
    assert value.data_ptr() == x.ctypes.data
    assert np.asarray(value) is value.numpy() or np.shares_memory(np.asarray(value), x)
    turned = Value.ortvalue_from_numpy(x.T)
    np.testing.assert_array_equal(turned.numpy(), x.T)
    assert not np.shares_memory(turned.numpy(), x)


def test_what_a_value_says() -> None:
    value = Value.ortvalue_from_numpy(X)
    assert value.shape() == [2, 3]
    assert value.data_type() == "tensor(float)"
    assert value.element_type() == TensorProto.FLOAT
    assert value.device_name() == "cpu"
    assert value.tensor_size_in_bytes() == 24
    assert value.is_tensor() and value.has_value()
    assert not value.is_tensor_sequence() and not value.is_sparse_tensor()
    assert value.__dlpack_device__() == (1, 0)
    np.testing.assert_array_equal(np.from_dlpack(value), X)
    assert value != Value.ortvalue_from_numpy(X)


def test_a_sequence() -> None:
    value = Value([X])
    assert value.is_tensor_sequence() and value.data_type() == "seq(tensor(float))"
    for method in (value.shape, value.numpy, value.data_ptr):
        with pytest.raises(RuntimeError):
            method()


@pytest.mark.parametrize("wrong", [[1.0], np.array(["a"]), np.array(["a"], object)])
def test_only_arrays_of_numbers(wrong: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^Creation of OrtValues is .* non-string numpy arrays"):
        Value.ortvalue_from_numpy(wrong)


def test_devices_of_values() -> None:
    with pytest.raises(RuntimeError, match="Can't allocate memory on the device"):
        Value.ortvalue_from_numpy(X, "dml", 0)
    with pytest.raises(Exception, match="Unsupported device type"):
        Value.ortvalue_from_numpy(X, "abacus")
    with pytest.raises(ValueError, match="object"):
        Value(object())


@pytest.mark.parametrize("kind", [np.float32, np.dtype("f4"), "float32", TensorProto.FLOAT])
def test_empty_memory(kind: Any) -> None:
    value = Value.ortvalue_from_shape_and_type([2, 3], kind)
    assert value.shape() == [2, 3] and value.data_type() == "tensor(float)"
    with pytest.raises(RuntimeError):
        Value.ortvalue_from_shape_and_type([2, -3], kind)


def test_reinterpreted_bytes() -> None:
    bits = np.array([0x3F80], np.uint16)
    value = Value.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
    assert value.data_type() == "tensor(bfloat16)"
    assert value.numpy().dtype == ml_dtypes.bfloat16 and float(value.numpy()[0]) == 1
    with pytest.raises(RuntimeError):
        Value.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.FLOAT)


def test_update_inplace() -> None:
    value = Value.ortvalue_from_numpy(X.copy())
    address = value.data_ptr()
    value.update_inplace(X * 2)
    assert value.data_ptr() == address
    np.testing.assert_array_equal(value.numpy(), X * 2)
    value.update_inplace(Value.ortvalue_from_numpy(X))
    np.testing.assert_array_equal(value.numpy(), X)
    with pytest.raises(RuntimeError):
        value.update_inplace(X[:1])
    with pytest.raises(TypeError):
        value.update_inplace(X.tolist())  # type: ignore[arg-type]


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_update_inplace_by_bytes(axes: int) -> None:
    value = Value(np.zeros((3, 1, 2), np.float16).T if axes else np.zeros((), np.int64))
    new = np.arange(value.tensor_size_in_bytes(), dtype=np.uint8)
    value.update_inplace(new.reshape(2, -1) if axes == 2 else new)
    assert value.numpy().tobytes() == new.tobytes()


def test_dlpack() -> None:
    for array in (X, np.zeros((0, 3), np.float32), np.array([True, False])):
        value = Value.from_dlpack(array)
        np.testing.assert_array_equal(value.numpy(), array)
    capsule = Value(X).__dlpack__()
    value = Value.from_dlpack(capsule)
    assert value.data_ptr() == X.ctypes.data
    with pytest.raises(RuntimeError):
        Value.from_dlpack(X.T)
    with pytest.raises(TypeError):
        Value.from_dlpack(3)


def test_a_capsule_keeps_its_memory() -> None:
    value = Value.from_dlpack(Value(np.arange(1000, dtype=np.float32)).__dlpack__())
    np.ones(1000, np.float32)
    np.testing.assert_array_equal(value.numpy(), np.arange(1000))


def test_devices() -> None:
    cpu = ort.OrtDevice.make("cpu", 0)
    assert (cpu.device_type(), cpu.device_vendor_id(), cpu.device_mem_type()) == (0, 0, 0)
    cuda = ort.OrtDevice.make("CUDA", 1)
    assert (cuda.device_type(), cuda.device_id(), cuda.device_vendor_id()) == (1, 1, 0x10DE)
    assert ort.OrtDevice.make("npu", 0).device_type() == 3
    with pytest.raises(Exception, match="Unsupported device type: abacus"):
        ort.OrtDevice.make("abacus", 0)


def test_memory_info() -> None:
    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    info = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
    assert (info.name, info.allocator_type, info.device_id) == ("Cpu", kind, 0)
    assert (info.device_mem_type, info.device_vendor_id) == (0, 0)
    with pytest.raises(RuntimeError):
        ort.OrtMemoryInfo("Abacus", kind, 0, ort.OrtMemType.DEFAULT)


def test_sparse_tensors() -> None:
    cpu = ort.OrtDevice.make("cpu", 0)
    values = np.array([1, 2], np.float32)
    coo = ort.SparseTensor.sparse_coo_from_numpy([3, 3], values, np.array([1, 5]), cpu)
    assert coo.format() == ort.OrtSparseFormat.ORT_SPARSE_COO
    assert coo.dense_shape() == [3, 3]
    assert (coo.data_type(), coo.device_name()) == ("sparse_tensor(float)", "cpu")
    assert coo.as_coo_view().indices().tolist() == [1, 5]
    assert not coo.values().flags.writeable and values.flags.writeable
    csr = ort.SparseTensor.sparse_csr_from_numpy(
        [3, 3], values, np.array([1, 2]), np.array([0, 1, 2, 2]), cpu
    )
    assert csr.as_csrc_view().inner().tolist() == [1, 2]
    assert csr.as_csrc_view().outer().tolist() == [0, 1, 2, 2]
    for wrong in (coo.as_csrc_view, csr.as_coo_view, coo.as_blocksparse_view):
        with pytest.raises(RuntimeError):
            wrong()
    with pytest.raises(RuntimeError):
        coo.to_cuda(cpu)
    with pytest.raises(RuntimeError):
        ort.SparseTensor.sparse_coo_from_numpy([3, 3], values, np.array([1]), cpu)
