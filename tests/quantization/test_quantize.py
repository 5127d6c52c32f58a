# SPDX-License-Identifier: Apache-2.0
"""Quantized models are as exact as their types allow, in bascule and in onnxruntime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bascule.quantization import (
    CalibrationMethod,
    DynamicQuantConfig,
    QuantFormat,
    QuantType,
    StaticQuantConfig,
    get_qdq_config,
    quant_pre_process,
    quantize,
    quantize_dynamic,
    quantize_static,
)
from bascule.quantization.preprocess import main as preprocess
from bascule.quantization.static_quantize_runner import main as quantize_by_command
from tests.quantization.models import (
    Reader,
    attention,
    decibels,
    network,
    operators,
    run,
    samples,
)

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {"network": network, "attention": attention}
RUNTIMES = ["bascule"]
if importlib.util.find_spec("onnxruntime") is not None:
    RUNTIMES.append("onnxruntime")
S8, U8 = QuantType.QInt8, QuantType.QUInt8


def check(path: Path, proto: onnx.ModelProto, least: float) -> None:
    """That a quantized model is valid, and within `least` decibels in all runtimes."""
    onnx.checker.check_model(path)
    for runtime in RUNTIMES:
        found = decibels(runtime, path, proto)
        assert found > least, (runtime, found)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_type", [S8, U8], ids=str)
def test_dynamic(name: str, per_channel: bool, weight_type: QuantType, tmp_path: Path) -> None:
    proto, path = MODELS[name](), tmp_path / "q.onnx"
    quantize_dynamic(proto, path, per_channel=per_channel, weight_type=weight_type)
    check(path, proto, 25)
    found = operators(path)
    if name == "network":
        assert "Conv" not in found and "Gemm" not in found and "ConvInteger" in found
    else:
        assert found.count("MatMulInteger") == 2 and found.count("MatMul") == 2


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("types", [(U8, S8), (S8, S8), (U8, U8)], ids=str)
@pytest.mark.parametrize("format", QuantFormat, ids=str)
def test_static(
    name: str, per_channel: bool, types: Any, format: QuantFormat, tmp_path: Path
) -> None:
    proto, path = MODELS[name](), tmp_path / "q.onnx"
    prepared = tmp_path / "p.onnx"
    quant_pre_process(proto, prepared)
    quantize_static(
        *(prepared, path, Reader(samples(proto)), format),
        per_channel=per_channel,
        activation_type=types[0],
        weight_type=types[1],
    )
    check(path, proto, 25)
    found = operators(path)
    if format is QuantFormat.QOperator:
        assert not {"Conv", "Gemm", "MatMul", "Relu"} & set(found)
    else:
        assert found.count("DequantizeLinear") > 4


@pytest.mark.parametrize(
    ("types", "least"),
    [
        ((QuantType.QUInt16, S8), 30),
        ((QuantType.QInt16, QuantType.QInt16), 40),
        ((U8, QuantType.QInt4), 12),
        ((U8, QuantType.QUInt4), 12),
    ],
    ids=str,
)
def test_other_widths(types: Any, least: float, tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    quantize_static(
        proto, path, Reader(samples(proto)), activation_type=types[0], weight_type=types[1]
    )
    check(path, proto, least)
    if least == 40:  # onnxruntime's optimizer clips the biases, which 32 bits cannot hold
        assert decibels("bascule", path, proto) > 75


def test_float8(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    kind = QuantType.QFLOAT8E4M3FN
    quantize_static(proto, path, Reader(samples(proto)), activation_type=kind, weight_type=kind)
    assert decibels("bascule", path, proto) > 15


@pytest.mark.parametrize("method", CalibrationMethod)
def test_methods(method: CalibrationMethod, tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    quantize_static(
        proto, path, Reader(samples(proto)), activation_type=U8, calibrate_method=method
    )
    check(path, proto, 12 if method is CalibrationMethod.Entropy else 25)


def test_float16(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    random = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(random.standard_normal((16, 8)).astype(np.float16), "w")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "half",
        [info("x", TensorProto.FLOAT16, ["n", 16])],
        [info("y", TensorProto.FLOAT16, ["n", 8])],
        [weights],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    inputs = [{"x": random.standard_normal((4, 16)).astype(np.float16)}]
    (wanted,) = run("bascule", proto, inputs)
    # Of 7 bits, since onnxruntime's sums of more overflow on processors without VNNI.
    quantize_dynamic(proto, tmp_path / "d.onnx", reduce_range=True)
    reader = Reader(inputs)
    quantize_static(proto, tmp_path / "s.onnx", reader, activation_type=U8, reduce_range=True)
    for name in ("d.onnx", "s.onnx"):
        for runtime in RUNTIMES:
            (found,) = run(runtime, tmp_path / name, inputs)
            assert found.dtype == np.float16
            np.testing.assert_allclose(found, wanted, atol=0.25)


def test_which_nodes(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    quantize_dynamic(proto, path, nodes_to_exclude=["conv1"])
    assert operators(path).count("Conv") == 1
    quantize_dynamic(proto, path, nodes_to_quantize=["conv1"])
    assert operators(path).count("ConvInteger") == 1
    quantize_dynamic(proto, path, op_types_to_quantize=["Gemm"])
    assert operators(path).count("Conv") == 2 and "MatMulInteger" in operators(path)
    quantize_static(proto, path, Reader(samples(proto)), nodes_to_exclude=["conv1", "conv2"])
    before = {n.output[0]: n.op_type for n in onnx.load(path).graph.node}
    convs = [n for n in onnx.load(path).graph.node if n.op_type == "Conv"]
    assert all(before.get(n.input[1]) is None for n in convs)


def test_configurations(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    quantize(proto, path, DynamicQuantConfig(weight_type=U8))
    check(path, proto, 25)
    quantize(proto, path, StaticQuantConfig(Reader(samples(proto)), activation_type=U8))
    check(path, proto, 25)
    config = get_qdq_config(proto, Reader(samples(proto)), per_channel=True)
    quantize(proto, path, config)
    check(path, proto, 25)
    with pytest.raises(TypeError, match="Invalid quantization config type"):
        quantize(proto, path, 3)  # type: ignore[arg-type]


def test_a_cache_of_ranges(tmp_path: Path) -> None:
    proto, path, cache = network(), tmp_path / "q.onnx", tmp_path / "ranges.json"
    with pytest.raises(ValueError, match="no calibration cache"):
        quantize_static(proto, path, None, calibration_cache_path=cache)
    quantize_static(proto, path, Reader(samples(proto)), calibration_cache_path=cache)
    first = path.read_bytes()
    quantize_static(proto, path, None, calibration_cache_path=cache)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "options",
    [
        {"ActivationSymmetric": True},
        {"WeightSymmetric": False},
        {"AddQDQPairToWeight": True},
        {"MatMulConstBOnly": True},
        {"CalibTensorRangeSymmetric": True},
        {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.5},
        {"ForceQuantizeNoInputCheck": True},
        {"OpTypesToExcludeOutputQuantization": ["MatMul"]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    for make in MODELS.values():
        proto, path = make(), tmp_path / "q.onnx"
        quantize_static(proto, path, Reader(samples(proto)), extra_options=options)
        check(path, proto, 20)


def test_overrides_of_tensors(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    overrides = {
        "x": [{"scale": np.float32(0.05), "zero_point": np.int8(3)}],
        "r1": [{"quant_type": QuantType.QUInt16, "rmin": 0.0, "rmax": 8.0}],
    }
    options = {"TensorQuantOverrides": overrides}
    quantize_static(proto, path, Reader(samples(proto)), extra_options=options)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert values["x_scale"] == np.float32(0.05) and values["x_zero_point"] == 3
    assert values["r1_zero_point"].dtype == np.uint16
    np.testing.assert_allclose(values["r1_scale"], 8 / 65535, rtol=1e-5)
    check(path, proto, 20)


def test_reduced_range(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    quantize_static(proto, path, Reader(samples(proto)), reduce_range=True)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert np.abs(values["w1_quantized"].astype(int)).max() <= 64
    check(path, proto, 20)


def test_external_data(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    for _ in range(2):  # a second time, over the first
        quantize_static(proto, path, Reader(samples(proto)), use_external_data_format=True)
        check(path, proto, 20)


def test_an_input_that_is_an_output(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    proto.graph.output.append(proto.graph.input[0])
    quantize_static(proto, path, Reader(samples(proto)))
    onnx.checker.check_model(path)
    check(path, network(), 25)


def test_what_is_refused(tmp_path: Path) -> None:
    proto, path = network(), tmp_path / "q.onnx"
    with pytest.raises(ValueError, match="not QInt16"):
        quantize_dynamic(proto, path, weight_type=QuantType.QInt16)
    with pytest.raises(ValueError, match="use QDQ"):
        quantize_static(
            *(proto, path, Reader([]), QuantFormat.QOperator), weight_type=QuantType.QInt4
        )
    with pytest.raises(ValueError, match="activations in QInt8 and weights in QUInt8"):
        quantize_static(*(proto, path, Reader([]), QuantFormat.QOperator), weight_type=U8)
    with pytest.raises(ValueError, match="No data is collected"):
        quantize_static(proto, path, Reader([]))
    with pytest.raises(TypeError, match="input_model"):
        quant_pre_process()
    with pytest.raises(ValueError, match="is none of"):
        QuantType.from_string("QInt5")


def test_preprocessing(tmp_path: Path) -> None:
    proto = network()
    onnx.save(proto, tmp_path / "in.onnx")
    out = tmp_path / "out.onnx"
    preprocess(["--input", str(tmp_path / "in.onnx"), "--output", str(out)])
    prepared = onnx.load(out)
    assert "BatchNormalization" not in operators(out)
    assert prepared.opset_import[0].version == 17
    inputs = samples(proto)
    for found, want in zip(run("bascule", out, inputs), run("bascule", proto, inputs)):
        np.testing.assert_allclose(found, want, atol=1e-5)
    assert {value.name for value in prepared.graph.value_info} >= {"r1", "c2", "sum"}


def test_constants_are_computed(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("Constant", [], ["two"], value_floats=[2.0]),
        node("Add", ["two", "one"], ["three"]),
        node("Shape", ["three"], ["size"]),
        node("RandomNormal", [], ["noise"], shape=[1], seed=1.0),
        node("Mul", ["x", "three"], ["m"]),
        node("Reshape", ["m", "size"], ["r"]),
        node("Mul", ["noise", "zero"], ["nothing"]),
        node("Add", ["r", "nothing"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    constants = [
        onnx.numpy_helper.from_array(np.array([value], np.float32), name)
        for name, value in (("one", 1.0), ("zero", 0.0))
    ]
    graph = helper.make_graph(
        *(nodes, "constants", [info("x", TensorProto.FLOAT, [1])]),
        *([info("y", TensorProto.FLOAT, [1])], constants),
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    out = tmp_path / "out.onnx"
    quant_pre_process(proto, out)
    assert operators(out) == ["RandomNormal", "Mul", "Reshape", "Mul", "Add"]
    (found,) = run("bascule", out, [{"x": np.array([4], np.float32)}])
    assert found.tolist() == [12]


def test_the_command(tmp_path: Path) -> None:
    proto, out = network(), tmp_path / "out.onnx"
    onnx.save(proto, tmp_path / "in.onnx")
    for number, inputs in enumerate(samples(proto)):
        folder = tmp_path / f"test_data_set_{number}"
        folder.mkdir()
        tensor = onnx.numpy_helper.from_array(inputs["x"], "x")
        (folder / "input_0.pb").write_bytes(tensor.SerializeToString())
    arguments = ["-i", str(tmp_path / "in.onnx"), "-o", str(out), "--per_channel"]
    quantize_by_command([*arguments, "--quant_format", "qoperator"])
    check(out, proto, 25)
    assert "QLinearConv" in operators(out)
