# SPDX-License-Identifier: Apache-2.0
"""SessionOptions, RunOptions and the enums; what each option that does something does."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper

import bascule as ort
from bascule import errors
from bascule.examples import digits
from tests.api.models import FLOAT, linear, model, scaled, session, tensor

X = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)

DEFAULTS = {
    "graph_optimization_level": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "intra_op_num_threads": 0,
    "inter_op_num_threads": 0,
    "execution_mode": ort.ExecutionMode.ORT_SEQUENTIAL,
    "execution_order": ort.ExecutionOrder.DEFAULT,
    "log_severity_level": -1,
    "log_verbosity_level": 0,
    "logid": "",
    "enable_profiling": False,
    "profile_file_prefix": "onnxruntime_profile_",
    "optimized_model_filepath": "",
    "enable_mem_pattern": True,
    "enable_mem_reuse": True,
    "enable_cpu_mem_arena": True,
    "use_deterministic_compute": False,
    "use_per_session_threads": True,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_attributes(name: str) -> None:
    options = ort.SessionOptions()
    default = getattr(options, name)
    assert default == DEFAULTS[name] and type(default) is type(DEFAULTS[name])
    setattr(options, name, default)
    for wrong in (1.5, None, [], object()):
        with pytest.raises(TypeError):
            setattr(options, name, wrong)
    assert getattr(options, name) == default


def test_unknown_attributes() -> None:
    for options in (ort.SessionOptions(), ort.RunOptions()):
        with pytest.raises(AttributeError):
            options.number_of_threads = 3


def test_levels_are_enum_members() -> None:
    options = ort.SessionOptions()
    with pytest.raises(TypeError):
        options.graph_optimization_level = 99  # type: ignore[assignment]
    with pytest.raises(TypeError):
        options.intra_op_num_threads = ort.ExecutionMode.ORT_PARALLEL


def test_integers_of_other_libraries() -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = np.int64(2)  # type: ignore[assignment]
    options.enable_profiling = 0  # type: ignore[assignment]
    assert type(options.intra_op_num_threads) is int and options.enable_profiling is False


@pytest.mark.parametrize(
    ("enum", "members"),
    [
        (
            ort.GraphOptimizationLevel,
            {
                "ORT_DISABLE_ALL": 0,
                "ORT_ENABLE_BASIC": 1,
                "ORT_ENABLE_EXTENDED": 2,
                "ORT_ENABLE_LAYOUT": 3,
                "ORT_ENABLE_ALL": 99,
            },
        ),
        (ort.ExecutionMode, {"ORT_SEQUENTIAL": 0, "ORT_PARALLEL": 1}),
        (ort.ExecutionOrder, {"DEFAULT": 0, "PRIORITY_BASED": 1, "MEMORY_EFFICIENT": 2}),
        (ort.OrtMemType, {"CPU_INPUT": -2, "CPU_OUTPUT": -1, "CPU": -1, "DEFAULT": 0}),
    ],
)
def test_enums(enum: Any, members: dict[str, int]) -> None:
    assert {name: int(member) for name, member in enum.__members__.items()} == members
    for name, value in members.items():
        assert getattr(enum, name).value == value


def test_enum_text() -> None:
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert repr(level) == "<GraphOptimizationLevel.ORT_ENABLE_ALL: 99>"
    assert str(level) == "GraphOptimizationLevel.ORT_ENABLE_ALL"


def test_config_entries() -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("unknown", "kept")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("unknown") == "kept"
    with pytest.raises(RuntimeError, match="does not have configuration with key: k"):
        options.get_session_config_entry("k")
    with pytest.raises(RuntimeError):
        options.add_session_config_entry("", "v")
    with pytest.raises(RuntimeError):
        options.add_session_config_entry("k", "v" * 8193)
    made = session(linear(), options)
    options.add_session_config_entry("unknown", "changed")
    assert made.get_session_options().get_session_config_entry("unknown") == "kept"


def test_run_options() -> None:
    options = ort.RunOptions()
    assert (options.log_severity_level, options.log_verbosity_level, options.logid) == (-1, 0, "")
    assert options.terminate is False and options.only_execute_path_to_fetches is False
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    assert options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"
    with pytest.raises(RuntimeError):
        options.get_run_config_entry("k")
    options.terminate = True
    with pytest.raises(errors.Fail, match="Exiting due to terminate flag being set to true"):
        session(linear()).run(None, {"x": X}, options)


def test_wrong_options() -> None:
    with pytest.raises(TypeError):
        session(linear(), 3)  # type: ignore[arg-type]
    options = ort.SessionOptions()
    options.log_severity_level = 5
    with pytest.raises(RuntimeError):
        session(linear(), options)
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    with pytest.raises(RuntimeError):
        session(linear(), options)


@pytest.mark.parametrize("level", list(ort.GraphOptimizationLevel))
def test_levels_give_one_result(level: ort.GraphOptimizationLevel) -> None:
    path, images, labels = digits()
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    (y,) = ort.InferenceSession(path, options).run(None, {"image": images})
    assert (y.argmax(axis=1) == labels).all()


def test_free_dimensions_by_name_and_denotation() -> None:
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("n", 2)
    made = session(linear(), options)
    assert made.get_inputs()[0].shape == [2, 3]
    assert made.get_outputs()[0].shape == [2, 2]
    made.run(None, {"x": X})
    with pytest.raises(errors.InvalidArgument, match="index: 0 Got: 1 Expected: 2"):
        made.run(None, {"x": X[:1]})
    proto = linear()
    proto.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_denotation("DATA_BATCH", 4)
    assert session(proto, options).get_inputs()[0].shape == [4, 3]


def test_replaced_initializers() -> None:
    options = ort.SessionOptions()
    options.add_initializer("b", ort.OrtValue.ortvalue_from_numpy(np.zeros(2, np.float32)))
    options.add_initializer("nothing", ort.OrtValue.ortvalue_from_numpy(np.zeros(2, np.float32)))
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    (s,) = session(linear(), options).run(["s"], {"x": X})
    np.testing.assert_allclose(s, X @ weight, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError):
        options.add_initializer("b", np.zeros(2, np.float32))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        options.add_external_initializers(["a", "b"], [])


def test_external_files_from_memory() -> None:
    proto = linear()
    weight = proto.graph.initializer[0]
    data = np.arange(6, dtype=np.float32).tobytes()
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    with pytest.raises(errors.Fail, match="External data path does not exist"):
        session(proto)
    options = ort.SessionOptions()
    options.add_external_initializers_from_files_in_memory(["weights.bin"], [data], [len(data)])
    want = session(linear()).run(None, {"x": X})
    for got, expected in zip(session(proto, options).run(None, {"x": X}), want):
        np.testing.assert_array_equal(got, expected)


def test_external_folder(tmp_path: Path) -> None:
    proto = linear()
    weight = proto.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    options = ort.SessionOptions()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(tmp_path)
    )
    assert session(proto, options).run(["s"], {"x": X})[0].shape == (2, 2)


def test_custom_operator_libraries(tmp_path: Path) -> None:
    with pytest.raises(errors.Fail, match="Failed to load library"):
        ort.SessionOptions().register_custom_ops_library(str(tmp_path / "x.so"))


def test_no_cpu_asked_for() -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(errors.Fail, match="fallback to CPU EP has been explicitly disabled"):
        session(linear(), options)
    with pytest.raises(errors.InvalidArgument):
        session(linear(), options, providers=["CPUExecutionProvider"])


def test_disabled_optimizers_stay_disabled() -> None:
    name = next(iter(session(linear()).explain().passes))
    made = session(linear(), disabled_optimizers=[name])
    assert not made.explain().passes.get(name)
    made.set_providers()
    assert not made.explain().passes.get(name)


# --- files


def saved(proto: onnx.ModelProto, path: Path, config: dict[str, str] | None = None) -> Any:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    return session(proto, options)


def attention() -> onnx.ModelProto:
    """A chain that the optimizer fuses: gelu(layer_normalization(x @ w + b) ...)."""
    generator = np.random.default_rng(0)
    arrays = {
        "w": generator.standard_normal((8, 8)).astype(np.float32),
        "b": generator.standard_normal(8).astype(np.float32),
        "scale": generator.standard_normal(8).astype(np.float32),
        "root": np.array(np.sqrt(2), np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["r"]),
        helper.make_node("LayerNormalization", ["r", "scale", "b"], ["l"]),
        helper.make_node("Div", ["l", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["p"]),
        helper.make_node("Mul", ["l", "p"], ["q"]),
        helper.make_node("Mul", ["q", "half"], ["y"]),
    ]
    constants = [onnx.numpy_helper.from_array(v, k) for k, v in arrays.items()]
    return model(nodes, [tensor("x", FLOAT, ["n", 8])], [tensor("y", FLOAT, ["n", 8])], constants)


@pytest.mark.parametrize("make", [linear, attention])
def test_the_optimized_model_is_valid_anywhere(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "optimized.onnx"
    made = saved(make(), path)
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    width = made.get_inputs()[0].shape[1]
    x = np.random.default_rng(5).standard_normal((3, width)).astype(np.float32)
    want = made.run(None, {"x": x})
    again = ort.InferenceSession(path)
    assert [arg.name for arg in again.get_outputs()] == [arg.name for arg in made.get_outputs()]
    reference = onnx.reference.ReferenceEvaluator(written).run(None, {"x": x})
    for got, evaluated, expected in zip(again.run(None, {"x": x}), reference, want):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(evaluated, expected, rtol=1e-4, atol=1e-4)


def test_the_optimized_digits_read_digits(tmp_path: Path) -> None:
    path, images, labels = digits()
    target = tmp_path / "optimized.onnx"
    with open(path, "rb") as file:
        saved(onnx.load(file), target)
    onnx.checker.check_model(str(target))
    (y,) = ort.InferenceSession(target).run(None, {"image": images})
    assert (y.argmax(axis=1) == labels).all()


def test_the_optimized_model_keeps_defaults(tmp_path: Path) -> None:
    path = tmp_path / "optimized.onnx"
    made = saved(scaled(), path)
    again = ort.InferenceSession(path)
    for each in (made, again):
        assert [arg.name for arg in each.get_inputs()] == ["x"]
        assert [arg.name for arg in each.get_overridable_initializers()] == ["scale"]
        np.testing.assert_array_equal(each.run(None, {"x": X})[0], X * 2)
        five = np.array([5], np.float32)
        np.testing.assert_array_equal(each.run(None, {"x": X, "scale": five})[0], X * 5)


def test_weights_beside_the_optimized_model(tmp_path: Path) -> None:
    path = tmp_path / "optimized.onnx"
    name = "session.optimized_model_external_initializers_file_name"
    size = "session.optimized_model_external_initializers_min_size_in_bytes"
    made = saved(attention(), path, {name: "weights.bin", size: "64"})
    assert (tmp_path / "weights.bin").stat().st_size >= 256
    x = np.ones((2, 8), np.float32)
    np.testing.assert_allclose(
        ort.InferenceSession(path).run(None, {"x": x})[0], made.run(None, {"x": x})[0], rtol=1e-5
    )


def test_a_size_that_is_no_number_is_named(tmp_path: Path) -> None:
    size = "session.optimized_model_external_initializers_min_size_in_bytes"
    with pytest.raises(errors.InvalidArgument, match=f"{size} must be a number of bytes, not '1k'"):
        saved(linear(), tmp_path / "optimized.onnx", {size: "1k"})


def test_an_impossible_path(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument):
        saved(linear(), tmp_path / "missing" / "optimized.onnx")


def test_profile(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "trace")
    made = session(linear(), options)
    assert made.get_profiling_start_time_ns() > 0
    made.run(None, {"x": X})
    made.run(None, {"x": X})
    path = made.end_profiling()
    assert Path(path).name.startswith("trace_") and path.endswith(".json")
    text = Path(path).read_text()
    events = json.loads(text)
    lines = text.strip().splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert [json.loads(line.rstrip(",")) for line in lines[1:-1]] == events
    for event in events:
        assert set(event) == {"cat", "pid", "tid", "dur", "ts", "ph", "name", "args"}
        assert event["ph"] == "X" and event["dur"] >= 0
    nodes = [event for event in events if event["cat"] == "Node"]
    assert len(nodes) == 2 * len(made.explain().rows)
    for event in nodes:
        assert event["name"].endswith("_kernel_time")
        assert event["args"]["op_name"]
        assert event["args"]["provider"] == "CPUExecutionProvider"
        assert event["args"]["output_type_shape"] == [{"float": [2, 2]}]
    assert made.end_profiling() == ""
    assert session(linear()).end_profiling() == ""
    assert session(linear()).get_profiling_start_time_ns() == 0


# --- process-wide


def test_logger_severity() -> None:
    logger = logging.getLogger("bascule")
    before = logger.level
    try:
        ort.set_default_logger_severity(0)
        assert logger.level == logging.DEBUG
        ort.set_default_logger_severity(4)
        assert logger.level == logging.CRITICAL
        for wrong in (-1, 5):
            with pytest.raises(RuntimeError, match="Invalid logging severity"):
                ort.set_default_logger_severity(wrong)
        with pytest.raises(TypeError):
            ort.set_default_logger_severity("2")  # type: ignore[arg-type]
        ort.set_default_logger_verbosity(1)
    finally:
        logger.setLevel(before)


def test_logger_callback() -> None:
    logger = logging.getLogger("bascule")
    before = logger.level
    seen: list[tuple[Any, ...]] = []
    try:
        ort.set_default_logger_callback(lambda *record: seen.append(record), 1)
        logger.info("number %d", 3)
        logger.debug("dropped")
        assert [(record[0], record[1], record[4]) for record in seen] == [
            (1, "bascule", "number 3")
        ]
        with pytest.raises(RuntimeError):
            ort.set_default_logger_callback(3)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError):
            ort.set_default_logger_callback(None, 7)
    finally:
        ort.set_default_logger_callback(None)
        logger.setLevel(before)
    assert logger.propagate and not logger.handlers


def test_seed() -> None:
    node = helper.make_node("RandomNormal", [], ["y"], shape=[8])
    proto = model([node], [], [tensor("y", FLOAT, [8])])
    results = []
    for seed in (1, 1, 2):
        ort.set_seed(seed)
        results.append(session(proto).run(None, {})[0])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
