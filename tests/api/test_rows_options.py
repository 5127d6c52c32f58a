# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: SessionOptions, config entries, RunOptions.

A test a row, named by the row's id in `row(...)`; `python -m tests.api.test_rows_options` lists
them. Where onnxruntime is installed, `onnxruntime` as a parameter runs the row on both.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule as ort
from bascule import errors
from tests.api.models import FLOAT, linear, model, session, tensor

CPU = "CPUExecutionProvider"
X = np.ones((2, 3), np.float32)
BOTH = [
    "bascule",
    pytest.param(
        "onnxruntime",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
        ),
    ),
]
ROWS: dict[str, Callable[..., Any]] = {}


def row(*names: str) -> Callable[[Any], Any]:
    """Mark the test of rows."""

    def note(test: Any) -> Any:
        for name in names:
            assert name not in ROWS
            ROWS[name] = test
        return test

    return note


def make(options: Any, runtime: str = "bascule", proto: Any = None, **arguments: Any) -> Any:
    data = (proto or linear()).SerializeToString()
    module = importlib.import_module(runtime)
    return module.InferenceSession(data, options, arguments.pop("providers", [CPU]), **arguments)


def options(runtime: str = "bascule", config: Any = None, **values: Any) -> Any:
    made = importlib.import_module(runtime).SessionOptions()
    for name, value in values.items():
        setattr(made, name, value)
    for key, text in (config or {}).items():
        made.add_session_config_entry(key, text)
    return made


def python(code: str) -> None:
    """Run in a process of its own: for what holds for all of a process."""
    head = "import numpy as np, pytest\nimport bascule as ort\nfrom bascule import errors\n"
    head += "from tests.api.models import linear, session\nX = np.ones((2, 3), np.float32)\n"
    subprocess.run([sys.executable, "-c", head + code], check=True, timeout=60)


# --- SessionOptions

VALUES = {
    "intra_op_num_threads": [0, 1, 2, -1, True],
    "inter_op_num_threads": [0, 2, -1],
    "log_verbosity_level": [3],
    "logid": ["mine"],
    "enable_mem_pattern": [False],
    "enable_mem_reuse": [False],
    "enable_cpu_mem_arena": [False],
    "use_deterministic_compute": [True],
}


@row(*(f"options.{name}" for name in VALUES))
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("runtime", BOTH)
def test_values(name: str, runtime: str) -> None:
    want = session(linear()).run(None, {"x": X})
    for value in VALUES[name]:
        made = options(runtime, **{name: value})
        assert getattr(made, name) == value
        for got, expected in zip(make(made, runtime).run(None, {"x": X}), want, strict=True):
            np.testing.assert_allclose(got, expected)
    if runtime == "bascule" or name.endswith("threads"):  # others are lenient about flags
        with pytest.raises(TypeError, match="incompatible function arguments"):
            setattr(options(runtime), name, 1.5)
    if type(VALUES[name][0]) is int:
        for number in (1 << 31, 1 << 40):
            with pytest.raises(TypeError, match="incompatible function arguments"):
                setattr(options(runtime), name, number)


@row("options.graph_optimization_level", "options.execution_mode", "options.execution_order")
@pytest.mark.parametrize("runtime", BOTH)
def test_enum_values(runtime: str) -> None:
    module = importlib.import_module(runtime)
    for name, kind in [
        ("graph_optimization_level", module.GraphOptimizationLevel),
        ("execution_mode", module.ExecutionMode),
        ("execution_order", module.ExecutionOrder),
    ]:
        for member in kind.__members__.values():
            made = options(runtime, **{name: member})
            assert getattr(made, name) == member
            if runtime == "bascule":
                assert make(made).run(None, {"x": X})[0].shape == (2, 2)
        with pytest.raises(TypeError, match="incompatible function arguments"):
            setattr(options(runtime), name, 0)


@row("options.log_severity_level")
@pytest.mark.parametrize("runtime", BOTH)
def test_severity(runtime: str) -> None:
    assert options(runtime).log_severity_level == -1
    for wrong in (5, -2):
        with pytest.raises(RuntimeError, match="severity"):
            make(options(runtime, log_severity_level=wrong), runtime)


@row("options.logid in records")
def test_logid() -> None:
    seen: list[Any] = []
    before = logging.getLogger("bascule").level
    try:
        ort.set_default_logger_callback(lambda *record: seen.append(record), 2)
        make(options(logid="quiet"))
        assert not seen
        made = make(options(logid="mine", log_severity_level=1))
        assert [(severity, logid) for severity, _, logid, _, _ in seen] == [(1, "mine")]
        run = ort.RunOptions()
        run.logid, run.log_severity_level = "the run", 0
        made.run(None, {"x": X}, run)
        assert seen[-1][2] == "the run" and "mine" in seen[-1][4]
    finally:
        ort.set_default_logger_callback(None)
        logging.getLogger("bascule").setLevel(before)


@row("options.enable_profiling", "options.profile_file_prefix")
@pytest.mark.parametrize("runtime", BOTH)
def test_profile(runtime: str, tmp_path: Path) -> None:
    prefix = str(tmp_path / "p")
    made = make(options(runtime, enable_profiling=True, profile_file_prefix=prefix), runtime)
    made.run(None, {"x": X})
    assert made.get_profiling_start_time_ns() > 0
    path = made.end_profiling()
    assert path.startswith(f"{prefix}_") and path.endswith(".json")
    assert "_kernel_time" in Path(path).read_text() and made.end_profiling() == ""
    events = json.loads(Path(path).read_text())
    whole = {event["name"]: event for event in events if event["cat"] == "Session"}
    run, node = whole["model_run"], next(e for e in events if e["cat"] == "Node")
    assert run["ts"] <= node["ts"] and node["ts"] + node["dur"] <= run["ts"] + run["dur"] + 1
    assert whole["session_initialization"]["dur"] > 0


@row("options.enable_profiling without end_profiling")
@pytest.mark.parametrize("runtime", BOTH)
def test_a_profile_that_nobody_ends(runtime: str, tmp_path: Path) -> None:
    prefix = str(tmp_path / "p")
    made = make(options(runtime, enable_profiling=True, profile_file_prefix=prefix), runtime)
    made.run(None, {"x": X})
    del made
    gc.collect()
    (path,) = tmp_path.iterdir()
    assert "_kernel_time" in path.read_text()


def test_a_profile_at_the_end_of_a_process(tmp_path: Path) -> None:
    """The process writes it, and no child of it."""
    python(f"""
import os
options = ort.SessionOptions()
options.enable_profiling = True
options.profile_file_prefix = {str(tmp_path / "p")!r}
made = session(linear(), options)
made.run(None, {{"x": X}})
if os.fork() == 0:
    raise SystemExit
os.wait()
""")
    (path,) = tmp_path.iterdir()
    assert "_kernel_time" in path.read_text()


@row("options.optimized_model_filepath")
@pytest.mark.parametrize("runtime", BOTH)
def test_saved(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "saved.onnx"
    made = make(options(runtime, optimized_model_filepath=str(path)), runtime)
    want = made.run(None, {"x": X})
    for got, expected in zip(ort.InferenceSession(path).run(None, {"x": X}), want, strict=True):
        np.testing.assert_allclose(got, expected)
    missing = str(tmp_path / "missing" / "saved.onnx")
    kind = importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state").InvalidArgument
    with pytest.raises(kind):
        make(options(runtime, optimized_model_filepath=missing), runtime)


@row("options.use_per_session_threads", "module.set_global_thread_pool_sizes")
def test_global_threads() -> None:
    with pytest.raises(RuntimeError, match="no global thread pool"):
        make(options(use_per_session_threads=False))
    with pytest.raises(TypeError):
        ort.set_global_thread_pool_sizes("2")  # type: ignore[arg-type]
    python("""
ort.set_global_thread_pool_sizes(2, 1)
with pytest.raises(errors.Fail, match="already been set"):
    ort.set_global_thread_pool_sizes(2, 1)
with pytest.raises(RuntimeError, match="use_per_session_threads must be false"):
    session(linear())
options = ort.SessionOptions()
options.use_per_session_threads = False
assert session(linear(), options).run(None, {"x": X})[0].shape == (2, 2)
""")


@row("options.add_session_config_entry", "options.get_session_config_entry")
@pytest.mark.parametrize("runtime", BOTH)
def test_entries(runtime: str) -> None:
    made = options(runtime, {"k" * 1024: "v" * 8192, "twice": "1"})
    made.add_session_config_entry("twice", "2")
    assert made.get_session_config_entry("twice") == "2"
    for key, value in (("", "v"), ("k" * 1025, "v"), ("k", "v" * 8193)):
        with pytest.raises(RuntimeError, match=r"Config (key|value) is"):
            made.add_session_config_entry(key, value)
    with pytest.raises(RuntimeError, match="does not have configuration with key: k"):
        made.get_session_config_entry("k")
    with pytest.raises(TypeError):
        made.add_session_config_entry("k", 1)


@row(
    "options.add_free_dimension_override_by_name",
    "options.add_free_dimension_override_by_denotation",
)
@pytest.mark.parametrize("runtime", BOTH)
def test_dimensions(runtime: str) -> None:
    proto = linear()
    proto.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    kind = importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state").InvalidArgument
    for name, key in (("name", "n"), ("denotation", "DATA_BATCH")):
        made = options(runtime)
        getattr(made, f"add_free_dimension_override_by_{name}")(key, 4)
        made = make(made, runtime, proto)
        assert made.get_inputs()[0].shape == [4, 3]
        with pytest.raises(kind, match="index: 0 Got: 2 Expected: 4"):
            made.run(None, {"x": X})
    for name in ("name", "denotation"):  # which no size without a name has
        made = options(runtime)
        getattr(made, f"add_free_dimension_override_by_{name}")("", 4)
        made = make(made, runtime)
        assert made.run(None, {"x": X})[0].shape == (2, 2)
    with pytest.raises(TypeError):
        options(runtime).add_free_dimension_override_by_name("n", "1")


@row("options.add_initializer")
@pytest.mark.parametrize("runtime", BOTH)
def test_initializers(runtime: str) -> None:
    value = importlib.import_module(runtime).OrtValue.ortvalue_from_numpy(np.ones(2, np.float32))
    made = options(runtime)
    made.add_initializer("b", value)
    made.add_initializer("nobody's", value)
    with pytest.raises(RuntimeError, match="already been added"):
        made.add_initializer("b", value)
    with pytest.raises(RuntimeError):
        made.add_initializer("c", np.ones(2, np.float32))
    (s,) = make(made, runtime).run(["s"], {"x": X})
    np.testing.assert_allclose(s, X @ np.arange(6, dtype=np.float32).reshape(3, 2) + 1)


def external() -> onnx.ModelProto:
    proto = linear()
    weight = proto.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    return proto


@row("options.add_external_initializers_from_files_in_memory")
@pytest.mark.parametrize("runtime", BOTH)
def test_files_in_memory(runtime: str) -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    for data in (array.tobytes(), bytearray(array.tobytes()), array):
        made = options(runtime)
        made.add_external_initializers_from_files_in_memory(["weights.bin"], [data], [24])
        (s,) = make(made, runtime, external()).run(["s"], {"x": X})
        np.testing.assert_allclose(s, session(linear()).run(["s"], {"x": X})[0])
    with pytest.raises(RuntimeError):
        made.add_external_initializers_from_files_in_memory(["weights.bin"], [], [])


@row("options.add_external_initializers")
def test_external_initializers() -> None:
    value = ort.OrtValue.ortvalue_from_numpy(np.zeros((3, 2), np.float32))
    made = options()
    made.add_external_initializers(["w"], [value])
    (s,) = make(made).run(["s"], {"x": X})
    np.testing.assert_array_equal(s, [[0.5, -100.0]] * 2)
    with pytest.raises(RuntimeError):
        made.add_external_initializers(["w"], [])


@row("options.register_custom_ops_library")
@pytest.mark.parametrize("runtime", BOTH)
def test_library(runtime: str) -> None:
    kind = importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state").Fail
    with pytest.raises(kind, match="Failed to load library"):
        options(runtime).register_custom_ops_library("/missing.so")


@row("options.add_provider", "options.has_providers")
@pytest.mark.parametrize("runtime", BOTH)
def test_providers(runtime: str) -> None:
    made = options(runtime)
    assert not made.has_providers()
    made.add_provider(CPU, {})
    assert made.has_providers()
    assert make(made, runtime, providers=None).get_providers() == [CPU]
    if runtime == "bascule":  # onnxruntime then registers the CPU twice, which it refuses
        with pytest.warns(UserWarning, match="already been configured with providers"):
            make(made)
    with pytest.raises(RuntimeError, match="Unknown Provider Type: Nonsense"):
        made.add_provider("Nonsense", {})
    with pytest.raises(TypeError, match="incompatible function arguments"):
        made.add_provider(CPU, {"a": 1})
    kind = importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state").InvalidArgument
    with pytest.raises(kind, match="Provider configuration is not supported"):
        made.add_provider("TensorrtExecutionProvider", {})


class Device:
    def __init__(self, ep_name: str = CPU) -> None:
        self.ep_name = ep_name


@row("options.add_provider_for_devices")
def test_devices() -> None:
    made = options()
    with pytest.raises(errors.InvalidArgument, match="Must provide one or more OrtEpDevice"):
        made.add_provider_for_devices([], {})
    with pytest.raises(errors.InvalidArgument, match="must refer to the same"):
        made.add_provider_for_devices([Device(), Device("CUDAExecutionProvider")], {})
    made.add_provider_for_devices([Device()], {})
    assert made.has_providers() and make(made, providers=None).get_providers() == [CPU]


@row("options.set_provider_selection_policy")
@pytest.mark.parametrize("runtime", BOTH)
def test_policy(runtime: str) -> None:
    policies = importlib.import_module(runtime).OrtExecutionProviderDevicePolicy
    made = options(runtime)
    made.set_provider_selection_policy(policies.PREFER_CPU)
    assert made.has_providers()
    assert make(made, runtime, providers=None).get_providers() == [CPU]
    with pytest.raises(TypeError):
        made.set_provider_selection_policy(1)


@row("options.set_provider_selection_policy_delegate")
def test_delegate() -> None:
    calls: list[Any] = []

    def choose(*arguments: Any) -> list[Any]:
        calls.append(arguments)
        return [Device()]

    made = options()
    made.set_provider_selection_policy_delegate(choose)
    assert make(made, providers=None).get_providers() == [CPU] and len(calls[0]) == 4
    for delegate, message in [
        (lambda *_: [], "did not select anything"),
        (lambda *_: 1 / 0, "EP selection delegate failed: ZeroDivisionError"),
        (lambda *_: 3, "EP selection delegate failed"),
    ]:
        made.set_provider_selection_policy_delegate(delegate)
        with pytest.raises(errors.Fail, match=message):
            make(made, providers=None)
    with pytest.raises(TypeError):
        made.set_provider_selection_policy_delegate(3)
    made.set_provider_selection_policy_delegate(None)
    assert not made.has_providers()


@row("options.set_ep_context_data_read_func", "options.clear_ep_context_data_read_func")
@pytest.mark.parametrize("runtime", BOTH)
def test_context_data(runtime: str) -> None:
    made = options(runtime)
    made.set_ep_context_data_read_func(lambda name, buffer: None, 100)
    make(made, runtime)
    made.clear_ep_context_data_read_func()
    make(made, runtime)
    with pytest.raises(TypeError):
        made.set_ep_context_data_read_func(3, 100)


@row("options.set_load_cancellation_flag")
@pytest.mark.parametrize("runtime", BOTH)
def test_cancelled_load(runtime: str) -> None:
    kind = importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state").ModelLoadCanceled
    made = options(runtime)
    made.set_load_cancellation_flag(True)
    with pytest.raises(kind, match="MODEL_LOAD_CANCELED"):
        make(made, runtime)
    made.set_load_cancellation_flag(False)
    make(made, runtime)
    with pytest.raises(TypeError):
        made.set_load_cancellation_flag("x")


def test_a_load_under_way_is_cancelled() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(3000)]
    proto = model(nodes, [tensor("v0")], [tensor("v3000")])
    made = options()
    timer = threading.Timer(0.05, made.set_load_cancellation_flag, [True])
    timer.start()
    with pytest.raises(errors.ModelLoadCanceled):
        for _ in range(1000):
            make(made, proto=proto)
    timer.join()


@row("options unknown attribute")
@pytest.mark.parametrize("runtime", BOTH)
def test_unknown(runtime: str) -> None:
    with pytest.raises(AttributeError):
        options(runtime).number_of_threads = 3


# --- config entries

ACCEPTED = [
    "session.disable_prepacking", "session.use_env_allocators",
    "session.use_device_allocator_for_initializers", "session.disable_quant_qdq",
    "session.enable_quant_qdq_cleanup", "session.disable_double_qdq_remover",
    "session.intra_op.allow_spinning", "session.inter_op.allow_spinning",
    "session.disable_aot_function_inlining", "optimization.enable_gelu_approximation",
    "session.force_spinning_stop", "session.strict_shape_type_inference",
    "session.allow_released_opsets_only", "session.use_ort_model_bytes_directly",
    "session.record_ep_graph_assignment_info",
]  # fmt: skip
NUMBERS = [
    "session.qdq_matmulnbits_accuracy_level", "session.graph_optimizations_loop_level",
    "session.dynamic_block_base", "ep.context_enable", "ep.context_file_path",
    "ep.context_embed_mode", "mlas.enable_gemm_fastmath_arm64_bfloat16",
]  # fmt: skip


@row(*(f"entry.{name}" for name in [*ACCEPTED, *NUMBERS]))
@pytest.mark.parametrize("name", [*ACCEPTED, *NUMBERS])
def test_accepted_entries(name: str) -> None:
    want = session(linear()).run(None, {"x": X})
    for value in ("0", "1"):
        made = make(options(config={name: value}))
        assert made.get_session_options().get_session_config_entry(name) == value
        for got, expected in zip(made.run(None, {"x": X}), want, strict=True):
            np.testing.assert_array_equal(got, expected)


@row("entry.session.set_denormal_as_zero")
@pytest.mark.parametrize("threads", [1, 2])
def test_denormals(threads: int) -> None:
    node = helper.make_node("Mul", ["x", "h"], ["y"])
    half = helper.make_tensor("h", FLOAT, [1], [0.5])
    proto = model([node], [tensor("x", FLOAT, ["n"])], [tensor("y", FLOAT, ["n"])], [half])
    x = np.full(1 << 20, 1.5e-38, np.float32)  # whose half is denormal
    for value, want in (("0", np.float32(1.5e-38) * np.float32(0.5)), ("1", 0), ("0", None)):
        made = make(
            options(config={"session.set_denormal_as_zero": value}, intra_op_num_threads=threads),
            proto=proto,
        )
        (y,) = made.run(None, {"x": x})
        want = np.float32(1.5e-38) * np.float32(0.5) if want is None else want
        assert (y == want).all()
        assert np.float32(1e-40) * np.float32(1) > 0  # as before in this thread


@row("entry.session.intra_op_thread_affinities")
@pytest.mark.parametrize("runtime", BOTH)
@pytest.mark.parametrize(
    ("threads", "text", "message"),
    [
        (2, "1", ""),
        (2, "1-1", ""),
        (3, "1;1", ""),
        (2, "1;", ""),
        (1, "nonsense", ""),
        (2, "1;1", "Number of affinities does not equal to thread_pool_size minus one"),
        (3, "1", "Number of affinities does not equal to thread_pool_size minus one"),
        (2, "x", "Processor id must consist of only digits"),
        (2, "0", "Processor id must start from 1"),
        (2, "2-1", "Invalid processor interval"),
        (2, "", "Affinity string must not be empty"),
    ],
)
def test_affinities(runtime: str, threads: int, text: str, message: str) -> None:
    made = options(
        runtime, {"session.intra_op_thread_affinities": text}, intra_op_num_threads=threads
    )
    if message:
        with pytest.raises(RuntimeError, match=message):
            make(made, runtime)
    else:
        assert make(made, runtime).run(None, {"x": X})[0].shape == (2, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds threads")
def test_a_thread_is_bound() -> None:
    python("""
import os
first = min(os.sched_getaffinity(0))
options = ort.SessionOptions()
options.intra_op_num_threads = 2
options.add_session_config_entry("session.intra_op_thread_affinities", str(first + 1))
before = set(os.listdir("/proc/self/task"))
made = session(linear(), options)
made.run(None, {"x": np.ones((1 << 20, 3), np.float32)})
extra = set(os.listdir("/proc/self/task")) - before
assert any(os.sched_getaffinity(int(thread)) == {first} for thread in extra)
""")


@row("entry.session.disable_cpu_ep_fallback")
@pytest.mark.parametrize("runtime", BOTH)
def test_no_cpu(runtime: str) -> None:
    kinds = importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state")
    made = options(runtime, {"session.disable_cpu_ep_fallback": "1"})
    with pytest.raises(kinds.InvalidArgument):
        make(made, runtime)
    with pytest.raises(kinds.Fail, match="fallback to CPU EP has been explicitly disabled"):
        make(made, runtime, providers=None)


@row("entry.session.load_model_format", "entry.session.save_model_format")
def test_formats(tmp_path: Path) -> None:
    make(options(config={"session.load_model_format": "ONNX"}))
    with pytest.raises(errors.Fail, match="load_model_format is ORT"):
        make(options(config={"session.load_model_format": "ORT"}))
    for config, name in (({"session.save_model_format": "ORT"}, "m.onnx"), ({}, "m.ort")):
        with pytest.raises(errors.Fail, match="onnxruntime's own format"):
            make(options(config=config, optimized_model_filepath=str(tmp_path / name)))


@row(
    "entry.session.optimized_model_external_initializers_file_name",
    "entry.session.optimized_model_external_initializers_min_size_in_bytes",
)
def test_weights_beside(tmp_path: Path) -> None:
    name = "session.optimized_model_external_initializers_"
    config = {f"{name}file_name": "weights.bin", f"{name}min_size_in_bytes": "8"}
    path = str(tmp_path / "saved.onnx")
    want = make(options(config=config, optimized_model_filepath=path)).run(None, {"x": X})
    assert (tmp_path / "weights.bin").stat().st_size >= 24
    np.testing.assert_allclose(ort.InferenceSession(path).run(None, {"x": X})[0], want[0])


@row("entry.session.model_external_initializers_file_folder_path")
@pytest.mark.parametrize("runtime", BOTH)
def test_external_folder(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    key = "session.model_external_initializers_file_folder_path"
    made = make(options(runtime, {key: str(tmp_path) + os.sep}), runtime, external())
    assert made.run(["s"], {"x": X})[0].shape == (2, 2)


@row("entry.optimization.disable_specified_optimizers")
def test_disabled() -> None:
    name = next(iter(session(linear()).explain().passes))
    made = make(options(config={"optimization.disable_specified_optimizers": f"{name};Other"}))
    assert not made.explain().passes.get(name)


# --- RunOptions


@row("run.log_severity_level", "run.log_verbosity_level", "run.logid")
@pytest.mark.parametrize("runtime", BOTH)
def test_run_logging(runtime: str) -> None:
    module = importlib.import_module(runtime)
    run, made = module.RunOptions(), make(None, runtime)
    assert (run.log_severity_level, run.log_verbosity_level, run.logid) == (-1, 0, "")
    run.log_severity_level, run.log_verbosity_level, run.logid = 2, 1, "mine"
    made.run(None, {"x": X}, run)
    run.log_severity_level = 5
    with pytest.raises(module.capi.onnxruntime_pybind11_state.Fail):
        made.run(None, {"x": X}, run)


@row("run.terminate")
@pytest.mark.parametrize("runtime", BOTH)
def test_terminate(runtime: str) -> None:
    module = importlib.import_module(runtime)
    run = module.RunOptions()
    assert run.terminate is False
    run.terminate = True
    with pytest.raises(module.capi.onnxruntime_pybind11_state.Fail, match="terminate flag"):
        make(None, runtime).run(None, {"x": X}, run)


@row("run.only_execute_path_to_fetches")
def test_only_the_path() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Reshape", ["x", "shape"], ["z"]),
        helper.make_node("Neg", ["y"], ["w"]),
    ]
    inputs = [tensor("x"), tensor("shape", TensorProto.INT64, [2])]
    outputs = [tensor("y"), tensor("z", shape=["m", "k"]), tensor("w")]
    made = make(None, proto=model(nodes, inputs, outputs))
    wrong = {"x": X, "shape": np.array([5, 7])}  # which six elements do not fit
    with pytest.raises(errors.Fail):
        made.run(["y"], wrong)
    run = ort.RunOptions()
    run.only_execute_path_to_fetches = True
    for _ in range(2):
        y, again, w = made.run(["y", "y", "w"], wrong, run)
        np.testing.assert_array_equal(y, X)
        np.testing.assert_array_equal(w, -X)
        assert again is not y
    with pytest.raises(errors.Fail):
        made.run(["z"], wrong, run)
    with pytest.raises(errors.InvalidArgument, match="Invalid output name"):
        made.run(["q"], wrong, run)


@row("run.add_run_config_entry", "run.get_run_config_entry")
@pytest.mark.parametrize("runtime", BOTH)
def test_run_entries(runtime: str) -> None:
    module = importlib.import_module(runtime)
    made = make(None, runtime)

    def with_entry(key: str, value: str) -> Any:
        run = module.RunOptions()
        run.add_run_config_entry(key, value)
        assert run.get_run_config_entry(key) == value
        return made.run(None, {"x": X}, run)

    shrinks = "memory.enable_memory_arena_shrinkage"
    for key, value in [
        (shrinks, "cpu:0"),
        (shrinks, "cpu"),
        ("disable_synchronize_execution_providers", "1"),
        ("gpu_graph_id", "-1"),
        ("anything", "at all"),
    ]:
        with_entry(key, value)
    wrong = module.capi.onnxruntime_pybind11_state.InvalidArgument
    for key, value, message in [
        (shrinks, "zzz", "Unsupported device specified in the memory arena shrink list"),
        (shrinks, "cpu:7", "Did not find an arena based allocator"),
        ("gpu_graph_id", "x", "Failed to parse the cuda graph annotation id"),
    ]:
        with pytest.raises(wrong, match=message):
            with_entry(key, value)
    with pytest.raises(RuntimeError, match="does not have configuration with key: k"):
        module.RunOptions().get_run_config_entry("k")
    with pytest.raises(RuntimeError, match="Config key is empty"):
        module.RunOptions().add_run_config_entry("", "v")


@row("run.add_active_adapter")
@pytest.mark.parametrize("runtime", BOTH)
def test_adapters(runtime: str) -> None:
    with pytest.raises(TypeError):
        importlib.import_module(runtime).RunOptions().add_active_adapter(3)


def test_the_list_of_rows() -> None:
    """Every attribute of the classes has a row."""
    for kind, prefix in ((ort.SessionOptions, "options"), (ort.RunOptions, "run")):
        names = [*kind._fields, *(n for n in dir(kind) if not n.startswith("_"))]
        ours = {"copy", "chosen_providers", "follower", "check"}
        assert not [name for name in names if name not in ours and f"{prefix}.{name}" not in ROWS]


if __name__ == "__main__":
    print("\n".join(f"{name}: {test.__name__}" for name, test in ROWS.items()))
