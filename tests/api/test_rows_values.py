# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: OrtValue, OrtValueVector, devices, memory, sparse."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.api.models import model, tensor
from tests.api.rows import Rows

row = Rows({})
CPU = "CPUExecutionProvider"


def x() -> Any:
    return np.arange(6, dtype=np.float32).reshape(2, 3)


def state(ort: Any) -> Any:
    return importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")


def cast(ort: Any, dtype: int, to: int) -> Any:
    node = helper.make_node("Cast", ["x"], ["y"], to=to)
    proto = model([node], [tensor("x", dtype, None)], [tensor("y", to, None)], opset=23)
    return ort.InferenceSession(proto.SerializeToString(), providers=[CPU])


# --- OrtValue


@row("OrtValue.ortvalue_from_numpy")
def _(ort: Any) -> None:
    array = x()
    value = ort.OrtValue.ortvalue_from_numpy(array)
    array[0, 0] = 9
    assert value.numpy()[0, 0] == 9 and value.data_ptr() == array.ctypes.data
    turned = ort.OrtValue.ortvalue_from_numpy(array.T)
    assert turned.shape() == [3, 2] and not np.shares_memory(turned.numpy(), array)
    other = ort.OrtValue.ortvalue_from_numpy(array, device_type="cpu", device_id=0, vendor_id=-1)
    np.testing.assert_array_equal(other.numpy(), array)
    for wrong in (
        [1.0],
        np.array(["a"]),
        np.array(["a"], object),
        np.array([1], ml_dtypes.bfloat16),
    ):
        if ort.__name__ == "bascule" and getattr(wrong, "dtype", None) == ml_dtypes.bfloat16:
            assert ort.OrtValue.ortvalue_from_numpy(wrong).data_type() == "tensor(bfloat16)"
            continue
        with pytest.raises(RuntimeError, match="only supported from non-string numpy arrays"):
            ort.OrtValue.ortvalue_from_numpy(wrong)
    with pytest.raises(TypeError):
        ort.OrtValue.ortvalue_from_numpy(array=array)


@row("OrtValue.ortvalue_from_numpy ml_dtypes", only=True)
def _(ort: Any) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(np.array([1], ml_dtypes.bfloat16))
    assert value.data_type() == "tensor(bfloat16)"


@row("OrtValue on an absent device")
def _(ort: Any) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("there is a GPU")
    make = ort.OrtValue.ortvalue_from_numpy
    for name in ("cuda", "gpu", "dml"):
        with pytest.raises(RuntimeError, match="Can't allocate memory on the"):
            make(x(), name, 0)
        with pytest.raises(RuntimeError, match="Can't allocate memory on the"):
            ort.OrtValue.ortvalue_from_shape_and_type([2], np.float32, name, 0)
    with pytest.raises(Exception, match="Unsupported device type"):
        make(x(), "abacus", 0)


@row("OrtValue.ortvalue_from_shape_and_type")
def _(ort: Any) -> None:
    make = ort.OrtValue.ortvalue_from_shape_and_type
    for kind in (np.float32, np.dtype("f4"), "float32", TensorProto.FLOAT):
        value = make([2, 3], kind)
        assert value.shape() == [2, 3] and value.data_type() == "tensor(float)"
    assert make([2], TensorProto.BFLOAT16).data_type() == "tensor(bfloat16)"
    assert make(shape=[2], element_type=np.int8, device_type="cpu").element_type() == 3
    assert make([2], ">f4").numpy().dtype == np.float32
    for kind in (np.str_, TensorProto.STRING, TensorProto.UNDEFINED, 99, "tensor(float)"):
        with pytest.raises(RuntimeError):
            make([2], kind)
    for shape in ([2, -3], [1 << 40, 1 << 40]):
        with pytest.raises(RuntimeError):
            make(shape, np.float32)


@row("OrtValue.ortvalue_from_shape_and_type memory_info", only=True)
def _(ort: Any) -> None:
    kind, use = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    info = ort.OrtMemoryInfo("Cpu", kind, 0, use)
    make = ort.OrtValue.ortvalue_from_shape_and_type
    assert make([2], np.float32, memory_info=info).device_name() == "cpu"
    elsewhere = ort.OrtMemoryInfo("DML", kind, 0, use)
    with pytest.raises(RuntimeError, match="No shared allocator found"):
        make([2], np.float32, memory_info=elsewhere)


@row("OrtValue.ortvalue_from_numpy_with_onnx_type")
def _(ort: Any) -> None:
    make = ort.OrtValue.ortvalue_from_numpy_with_onnx_type
    value = make(np.array([0x3F80, 0x4000], np.uint16), TensorProto.BFLOAT16)
    assert value.data_type() == "tensor(bfloat16)" and value.shape() == [2]
    wider = cast(ort, TensorProto.BFLOAT16, TensorProto.FLOAT)
    (found,) = wider.run_with_ort_values(["y"], {"x": value})
    assert found.numpy().tolist() == [1, 2]
    assert make(np.array([1], np.uint16).view("V2"), TensorProto.BFLOAT16).shape() == [1]
    for array, kind in (
        (np.array([1], np.uint16), TensorProto.FLOAT),
        (np.array([1], np.int64), TensorProto.STRING),
        (np.array([1], np.int64), 99),
    ):
        with pytest.raises(RuntimeError):
            make(array, kind)


@row("OrtValue.ortvalue_from_numpy_with_onnx_type int4")
def _(ort: Any) -> None:
    packed = np.array([0x71, 0x8F, 0xFF], np.uint8)  # three elements lie in the first two bytes
    value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(packed, TensorProto.INT4)
    assert value.shape() == [3] and value.data_type() == "tensor(int4)"
    wider = cast(ort, TensorProto.INT4, TensorProto.INT8)
    (found,) = wider.run_with_ort_values(["y"], {"x": value})
    assert found.numpy().tolist() == [1, 7, -1]


@row("OrtValue.ort_value_from_sparse_tensor", "OrtValue.as_sparse_tensor")
def _(ort: Any) -> None:
    cpu = ort.OrtDevice.make("cpu", 0)
    values = np.array([1, 2], np.float32)
    sparse = ort.SparseTensor.sparse_coo_from_numpy([3, 3], values, np.array([1, 5]), cpu)
    value = ort.OrtValue.ort_value_from_sparse_tensor(sparse)
    assert value.is_sparse_tensor() and not value.is_tensor() and value.has_value()
    assert value.data_type() == "sparse_tensor(float)" and value.element_type() == 1
    assert value.shape() == [3, 3] and value.device_name() == "cpu"
    np.testing.assert_array_equal(value.as_sparse_tensor().values(), values)
    for method in (value.numpy, value.data_ptr, value.tensor_size_in_bytes):
        with pytest.raises(RuntimeError):
            method()
    with pytest.raises(RuntimeError, match="does not contain SparseTensor"):
        ort.OrtValue.ortvalue_from_numpy(x()).as_sparse_tensor()
    with pytest.raises(AttributeError):
        ort.OrtValue.ort_value_from_sparse_tensor(values)


@row("OrtValue.from_dlpack")
def _(ort: Any) -> None:
    for array in (x(), np.zeros((0, 3), np.float32), np.array([True, False]), np.array(3)):
        value = ort.OrtValue.from_dlpack(array)
        np.testing.assert_array_equal(value.numpy(), array)
    array = x()
    assert ort.OrtValue.from_dlpack(array).data_ptr() == array.ctypes.data
    value = ort.OrtValue.from_dlpack(array.__dlpack__())
    assert value.data_ptr() == array.ctypes.data
    for wrong in (x().T, x()[:, :2]):
        with pytest.raises(RuntimeError, match="only supports contiguous tensor"):
            ort.OrtValue.from_dlpack(wrong)
    with pytest.raises(RuntimeError, match="Unsupported DLPack data type"):
        ort.OrtValue.from_dlpack(np.array([1j]))
    with pytest.raises(TypeError):
        ort.OrtValue.from_dlpack(3)


@row("OrtValue.from_dlpack bfloat16")
def _(ort: Any) -> None:
    torch = pytest.importorskip("torch")
    source = torch.ones(3, dtype=torch.bfloat16)
    value = ort.OrtValue.from_dlpack(source)
    assert value.data_type() == "tensor(bfloat16)" and value.data_ptr() == source.data_ptr()


@row("OrtValue.numpy", "OrtValue.__array__")
def _(ort: Any) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(x())
    value.numpy()[0, 0] = 7
    assert value.numpy()[0, 0] == 7
    assert np.shares_memory(np.asarray(value), value.numpy())
    assert np.asarray(value, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(value, dtype=np.float32), value.numpy())
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # before, it copied where it had to
        assert np.shares_memory(np.array(value, copy=False), value.numpy())
        with pytest.raises(ValueError, match=r"."):
            np.array(value, dtype=np.float64, copy=False)
    copied = np.array(value, copy=True)
    assert not np.shares_memory(copied, value.numpy())
    view = value.numpy()
    del value
    gc.collect()
    assert view[0, 0] == 7


@row("OrtValue.__dlpack__", "OrtValue.__dlpack_device__")
def _(ort: Any) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(x())
    assert value.__dlpack_device__() == (1, 0)
    np.testing.assert_array_equal(np.from_dlpack(value), x())
    assert value.__dlpack__(stream=None) is not None
    raw = state(ort).OrtValue.from_dlpack(value._ortvalue.to_dlpack())
    assert raw.data_ptr() == value.data_ptr()


@row(
    *("OrtValue.shape", "OrtValue.data_type", "OrtValue.element_type", "OrtValue.device_name"),
    *("OrtValue.data_ptr", "OrtValue.tensor_size_in_bytes"),
    *("OrtValue.is_tensor", "OrtValue.is_tensor_sequence", "OrtValue.is_sparse_tensor"),
    "OrtValue.has_value",
)
def _(ort: Any) -> None:
    array = x()
    value = ort.OrtValue.ortvalue_from_numpy(array)
    assert value.shape() == [2, 3] and value.data_type() == "tensor(float)"
    assert value.element_type() == TensorProto.FLOAT and value.device_name() == "cpu"
    assert value.data_ptr() == array.ctypes.data and value.tensor_size_in_bytes() == 24
    assert value.is_tensor() and value.has_value()
    assert not value.is_tensor_sequence() and not value.is_sparse_tensor()


@row("OrtValue of a sequence")
def _(ort: Any) -> None:
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["y"])
    output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    proto = model([node], [tensor("x")], [output])
    made = ort.InferenceSession(proto.SerializeToString(), providers=[CPU])
    feed = {"x": ort.OrtValue.ortvalue_from_numpy(x())}
    (value,) = made.run_with_ort_values(["y"], feed)
    assert value.is_tensor_sequence() and value.data_type() == "seq(tensor(float))"
    assert value.element_type() == TensorProto.FLOAT
    for method in (value.shape, value.numpy, value.data_ptr, value.tensor_size_in_bytes):
        with pytest.raises(RuntimeError):
            method()


@row("OrtValue.update_inplace")
def _(ort: Any) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(x())
    address = value.data_ptr()
    value.update_inplace(x() * 2)
    value.update_inplace(ort.OrtValue.ortvalue_from_numpy((x() * 3).reshape(-1)))
    np.testing.assert_array_equal(value.numpy(), x() * 3)
    value.update_inplace(np.zeros(6, np.int32))
    assert value.data_ptr() == address and not value.numpy().any()
    with pytest.raises(RuntimeError):
        value.update_inplace(x()[:1])
    with pytest.raises(RuntimeError, match="non-string numpy arrays"):
        value.update_inplace(np.array(["abcdef"]))  # as many bytes
    with pytest.raises(TypeError):
        value.update_inplace([1.0] * 6)


@row("OrtValue compared, measured and made of foreign objects")
def _(ort: Any) -> None:
    first, second = (ort.OrtValue.ortvalue_from_numpy(x()) for _ in range(2))
    assert first == first and first != second
    with pytest.raises(TypeError):
        len(first)
    with pytest.raises(ValueError, match=r"."):
        ort.OrtValue(object())


@row(
    *("OrtValueVector.reserve", "OrtValueVector.push_back", "OrtValueVector.len"),
    *("OrtValueVector.[i]", "OrtValueVector.element_type_at", "OrtValueVector.dlpack_at"),
    *("OrtValueVector.to_dlpacks", "OrtValueVector.push_back_batch"),
)
def _(ort: Any) -> None:
    array = x()
    value = ort.OrtValue.ortvalue_from_numpy(array)
    vector = state(ort).OrtValueVector()
    vector.reserve(3)
    vector.push_back(value._ortvalue)
    vector.push_back(array.__dlpack__())
    cpu = ort.OrtDevice.make("cpu", 0)._get_c_device()
    address = array.ctypes.data
    vector.push_back_batch([array], [address], [np.float32], [[2, 3]], [cpu])
    assert len(vector) == 3 and bool(vector) and len(list(vector)) == 3
    for i in range(3):
        assert vector.element_type_at(i) == TensorProto.FLOAT
        assert vector[i].data_ptr() == address and vector[i].shape() == [2, 3]
        capsule = vector.dlpack_at(i)
        assert ort.OrtValue.from_dlpack(capsule).data_ptr() == address
    assert len(vector.to_dlpacks(None)) == 3
    assert vector.to_dlpacks(lambda capsule: 5) == [5] * 3
    with pytest.raises(IndexError):
        vector[3]
    with pytest.raises(TypeError):
        vector[-1]
    vector.shrink_to_fit()


def test_a_vector_keeps_foreign_memory() -> None:
    from bascule import OrtDevice
    from bascule.values_vector import OrtValueVector

    vector = OrtValueVector()
    array = np.arange(1000, dtype=np.float32)
    cpu = OrtDevice.make("cpu", 0)
    vector.push_back_batch([array], [array.ctypes.data], [np.float32], [[1000]], [cpu])
    view = vector[0].numpy()
    del array, vector
    gc.collect()
    np.testing.assert_array_equal(view, np.arange(1000))


# --- devices and memory


@row("OrtDevice.make")
def _(ort: Any) -> None:
    for name in ("cpu", "cuda", "dml", "cann", "webgpu", "npu"):
        assert ort.OrtDevice.make(name, 1).device_id() == 1
    with pytest.raises(Exception, match="Unsupported device type: abacus"):
        ort.OrtDevice.make("abacus", 0)


@row(
    *("OrtDevice.device_id", "OrtDevice.device_type"),
    *("OrtDevice.device_vendor_id", "OrtDevice.device_mem_type"),
)
def _(ort: Any) -> None:
    cpu, cuda = ort.OrtDevice.make("cpu", 0), ort.OrtDevice.make("cuda", 2)
    numbers = (cpu.device_type(), cpu.device_vendor_id(), cpu.device_mem_type())
    assert numbers == (0, 0, 0)
    assert (cuda.device_type(), cuda.device_id(), cuda.device_vendor_id()) == (1, 2, 0x10DE)
    assert ort.OrtDevice.make("npu", 0).device_type() == 3
    assert ort.OrtDevice.make("gpu", 0, 0x1002).device_vendor_id() == 0x1002


@row("OrtDevice of the extension module")
def _(ort: Any) -> None:
    raw = state(ort)
    kind = raw.OrtDevice
    made = kind(kind.cpu(), kind.default_memory(), 0)
    assert (made.device_type(), made.device_id()) == (0, 0)
    value = raw.OrtValue.ortvalue_from_numpy(x(), made)
    np.testing.assert_array_equal(value.numpy(), x())
    assert kind(kind.cuda(), kind.default_memory(), 0x10DE, 3).device_id() == 3


@row("OrtMemoryInfo")
def _(ort: Any) -> None:
    kind, use = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    info = ort.OrtMemoryInfo("Cpu", kind, 0, use)
    assert (info.name, info.device_id, info.mem_type) == ("Cpu", 0, use)
    assert info.allocator_type == kind and info.device_vendor_id == 0
    assert info.device_mem_type == ort.OrtDeviceMemoryType.DEFAULT
    assert ort.OrtMemoryInfo("Cuda", kind, 1, use).device_vendor_id == 0x10DE
    pinned = ort.OrtMemoryInfo("CudaPinned", kind, 1, use)
    assert pinned.device_mem_type == ort.OrtDeviceMemoryType.HOST_ACCESSIBLE
    with pytest.raises(RuntimeError):
        ort.OrtMemoryInfo("Abacus", kind, 0, use)


@row("OrtMemoryInfo.create_v2")
def _(ort: Any) -> None:
    info = ort.OrtMemoryInfo.create_v2(
        "Any name",
        ort.OrtMemoryInfoDeviceType.GPU,
        0x10DE,
        1,
        ort.OrtDeviceMemoryType.HOST_ACCESSIBLE,
        256,
        ort.OrtAllocatorType.ORT_DEVICE_ALLOCATOR,
    )
    assert (info.name, info.device_id, info.device_vendor_id) == ("Any name", 1, 0x10DE)
    assert info.mem_type == ort.OrtMemType.CPU_OUTPUT
    assert info.allocator_type == ort.OrtAllocatorType.ORT_DEVICE_ALLOCATOR
    assert info.device_mem_type == ort.OrtDeviceMemoryType.HOST_ACCESSIBLE


@row("OrtArenaCfg")
def _(ort: Any) -> None:
    config = ort.OrtArenaCfg(1, 1, 3, 4)
    assert (config.max_mem, config.arena_extend_strategy) == (1, 1)
    assert (config.initial_chunk_size_bytes, config.max_dead_bytes_per_chunk) == (3, 4)
    assert config.initial_growth_chunk_size_bytes == config.max_power_of_two_extend_bytes == -1
    config = ort.OrtArenaCfg({"max_mem": 5})
    assert config.max_mem == 5 and config.arena_extend_strategy == -1
    config.max_mem = 7
    assert config.max_mem == 7
    with pytest.raises(RuntimeError, match="Invalid OrtArenaCfg option: max_mems"):
        ort.OrtArenaCfg({"max_mems": 5})
    with pytest.raises(TypeError):
        ort.OrtArenaCfg()


# --- SparseTensor


@row("SparseTensor.sparse_coo_from_numpy", "SparseTensor.values", "SparseTensor.as_coo_view")
def _(ort: Any) -> None:
    cpu = ort.OrtDevice.make("cpu", 0)
    make = ort.SparseTensor.sparse_coo_from_numpy
    values = np.array([1, 2], np.float32)
    for indices in (np.array([1, 5]), np.array([[0, 1], [1, 2]])):
        sparse = make([3, 3], values, indices, cpu)
        np.testing.assert_array_equal(sparse.values(), values)
        np.testing.assert_array_equal(sparse.as_coo_view().indices(), indices)
        assert not sparse.values().flags.writeable
        assert not sparse.as_coo_view().indices().flags.writeable
    with pytest.raises(RuntimeError):
        make([3, 3], values, np.array([1]), cpu)
    text = make([3, 3], np.array(["a", "b"]), np.array([1, 5]), cpu)
    assert text.values().tolist() == ["a", "b"] and text.data_type() == "sparse_tensor(string)"


@row("SparseTensor.sparse_csr_from_numpy", "SparseTensor.as_csrc_view")
def _(ort: Any) -> None:
    cpu = ort.OrtDevice.make("cpu", 0)
    inner, outer = np.array([1, 2]), np.array([0, 1, 2, 2])
    values = np.array([1, 2], np.float32)
    sparse = ort.SparseTensor.sparse_csr_from_numpy([3, 3], values, inner, outer, cpu)
    view = sparse.as_csrc_view()
    assert view.inner().tolist() == inner.tolist() and view.outer().tolist() == outer.tolist()
    assert sparse.format() == ort.OrtSparseFormat.ORT_SPARSE_CSRC


@row(
    *("SparseTensor.format", "SparseTensor.dense_shape", "SparseTensor.data_type"),
    *("SparseTensor.device_name", "SparseTensor.to_cuda", "SparseTensor.as_blocksparse_view"),
)
def _(ort: Any) -> None:
    cpu = ort.OrtDevice.make("cpu", 0)
    sparse = ort.SparseTensor.sparse_coo_from_numpy(
        [3, 3], np.array([1, 2], np.float32), np.array([1, 5]), cpu
    )
    assert sparse.format() == ort.OrtSparseFormat.ORT_SPARSE_COO
    assert sparse.dense_shape() == [3, 3] and isinstance(sparse.dense_shape(), list)
    assert (sparse.data_type(), sparse.device_name()) == ("sparse_tensor(float)", "cpu")
    for wrong in (sparse.as_csrc_view, sparse.as_blocksparse_view):
        with pytest.raises(RuntimeError):
            wrong()
    with pytest.raises(RuntimeError):
        sparse.to_cuda(ort.OrtDevice.make("cuda", 0))


# --- adapters


@row("AdapterFormat", "LoraAdapter", "RunOptions.add_active_adapter")
def _(ort: Any, folder: Path) -> None:
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [1, 1], [2.0])
    node = helper.make_node("Mul", ["x", "scale"], ["y"])
    proto = model([node], [tensor("x"), tensor("scale", shape=["a", "b"])], [tensor("y")], [scale])
    made = ort.InferenceSession(proto.SerializeToString(), providers=[CPU])
    path = str(folder / "a.onnx_adapter")
    written = ort.AdapterFormat()
    written.set_adapter_version(3)
    written.set_model_version(7)
    tensors = {"scale": np.array([[5]], np.float32), "other": np.arange(4, dtype=np.int64)}
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in tensors.items()}
    written.set_parameters(values)
    written.export_adapter(path)
    read = ort.AdapterFormat.read_adapter(path)
    versions = (read.get_format_version(), read.get_adapter_version(), read.get_model_version())
    assert versions == (1, 3, 7)
    found = {name: value.numpy().tolist() for name, value in read.get_parameters().items()}
    assert found == {name: array.tolist() for name, array in tensors.items()}
    written.set_parameters({"scale": values["scale"]})
    written.export_adapter(path)
    adapter = ort.LoraAdapter()
    adapter.Load(path)
    options = ort.RunOptions()
    options.add_active_adapter(adapter)
    np.testing.assert_array_equal(made.run(None, {"x": x()}, options)[0], x() * 5)
    np.testing.assert_array_equal(made.run(None, {"x": x()})[0], x() * 2)
    (folder / "no adapter").write_bytes(b"abcd" * 8)
    for wrong in (folder / "absent", folder / "no adapter"):
        with pytest.raises(RuntimeError):
            ort.AdapterFormat.read_adapter(str(wrong))
    with pytest.raises(TypeError):
        options.add_active_adapter(3)


def test_damaged_adapters(tmp_path: Path) -> None:
    """No change of a byte, and no missing end, does more than raise."""
    from bascule import AdapterFormat, OrtValue

    written = AdapterFormat()
    written.set_parameters({"a": OrtValue.ortvalue_from_numpy(x())})
    path = tmp_path / "a"
    written.export_adapter(path)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), 2):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged[: random.integers(0, len(data) + 1)])
        try:
            read = AdapterFormat.read_adapter(path)
        except RuntimeError:
            continue
        for value in read.get_parameters().values():
            value.numpy().tobytes()


@pytest.mark.parametrize(("name", "runtime"), row.parameters())
def test_row(name: str, runtime: str, tmp_path: Path) -> None:
    row.check(name, runtime, tmp_path)
