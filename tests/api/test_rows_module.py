# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: module functions, enums, helpers, other names."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.api.models import linear, model, tensor
from tests.api.rows import Rows

row = Rows({})
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def state(ort: Any) -> Any:
    return importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")


# --- module functions and attributes


@row("__version__", "get_version_string")
def _(ort: Any) -> None:
    version = importlib.import_module("packaging.version")
    assert version.parse(ort.__version__) >= version.parse("0.0.1")
    assert ort.get_version_string() == ort.__version__


@row("get_available_providers", "get_all_providers", "get_device")
def _(ort: Any) -> None:
    available = ort.get_available_providers()
    assert available[-1] == CPU and set(available) <= set(ort.get_all_providers())
    assert ort.get_all_providers()[-1] == CPU and CUDA in ort.get_all_providers()
    assert ort.get_device() in ("CPU", "GPU")


@row("classes of the top module")
def _(ort: Any) -> None:
    for name in (
        *("InferenceSession", "SessionOptions", "RunOptions", "OrtValue", "IOBinding", "OrtDevice"),
        *("NodeArg", "ModelMetadata", "SparseTensor", "OrtMemoryInfo", "SessionIOBinding"),
        *("OrtEpDevice", "OrtHardwareDevice", "OrtSyncStream", "ModelCompiler", "ModelPackage"),
        *("OrtEpAssignedNode", "OrtEpAssignedSubgraph", "OrtEpContextData", "OrtArenaCfg"),
        *("OrtEpContextDataBuffer", "ModelPackageContext", "ModelPackageOptions"),
        *("ModelPackageComponentContext", "AdapterFormat", "LoraAdapter"),
    ):
        assert isinstance(getattr(ort, name), type), name


@row("set_default_logger_severity", "set_default_logger_verbosity")
def _(ort: Any) -> None:
    ort.set_default_logger_severity(3)
    ort.set_default_logger_severity(2)
    ort.set_default_logger_severity(np.int64(2))
    ort.set_default_logger_verbosity(0)
    ort.set_default_logger_verbosity(np.int64(0))
    for wrong in (5, -1):
        with pytest.raises(RuntimeError, match="Invalid logging severity"):
            ort.set_default_logger_severity(wrong)
    with pytest.raises(TypeError):
        ort.set_default_logger_severity("x")


@row("set_default_logger_callback")
def _(ort: Any) -> None:
    seen: list[Any] = []
    ort.set_default_logger_callback(lambda *record: seen.append(record), 1)
    try:
        ort.InferenceSession(linear().SerializeToString(), providers=[CPU])
    finally:
        ort.set_default_logger_callback(None)
        ort.set_default_logger_severity(2)
    assert seen and all(len(record) == 5 and isinstance(record[0], int) for record in seen)
    with pytest.raises(RuntimeError):
        ort.set_default_logger_callback(3)
    with pytest.raises(RuntimeError):
        ort.set_default_logger_callback(print, 9)


@row("set_seed")
def _(ort: Any) -> None:
    node = helper.make_node("RandomNormal", [], ["y"], shape=[4])
    proto = model([node], [], [tensor("y", shape=[4])])
    found = []
    ort.set_seed(-1)
    for seed in (5, np.int64(5)):
        ort.set_seed(seed)
        made = ort.InferenceSession(proto.SerializeToString(), providers=[CPU])
        found.append(made.run(None, {})[0].tolist())
    assert found[0] == found[1]


@row("preload_dlls", only=True)
def _(ort: Any) -> None:
    ort.preload_dlls(cuda=True, cudnn=True, msvc=True, directory=None)


@row("create_and_register_allocator", "create_and_register_allocator_v2", only=True)
def _(ort: Any) -> None:  # onnxruntime keeps what is registered for the whole process
    kind, use = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    cpu, gpu = (ort.OrtMemoryInfo(name, kind, 0, use) for name in ("Cpu", "Cuda"))
    for config in (None, ort.OrtArenaCfg(-1, -1, -1, -1)):
        ort.create_and_register_allocator(cpu, config)
        ort.create_and_register_allocator_v2(CPU, cpu, {}, config)
    with pytest.raises(RuntimeError, match="Only CPU devices are supported"):
        ort.create_and_register_allocator(gpu, None)
    with pytest.raises(RuntimeError, match="Error when creating and registering allocator"):
        ort.create_and_register_allocator_v2("AbacusExecutionProvider", cpu, {}, None)
    with pytest.raises(TypeError):
        ort.create_and_register_allocator(3, None)


@row("copy_tensors")
def _(ort: Any) -> None:
    first, second = (ort.OrtValue.ortvalue_from_numpy(np.zeros(3)) for _ in range(2))
    with pytest.raises(RuntimeError, match="Data transfer implementation"):
        ort.copy_tensors([first], [second])
    with pytest.raises(RuntimeError, match="Invalid arguments"):
        ort.copy_tensors([first], [], None)


@row("get_ep_devices", "OrtEpDevice", "OrtHardwareDevice", "OrtSyncStream")
def _(ort: Any) -> None:
    found = {device.ep_name: device for device in ort.get_ep_devices()}
    cpu = found[CPU]
    assert cpu.device.type == ort.OrtHardwareDeviceType.CPU and cpu.device.device_id == 0
    assert isinstance(cpu.device.vendor, str) and isinstance(cpu.device.vendor_id, int)
    assert isinstance(cpu.device.metadata, dict) and cpu.ep_metadata["version"] == ort.__version__
    assert cpu.ep_options == {} and isinstance(cpu.ep_vendor, str)
    assert cpu.memory_info(ort.OrtDeviceMemoryType.DEFAULT) is None
    with pytest.raises(RuntimeError):
        cpu.create_sync_stream()
    options = ort.SessionOptions()
    options.add_provider_for_devices([cpu], {})
    made = ort.InferenceSession(linear().SerializeToString(), options)
    assert made.get_providers() == [CPU]


@row("register_execution_provider_library", "unregister_execution_provider_library")
def _(ort: Any, folder: Path) -> None:
    fail = state(ort).Fail
    with pytest.raises(fail, match="Failed to load library"):
        ort.register_execution_provider_library("mine", str(folder / "absent.so"))
    (folder / "provider.so").write_bytes(b"no library")
    with pytest.raises(fail, match="Failed to load library"):
        ort.register_execution_provider_library("mine", str(folder / "provider.so"))
    with pytest.raises(fail, match="was not registered"):
        ort.unregister_execution_provider_library("mine")


@row(
    *("disable_telemetry_events", "enable_telemetry_events", "has_collective_ops"),
    *("get_build_info", "package_name", "version", "cuda_version"),
)
def _(ort: Any) -> None:
    ort.disable_telemetry_events()
    ort.enable_telemetry_events()
    assert ort.has_collective_ops() is False
    assert "Build Info" in ort.get_build_info()
    for name in ("package_name", "version", "cuda_version"):
        assert isinstance(getattr(ort, name), str)


@row("print_debug_info", only=True)
def _(ort: Any) -> None:
    ort.print_debug_info()


@row("submodules capi")
def _(ort: Any) -> None:
    name = ort.__name__
    for inner in ("onnxruntime_pybind11_state", "_pybind_state"):
        found = importlib.import_module(f"{name}.capi.{inner}")
        for each in ("Fail", "SessionOptions", "OrtDevice", "OrtValue", "SessionIOBinding"):
            assert isinstance(getattr(found, each), type), each
    found = importlib.import_module(f"{name}.capi.onnxruntime_inference_collection")
    for each in ("InferenceSession", "IOBinding", "OrtValue", "OrtDevice", "SparseTensor"):
        assert getattr(found, each) is getattr(ort, each)


# --- enums

ENUMS = {
    "GraphOptimizationLevel": {
        "ORT_DISABLE_ALL": 0,
        "ORT_ENABLE_BASIC": 1,
        "ORT_ENABLE_EXTENDED": 2,
        "ORT_ENABLE_LAYOUT": 3,
        "ORT_ENABLE_ALL": 99,
    },
    "ExecutionMode": {"ORT_SEQUENTIAL": 0, "ORT_PARALLEL": 1},
    "ExecutionOrder": {"DEFAULT": 0, "PRIORITY_BASED": 1, "MEMORY_EFFICIENT": 2},
    "OrtAllocatorType": {"INVALID": -1, "ORT_DEVICE_ALLOCATOR": 0, "ORT_ARENA_ALLOCATOR": 1},
    "OrtMemType": {"CPU_INPUT": -2, "CPU_OUTPUT": -1, "CPU": -1, "DEFAULT": 0},
    "OrtSparseFormat": {
        "ORT_SPARSE_UNDEFINED": 0,
        "ORT_SPARSE_COO": 1,
        "ORT_SPARSE_CSRC": 2,
        "ORT_SPARSE_BLOCK_SPARSE": 4,
    },
    "OrtDeviceVendorId": {
        "NONE": 0,
        "AMD": 0x1002,
        "NVIDIA": 0x10DE,
        "ARM": 0x13B5,
        "MICROSOFT": 0x1414,
        "HUAWEI": 0x19E5,
        "QUALCOMM": 0x5143,
        "INTEL": 0x8086,
    },
    "OrtHardwareDeviceType": {"CPU": 0, "GPU": 1, "NPU": 2},
    "OrtMemoryInfoDeviceType": {"CPU": 0, "GPU": 1, "FPGA": 2, "NPU": 3},
    "OrtDeviceMemoryType": {"DEFAULT": 0, "HOST_ACCESSIBLE": 5},
    "OrtExecutionProviderDevicePolicy": {
        "DEFAULT": 0,
        "PREFER_CPU": 1,
        "PREFER_NPU": 2,
        "PREFER_GPU": 3,
        "MAX_PERFORMANCE": 4,
        "MAX_EFFICIENCY": 5,
        "MIN_OVERALL_POWER": 6,
    },
    "OrtCompileApiFlags": {
        "NONE": 0,
        "ERROR_IF_NO_NODES_COMPILED": 1,
        "ERROR_IF_OUTPUT_FILE_EXISTS": 2,
    },
    "ModelPackageWriteMode": {"PRESERVE": 0, "DENSE": 1},
}


def _members(ort: Any) -> None:
    for name, members in ENUMS.items():
        kind = getattr(ort, name)
        for member, number in members.items():
            found = getattr(kind, member)
            assert int(found.value) == int(found) == number
            assert found == kind(number)
            if member != "CPU" or name != "OrtMemType":  # another name of CPU_OUTPUT
                assert found.name == member
            if name != "OrtDeviceVendorId":  # Python's own IntEnum, which prints the number
                assert str(found) == f"{found}" == f"{name}.{found.name}"
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert repr(level) == "<GraphOptimizationLevel.ORT_ENABLE_ALL: 99>"


row(*(f"enum {name}" for name in ENUMS))(_members)


# --- helpers of capi


@row("capi.get_default_session_options")
def _(ort: Any) -> None:
    made = state(ort).get_default_session_options()
    assert isinstance(made, state(ort).SessionOptions) and made.intra_op_num_threads == 0


@row("capi.get_all_operator_schema")
def _(ort: Any) -> None:
    schemas = state(ort).get_all_operator_schema()
    found = {(s.domain, s.name, s.since_version) for s in schemas}
    assert {("", "Relu", 14), ("", "Relu", 6), ("ai.onnx.ml", "Scaler", 1)} <= found
    relu = next(s for s in schemas if s.name == "Relu" and s.since_version == 14)
    assert relu.min_input == 1 and relu.inputs[0].name == "X"


@row("capi.get_all_opkernel_def")
def _(ort: Any) -> None:
    kernels = state(ort).get_all_opkernel_def()
    found = {(k.domain, k.op_name) for k in kernels if k.provider == CPU}
    assert {("", "Add"), ("ai.onnx.ml", "Scaler"), ("com.microsoft", "FusedMatMul")} <= found
    newest = [k for k in kernels if (k.op_name, k.version_range) == ("Softmax", (13, 2147483647))]
    assert any("tensor(float)" in k.type_constraints["T"] for k in newest)


@row("capi.check_and_normalize_provider_args")
def _(ort: Any) -> None:
    name = f"{ort.__name__}.capi.onnxruntime_inference_collection"
    check = importlib.import_module(name).check_and_normalize_provider_args
    assert check(None, None, [CPU]) == ([], []) == check([], None, [CPU])
    assert check([(CUDA, {"device_id": 1}), CPU], None, [CUDA, CPU]) == (
        [CUDA, CPU],
        [{"device_id": "1"}, {}],
    )
    assert check([CUDA, CPU], [{"a": 1}, {}], [CUDA, CPU]) == ([CUDA, CPU], [{"a": "1"}, {}])
    with pytest.warns(UserWarning, match="is not in available provider names"):
        assert check([CUDA], None, [CPU]) == ([CUDA], [{}])
    with pytest.warns(UserWarning, match="Duplicate provider"):
        assert check([CPU, CPU], None, [CPU]) == ([CPU], [{}])
    for wrong in (
        ([CPU], [{}, {}]),
        ([CPU], {}),
        ([(CPU, {})], [{}]),
        ([3], None),
        ([(CPU, 3)], None),
        ([CPU], [3]),
    ):
        with warnings.catch_warnings(), pytest.raises(ValueError, match="provider"):
            check(*wrong, [CPU])


def _quantized(ort: Any, name: str, weights: Any, block: int, symmetric: bool) -> list[Any]:
    rows, columns = weights.shape
    blocks, bits = -(-rows // block), int(name.split("_")[-1][0])
    if "qdq" in name:
        packed = np.zeros(rows * columns * bits // 8, np.uint8)
        scales = np.zeros((blocks, columns), weights.dtype)
        zero_points = np.zeros((blocks * columns * bits + 7) // 8, np.uint8)
    else:
        packed = np.zeros((columns, blocks, block * bits // 8), np.uint8)
        scales = np.zeros((columns, blocks), weights.dtype)
        zero_points = np.zeros((columns, (blocks * bits + 7) // 8), np.uint8)
    quantize = getattr(state(ort), name)
    result = quantize(packed, weights, scales, zero_points, block, columns, rows, symmetric)
    return [packed, scales, zero_points, result]


BLOCKWISE = [
    *("quantize_matmul_2bits", "quantize_matmul_4bits", "quantize_matmul_8bits"),
    "quantize_qdq_matmul_4bits",
]


@row(*(f"capi.{name}" for name in BLOCKWISE), only=True)
def _(ort: Any) -> None:
    """The same bytes as onnxruntime's."""
    other = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(0)
    for name in BLOCKWISE:
        for shape, block in (((64, 34), 32), ((100, 6), 32), ((48, 4), 16)):
            for symmetric in (True, False):
                weights = random.standard_normal(shape).astype(np.float32)
                weights[:, 0] = 0
                ours = _quantized(ort, name, weights, block, symmetric)
                theirs = _quantized(other, name, weights, block, symmetric)
                for mine, yours in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(mine, yours, err_msg=name)


@row("capi.quantize_qdq_matmul_2bits", only=True)
def _(ort: Any) -> None:  # onnxruntime's writes past the end of its arrays
    weights = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    packed, scales, _, signed = _quantized(ort, "quantize_qdq_matmul_2bits", weights, 16, True)
    values = ((packed[:, None] >> np.array([0, 2, 4, 6])) & 3).reshape(32, 4).astype(np.int8)
    values = np.where(values > 1, values - 4, values)
    restored = values * np.repeat(scales, 16, axis=0)
    assert signed and np.abs(restored - weights).max() <= np.abs(scales).max()


@row("capi.quantize_matmul_bnb4", only=True)
def _(ort: Any) -> None:
    other = pytest.importorskip("onnxruntime")
    weights = np.random.default_rng(0).standard_normal((33, 25)).astype(np.float32)
    for quant_type in (0, 1):
        found = []
        for module in (ort, other):
            packed, largest = np.zeros(413, np.uint8), np.zeros(26, np.float32)
            state(module).quantize_matmul_bnb4(packed, weights, largest, 32, quant_type, 33, 25)
            found.append((packed, largest))
        np.testing.assert_array_equal(found[0][0], found[1][0])
        np.testing.assert_array_equal(found[0][1], found[1][1])


# --- other names


@row("ModelCompiler", "ModelPackage", only=True)
def _(ort: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"session\.cache_dir"):
        ort.ModelCompiler(ort.SessionOptions(), linear().SerializeToString())
    with pytest.raises(NotImplementedError, match="ModelPackage"):
        ort.ModelPackage.open("folder")


@row("OrtExternalInitializerInfo")
def _(ort: Any) -> None:
    info = ort.OrtExternalInitializerInfo("weights.bin", 64, 16)
    assert (info.filepath, info.file_offset, info.byte_size) == ("weights.bin", 64, 16)


# --- submodules


@row("datasets.get_example")
def _(ort: Any) -> None:
    examples = importlib.import_module(f"{ort.__name__}.datasets")
    for name in ("mul_1.onnx", "sigmoid.onnx", "logreg_iris.onnx"):
        assert Path(examples.get_example(name)).is_absolute()
    with pytest.raises(FileNotFoundError, match="Unable to find example"):
        examples.get_example("nothing.onnx")


QUANTIZATION = {
    "": (
        *("quantize_dynamic", "quantize_static", "quantize", "QuantType", "QuantFormat"),
        *("QuantizationMode", "CalibrationDataReader", "CalibrationMethod", "CalibraterBase"),
        *("MinMaxCalibrater", "create_calibrator", "StaticQuantConfig", "DynamicQuantConfig"),
        *("get_qdq_config", "quant_pre_process", "QDQQuantizer", "CudaQuantizer", "TensorData"),
        *("TensorsData", "save_tensors_data", "load_tensors_data", "write_calibration_table"),
    ),
    "shape_inference": ("quant_pre_process",),
    "preprocess": (),
    "matmul_nbits_quantizer": (
        *("MatMulNBitsQuantizer", "RTNWeightOnlyQuantConfig", "GPTQWeightOnlyQuantConfig"),
        *("HQQWeightOnlyQuantConfig", "KQuantWeightOnlyQuantConfig"),
        *("DefaultWeightOnlyQuantConfig", "NVAWQWeightOnlyQuantConfig"),
    ),
    "matmul_bnb4_quantizer": ("MatMulBnb4Quantizer",),
    "qdq_loss_debug": (
        *("modify_model_output_intermediate_tensors", "collect_activations"),
        *("create_activation_matching", "create_weight_matching", "compute_weight_error"),
        *("compute_activation_error", "compute_signal_to_quantization_noice_ratio"),
    ),
    "static_quantize_runner": ("main", "OnnxModelCalibrationDataReader"),
    "registry": ("IntegerOpsRegistry", "QLinearOpsRegistry", "QDQRegistry"),
    "onnx_quantizer": ("ONNXQuantizer",),
    "quant_utils": ("QuantType", "QuantFormat", "QuantizationMode"),
    "calibrate": ("CalibrationDataReader", "create_calibrator", "PercentileCalibrater"),
}


def _quantization(ort: Any) -> None:
    pytest.importorskip("onnx_ir")  # which onnxruntime's needs
    for inner, names in QUANTIZATION.items():
        full = ".".join(filter(None, (ort.__name__, "quantization", inner)))
        found = importlib.import_module(full)
        for name in names:
            assert hasattr(found, name), f"{full}.{name}"


row(*(f"quantization {name}".strip() for name in QUANTIZATION))(_quantization)


@row("quantization types")
def _(ort: Any) -> None:
    found = importlib.import_module(f"{ort.__name__}.quantization")
    for name in ("QInt8", "QUInt8", "QInt16", "QUInt16", "QInt4", "QUInt4", "QFLOAT8E4M3FN"):
        kind = found.QuantType[name]
        assert str(kind) == name and found.QuantType.from_string(name) is kind
        assert isinstance(kind.tensor_type, int)
    assert [each.name for each in found.QuantFormat] == ["QOperator", "QDQ"]
    methods = ["MinMax", "Entropy", "Percentile", "Distribution"]
    assert [each.name for each in found.CalibrationMethod] == methods
    numbers = [(each.name, each.value) for each in found.CalibrationMethod]
    assert numbers == [(name, i) for i, name in enumerate(methods)]


@row("tools")
def _(ort: Any) -> None:
    for inner, names in {
        "symbolic_shape_infer": ("SymbolicShapeInference",),
        "make_dynamic_shape_fixed": ("make_dynamic_shape_fixed_helper",),
        "onnx_model_utils": (
            *("make_dim_param_fixed", "make_input_shape_fixed", "fix_output_shapes"),
            *("update_onnx_opset", "optimize_model", "get_opsets_imported"),
            *("iterate_graph_per_graph_func", "iterate_graph_per_node_func"),
            "ModelProtoWithShapeInfo",
        ),
        "convert_onnx_models_to_ort": ("convert_onnx_models_to_ort", "OptimizationStyle"),
        "check_onnx_model_mobile_usability": ("check_usability",),
        "mobile_helpers.usability_checker": ("analyze_model",),
        "pytorch_export_contrib_ops": ("register", "unregister"),
        "qdq_helpers.optimize_qdq_model": ("optimize_qdq_model",),
        "update_onnx_opset": ("update_onnx_opset_helper",),
        "optimize_onnx_model": ("optimize_model_helper",),
        "remove_initializer_from_input": ("remove_initializer_from_input",),
    }.items():
        if inner == "symbolic_shape_infer":
            pytest.importorskip("sympy")  # which onnxruntime's needs
        if inner == "pytorch_export_contrib_ops" and importlib.util.find_spec("torch") is None:
            continue
        found = importlib.import_module(f"{ort.__name__}.tools.{inner}")
        for name in names:
            assert hasattr(found, name), f"{inner}.{name}"


@row("transformers", only=True)
def _(ort: Any) -> None:
    for name in ("optimizer", "onnx_model_bert", "benchmark"):
        with pytest.raises(ImportError, match="deliberately left out"):
            getattr(importlib.import_module("bascule.transformers"), name)
    with pytest.raises(ImportError, match="deliberately left out"):
        importlib.import_module("bascule.transformers.optimizer")
    helper_ = importlib.import_module("bascule.transformers.io_binding_helper").TypeHelper
    made = ort.InferenceSession(linear().SerializeToString())
    assert helper_.get_io_onnx_type_map(made) == dict.fromkeys(("x", "y", "s"), 1)
    assert helper_.get_output_type(made, "y") == "tensor(float)"


# --- backend


@row("backend.prepare", "backend.run")
def _(ort: Any, folder: Path) -> None:
    backend = importlib.import_module(f"{ort.__name__}.backend")
    proto = linear()
    x = np.ones((2, 3), np.float32)
    path = folder / "m.onnx"
    onnx.save(proto, path)
    want = backend.run(proto, [x])
    for source in (str(path), proto.SerializeToString(), proto):
        rep = backend.prepare(source, "CPU", intra_op_num_threads=1)
        for found, each in zip(rep.run([x]), want, strict=True):
            np.testing.assert_allclose(found, each)
        assert backend.prepare(rep) is rep
    for found, each in zip(rep.run(x), want, strict=True):
        np.testing.assert_allclose(found, each)
    with pytest.raises(RuntimeError):
        backend.prepare(proto, "CPU", optimized_model_filepath="x")
    with pytest.raises(RuntimeError):
        backend.prepare(proto, "ABACUS")


@row("backend.supports_device", "backend.is_compatible")
def _(ort: Any) -> None:
    backend = importlib.import_module(f"{ort.__name__}.backend")
    assert backend.supports_device("CPU") and not backend.supports_device("ABACUS")
    assert backend.supports_device("CUDA") == ("GPU" in ort.get_device())
    assert backend.is_compatible(linear())


@row("backend.OnnxRuntimeBackend.run_node")
def _(ort: Any) -> None:
    found = importlib.import_module(f"{ort.__name__}.backend.backend").OnnxRuntimeBackend
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(NotImplementedError):
        found.run_node(node, [np.ones(3, np.float32)])
    proto = linear()
    proto.opset_import[0].version = 1000
    assert found.is_opset_supported(proto)[0] is False


@pytest.mark.parametrize(("name", "runtime"), row.parameters())
def test_row(name: str, runtime: str, tmp_path: Path) -> None:
    row.check(name, runtime, tmp_path)


def test_models_of_the_reference_checker() -> None:
    """The rows' models are valid, so that a refusal is about the row."""
    onnx.checker.check_model(linear())
    assert linear().graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
