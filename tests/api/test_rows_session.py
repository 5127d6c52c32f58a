# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: InferenceSession, NodeArg, ModelMetadata, errors.

`python -m tests.api.test_rows_session` lists the rows with their tests. `runtime` runs a row on
onnxruntime, too, where that is installed.
"""

from __future__ import annotations

import importlib
import inspect
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule as ort
from bascule import errors
from tests.api.models import FLOAT, linear, model, scaled, session, tensor
from tests.api.test_rows_options import BOTH, CPU, X, make, options, row

ROWS: dict[str, Callable[..., Any]] = {}


def kinds(runtime: str) -> Any:
    return importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state")


def of(*names: str) -> Callable[[Any], Any]:
    def note(test: Any) -> Any:
        ROWS.update(dict.fromkeys(names, test))
        return row(*names)(test)

    return note


# --- making one


@of("session.source")
@pytest.mark.parametrize("runtime", BOTH)
def test_sources(runtime: str, tmp_path: Path) -> None:
    kind = importlib.import_module(runtime).InferenceSession
    path = tmp_path / "m.onnx"
    path.write_bytes(linear().SerializeToString())
    for source in (path, str(path), path.read_bytes()):
        made = kind(path_or_bytes=source, sess_options=None, providers=[CPU])
        assert made._model_path == (None if isinstance(source, bytes) else str(path))
        assert made._model_bytes == (source if isinstance(source, bytes) else None)
    for source in (bytearray(b"x"), memoryview(b"x"), None, 3):
        with pytest.raises(TypeError, match="Unable to load from type"):
            kind(source)


@of("session.providers", "session.provider_options", "session.enable_fallback")
@pytest.mark.parametrize("runtime", BOTH)
@pytest.mark.parametrize(
    ("providers", "provider_options"),
    [
        ("x", None),
        ([3], None),
        ([CPU], [{}, {}]),
        ([CPU], [3]),
        ([CPU], 3),
        ([(CPU, {})], [{}]),
        (["Nonsense"], None),
    ],
)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_malformed_providers(
    runtime: str, providers: Any, provider_options: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(None, runtime, providers=providers, provider_options=provider_options)
    assert made.get_providers() == [CPU]
    printed = capsys.readouterr().out
    assert "EP Error" in printed and f"Falling back to ['{CPU}'] and retrying." in printed
    with pytest.raises((RuntimeError, ValueError)):
        make(
            None,
            runtime,
            providers=providers,
            provider_options=provider_options,
            enable_fallback=0,
        )


@of("session.providers absent", "session.providers twice")
@pytest.mark.parametrize("runtime", BOTH)
def test_warnings(runtime: str) -> None:
    with pytest.warns(UserWarning, match="is not in available provider names"):
        made = make(None, runtime, providers=["TensorrtExecutionProvider"])
    assert made.get_providers() == [CPU]
    with pytest.warns(UserWarning, match="Duplicate provider"):
        make(None, runtime, providers=[CPU, CPU])
    made = make(None, runtime, providers=[(CPU, {"a": 1})], unknown=1)
    assert list(made.get_provider_options()) == [CPU]


@of("session.disabled_optimizers")
@pytest.mark.parametrize("runtime", BOTH)
def test_disabled_optimizers(runtime: str) -> None:
    for names in (["Nonsense"], {"Nonsense"}, ("Nonsense",)):
        make(None, runtime, disabled_optimizers=names)
    with pytest.raises(TypeError):
        make(None, runtime, disabled_optimizers=3)


def configured(text: str) -> onnx.ModelProto:
    proto = linear()
    helper.set_model_props(proto, {"ort_config": text})
    return proto


CONFIG = (
    '{"session_options": {"intra_op_num_threads": 3, "inter_op_num_threads": 2, "unknown": 1,'
    '"graph_optimization_level": 1, "enable_profiling": 0, "execution_mode": 1}}'
)


@of("session.read_config_from_model")
@pytest.mark.parametrize("runtime", BOTH)
def test_config_from_model(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(None, runtime, configured(CONFIG)).get_session_options().intra_op_num_threads == 0
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    got = make(None, runtime, configured(CONFIG)).get_session_options()
    assert (got.intra_op_num_threads, got.inter_op_num_threads) == (3, 2)
    assert got.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert got.execution_mode.name == "ORT_PARALLEL"
    make(None, runtime)  # without an entry
    for text in (
        "{",
        '{"session_options": {"intra_op_num_threads": "x"}}',
        '{"session_options": {"intra_op_num_threads": -5}}',
        '{"session_options": {"graph_optimization_level": 7}}',
        '{"session_options": {"enable_profiling": 5}}',
    ):
        with pytest.raises(RuntimeError):
            make(None, runtime, configured(text))
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "yes")
    with pytest.raises(RuntimeError, match="ORT_LOAD_CONFIG_FROM_MODEL"):
        make(None, runtime)


def test_config_by_keyword() -> None:
    made = make(None, proto=configured(CONFIG), read_config_from_model=1)
    assert made.get_session_options().intra_op_num_threads == 3


# --- running


@of("session.run", "session.run.output_names")
@pytest.mark.parametrize("runtime", BOTH)
def test_run(runtime: str) -> None:
    made = make(None, runtime)
    y, s = made.run(None, {"x": X})
    for names, want in ([], [y, s]), (["s", "y", "s"], [s, y, s]), (("y",), [y]):
        got = made.run(names, {"x": X})
        assert len(got) == len(want)
        for a, b in zip(got, want):
            np.testing.assert_array_equal(a, b)
            assert a.flags.writeable
    with pytest.raises(TypeError):
        made.run("y", {"x": X})
    with pytest.raises(AttributeError):
        made.run(None, [X])
    with pytest.raises(TypeError):
        made.run(None, {"x": X}, 3)


@of("session.run.values")
@pytest.mark.parametrize("runtime", BOTH)
def test_feeds(runtime: str) -> None:
    made = make(None, runtime)
    want = made.run(["s"], {"x": X})[0]
    value = importlib.import_module(runtime).OrtValue.ortvalue_from_numpy(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    for given in (X.tolist(), np.asfortranarray(X), frozen, value):
        np.testing.assert_array_equal(made.run(["s"], {"x": given})[0], want)
    if runtime == "bascule":  # takes NumPy's scalars for inputs without axes
        with pytest.raises(errors.InvalidArgument, match="Invalid rank"):
            made.run(None, {"x": np.float32(1)})
    for wrong in (1.0, "text", object()):
        with pytest.raises(RuntimeError):
            made.run(None, {"x": wrong})


ERRORS: dict[str, tuple[Any, Any, str, str]] = {
    "session.run.missing_input": (None, {}, "ValueError", r"Required inputs \(\['x'\]\)"),
    "session.run.unknown_input": (
        None, {"x": X, "z": X}, "InvalidArgument", "Invalid input name: z",
    ),
    "session.run.unknown_output": (["m"], {"x": X}, "InvalidArgument", "Invalid output name:m"),
    "session.run.dtype": (
        None, {"x": X.astype(np.float64)}, "InvalidArgument",
        r"Unexpected input data type. Actual: \(tensor\(double\)\) , expected: \(tensor\(float\)",
    ),
    "session.run.rank": (
        None, {"x": X[0]}, "InvalidArgument",
        "Invalid rank for input: x Got: 1 Expected: 2 Please fix either the inputs",
    ),
    "session.run.dimension": (
        None, {"x": X[:, :2]}, "InvalidArgument",
        "Got invalid dimensions for input: x for the following indices\n index: 1 Got: 2 Expected",
    ),
    "session.run.object": (None, {"x": object()}, "RuntimeError", "Unable to handle object of typ"),
}  # fmt: skip


@of(*ERRORS)
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("runtime", BOTH)
def test_run_errors(name: str, runtime: str) -> None:
    names, feeds, kind, message = ERRORS[name]
    expected = (
        getattr(kinds(runtime), kind, None)
        or {
            "ValueError": ValueError,
            "RuntimeError": RuntimeError,
        }[kind]
    )
    with pytest.raises(expected, match=message):
        make(None, runtime).run(names, feeds)


@of("session.run.kernel_failure")
@pytest.mark.parametrize("runtime", BOTH)
def test_kernel_failure(runtime: str) -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"], name="n")
    proto = model(
        [node], [tensor("a", FLOAT, ["i"]), tensor("b", FLOAT, ["j"])], [tensor("y", FLOAT, ["k"])]
    )
    made = make(None, runtime, proto)
    with pytest.raises(kinds(runtime).Fail, match="Non-zero status code returned while running"):
        made.run(None, {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})


@of("session.run.index_out_of_range")
@pytest.mark.parametrize("runtime", BOTH)
def test_index(runtime: str) -> None:
    node = helper.make_node("Gather", ["a", "i"], ["y"], name="n")
    proto = model(
        [node],
        [tensor("a", FLOAT, [6]), tensor("i", TensorProto.INT64, [1])],
        [tensor("y", FLOAT, [1])],
    )
    message = r"idx=40 must be within the inclusive range \[-6,5\]"
    with pytest.raises(kinds(runtime).InvalidArgument, match=message):
        make(None, runtime, proto).run(None, {"a": np.ones(6, np.float32), "i": np.array([40])})


@of("session.run_async")
@pytest.mark.parametrize("runtime", BOTH)
def test_run_async(runtime: str) -> None:
    made = make(options(runtime, intra_op_num_threads=2), runtime)
    done, seen = threading.Event(), []

    def callback(*arguments: Any) -> None:
        seen.append(arguments)
        done.set()

    def result(names: Any, feeds: Any) -> Any:
        done.clear()
        made.run_async(names, feeds, callback, "mine")
        assert done.wait(30)
        return seen.pop()

    (s,), data, error = result(["s"], {"x": X})
    assert (data, error, s.shape) == ("mine", "", (2, 2))
    for names, feeds, message in [
        (None, {"x": X.astype(np.float64)}, "Unexpected input data type"),
        (["q"], {"x": X}, "Invalid output name"),
        (None, {"x": X, "q": X}, "Invalid input name: q"),
    ]:
        results, data, error = result(names, feeds)
        assert results == [] and data == "mine" and error.startswith(message)
    with pytest.raises(ValueError, match="Required inputs"):
        made.run_async(None, {}, callback, None)
    with pytest.raises(RuntimeError, match="Unable to handle object"):
        made.run_async(None, {"x": object()}, callback, None)
    for names, answer in (("y", callback), ([3], callback), (None, "no function")):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            made.run_async(names, {"x": X}, answer, None)
    assert seen == []
    with pytest.raises(kinds(runtime).InvalidArgument, match="at least one thread for RunAsync"):
        make(options(runtime, intra_op_num_threads=1), runtime).run_async(
            None, {"x": X}, callback, None
        )


@of("session.run_with_ort_values")
@pytest.mark.parametrize("runtime", BOTH)
def test_ort_values(runtime: str) -> None:
    made = make(None, runtime)
    value = importlib.import_module(runtime).OrtValue.ortvalue_from_numpy(X)
    (s,) = made.run_with_ort_values(["s"], {"x": value})
    np.testing.assert_array_equal(s.numpy(), made.run(["s"], {"x": X})[0])
    with pytest.raises(AttributeError):
        made.run_with_ort_values(["s"], {"x": X})


class Vector(list[Any]):
    """What run_with_ortvaluevector needs of an OrtValueVector."""

    push_back = list.append


@of("session.run_with_ortvaluevector")
def test_vectors() -> None:
    made = session(linear())
    want = made.run(["s", "y"], {"x": X})
    value, run = ort.OrtValue.ortvalue_from_numpy, ort.RunOptions()
    found = Vector()
    made.run_with_ortvaluevector(run, ["x"], Vector([value(X)]), ["s", "y"], found, [None, None])
    for got, expected in zip(found, want, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected)
    memory = np.zeros((2, 2), np.float32)
    made.run_with_ortvaluevector(run, ["x"], [value(X)], ["s"], Vector([value(memory)]), [None])
    np.testing.assert_array_equal(memory, want[0])
    small = Vector([value(np.zeros((2, 1), np.float32))])
    for names, feeds, fetches, message in [
        (["x"], [], Vector(), "feed names has 1 elements, but feed has 0 elements"),
        (["z"], [value(X)], Vector(), "Invalid input name: z|Required inputs"),
        (["x"], [value(X)], small, "Got invalid dimensions for output: s"),
        (["x"], [value(X)], Vector([1, 2]), "fetch names has 1 elements, but fetch has 2"),
    ]:
        with pytest.raises((errors.InvalidArgument, ValueError), match=message):
            made.run_with_ortvaluevector(run, names, feeds, ["s"], fetches, [None])
    with pytest.raises(TypeError):
        made.run_with_ortvaluevector(None, ["x"], [value(X)], ["s"], Vector(), [None])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.run_with_ortvaluevector(run, ["x"], [X], ["s"], Vector(), [None])


@of("session.io_binding", "session.run_with_iobinding")
@pytest.mark.parametrize("runtime", BOTH)
def test_binding(runtime: str) -> None:
    made = make(None, runtime)
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("s")
    made.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], made.run(["s"], {"x": X})[0])
    with pytest.raises(ValueError, match="must be used with the session that created it"):
        make(None, runtime).run_with_iobinding(binding)


@of("session.disable_fallback", "session.run.EPFail")
def test_fallback(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def run_feeds(self, *_: Any) -> Any:
            raise errors.EPFail("the device is gone")

    made = session(linear())
    made._program = Broken()
    made.disable_fallback()
    with pytest.raises(errors.EPFail, match="the device is gone"):
        made.run(None, {"x": X})
    made.enable_fallback()
    assert made.run(None, {"x": X})[0].shape == (2, 2)
    assert "Falling back to ['CPUExecutionProvider'] and retrying." in capsys.readouterr().out


# --- what it tells


@of("session.get_inputs", "session.get_outputs", "session.get_overridable_initializers")
@pytest.mark.parametrize("runtime", BOTH)
def test_arguments(runtime: str) -> None:
    made = make(None, runtime, scaled())
    assert [arg.name for arg in made.get_inputs()] == ["x"]
    assert [arg.name for arg in made.get_outputs()] == ["y"]
    assert [arg.name for arg in made.get_overridable_initializers()] == ["scale"]
    old = scaled()
    old.ir_version = 3
    assert make(None, runtime, old).get_overridable_initializers() == []


@of("node_arg.name", "node_arg.shape", "node_arg.type")
@pytest.mark.parametrize("runtime", BOTH)
def test_node_arg(runtime: str) -> None:
    proto = model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", FLOAT, [1, "rows", None])],
        [tensor("y", FLOAT, None)],
    )
    (x,) = make(None, runtime, proto).get_inputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", [1, "rows", None])
    with pytest.raises(AttributeError):
        x.name = "z"


META = {
    "producer_name": "producer",
    "graph_name": "graph",
    "graph_description": "about the graph",
    "description": "about the model",
    "domain": "dom",
    "version": 7,
    "custom_metadata_map": {"names": "{}"},
}


@of("session.get_modelmeta", *(f"metadata.{name}" for name in META))
@pytest.mark.parametrize("runtime", BOTH)
def test_metadata(runtime: str) -> None:
    proto = linear()
    proto.producer_name, proto.domain, proto.model_version = "producer", "dom", 7
    proto.doc_string, proto.graph.doc_string = "about the model", "about the graph"
    helper.set_model_props(proto, {"names": "{}"})
    meta = make(None, runtime, proto).get_modelmeta()
    for name, value in META.items():
        assert getattr(meta, name) == value


@of("session.get_providers", "session.get_provider_options", "session.set_providers")
@pytest.mark.parametrize("runtime", BOTH)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_set_providers(runtime: str) -> None:
    made = make(None, runtime)
    assert made.get_providers() == [CPU] and made.get_provider_options() == {CPU: {}}
    with pytest.raises(RuntimeError, match="Unknown Provider Type: Nonsense"):
        made.set_providers(["Nonsense"])
    made.set_providers([CPU])
    assert made.run(None, {"x": X})[0].shape == (2, 2)


@of("session.get_session_options")
@pytest.mark.parametrize("runtime", BOTH)
def test_session_options(runtime: str) -> None:
    given = options(runtime, intra_op_num_threads=2)
    made = make(given, runtime)
    given.intra_op_num_threads = 1
    assert made.get_session_options().intra_op_num_threads == 2


@of("session.end_profiling", "session.get_profiling_start_time_ns")
@pytest.mark.parametrize("runtime", BOTH)
def test_profiling_off(runtime: str) -> None:
    made = make(None, runtime)
    assert made.end_profiling() == "" and made.get_profiling_start_time_ns() == 0


@of(
    "session.get_input_memory_infos",
    "session.get_output_memory_infos",
    "session.get_input_epdevices",
)
@pytest.mark.parametrize("runtime", BOTH)
def test_memory(runtime: str) -> None:
    made = make(None, runtime)
    assert [info.name for info in made.get_input_memory_infos()] == ["Cpu"]
    assert [info.name for info in made.get_output_memory_infos()] == ["Cpu", "Cpu"]
    (device,) = made.get_input_epdevices()
    assert device is None or device.ep_name == CPU


@of("session.create_ortvalue_from_shape_and_type")
@pytest.mark.parametrize("runtime", BOTH)
def test_create(runtime: str) -> None:
    made = make(None, runtime)
    value = made.create_ortvalue_from_shape_and_type([2, 3], np.float32, "cpu")
    assert value.shape() == [2, 3]
    with pytest.raises(RuntimeError, match="No session allocator found for Device"):
        made.create_ortvalue_from_shape_and_type([2, 3], np.float32, "cuda")


@of("session.get_provider_graph_assignment_info")
@pytest.mark.parametrize("runtime", BOTH)
def test_assignment(runtime: str) -> None:
    key = "session.record_ep_graph_assignment_info"
    with pytest.raises(kinds(runtime).Fail, match=f'{key}\' must be set to "1"'):
        make(None, runtime).get_provider_graph_assignment_info()
    parts = make(options(runtime, {key: "1"}), runtime).get_provider_graph_assignment_info()
    assert parts and all(part.ep_name == CPU for part in parts)
    for part in parts:
        (node,) = part.get_nodes()
        assert node.name and node.op_type and isinstance(node.domain, str)


@of(
    "session.get_tuning_results",
    "session.set_tuning_results",
    "session.set_ep_dynamic_options",
    "session.release_captured_graph",
)
@pytest.mark.parametrize("runtime", BOTH)
def test_nothing_to_do(runtime: str) -> None:
    made = make(None, runtime)
    foreign = [{"ep": "x", "validators": {}, "results": {}}]
    assert made.get_tuning_results() == []
    made.set_tuning_results([])
    made.set_tuning_results(foreign)
    with pytest.raises(RuntimeError):
        made.set_tuning_results(foreign, error_on_invalid=True)
    with pytest.raises(TypeError):
        made.set_tuning_results(3)
    made.set_ep_dynamic_options({"a": "b"})
    with pytest.raises(RuntimeError, match="No options were provided"):
        made.set_ep_dynamic_options({})
    made.release_captured_graph()
    made.release_captured_graph(3)


@of("session private names")
@pytest.mark.parametrize("runtime", BOTH)
def test_private_names(runtime: str) -> None:
    made = make(None, runtime)
    assert made._model_path is None and isinstance(made._model_bytes, bytes)
    assert made._providers == [CPU] and made._fallback_providers == [CPU]
    assert made._provider_options == {CPU: {}} and made._enable_fallback
    assert [arg.name for arg in made._inputs_meta] == ["x"]
    assert [arg.name for arg in made._outputs_meta] == ["y", "s"]
    assert made._overridable_initializers == [] and made._profiling_start_time_ns == 0
    assert made._model_meta.graph_name == "graph" and made._sess_options_initial is None
    assert made._sess is not None and made._sess_options.intra_op_num_threads == 0


# --- loading


def node(op_type: str, inputs: str = "x", domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, list(inputs), ["y"], name="n", domain=domain, **attributes)


def one(each: onnx.NodeProto, **arguments: Any) -> onnx.ModelProto:
    return model([each], [tensor("x")], [tensor("y")], **arguments)


LOADS: dict[str, tuple[Any, str, str]] = {
    "load.unknown_op": (one(node("FooBar")), "InvalidGraph", "No Op registered for FooBar with"),
    "load.unregistered_domain": (
        one(node("FooBar", domain="my.dom"), domains=[("my.dom", 1)]),
        "Fail", r"my\.dom:FooBar\(-1\) is not a registered function/op",
    ),
    "load.domain_not_imported": (
        one(node("FooBar", domain="my.dom")), "InvalidGraph", "No opset import for domain",
    ),
    "load.attribute_missing": (
        one(node("Concat")), "InvalidGraph", "Required attribute 'axis' is missing",
    ),
    "load.attribute_unknown": (
        one(node("Relu", foo=1)), "InvalidGraph", "Unrecognized attribute: foo for operator Relu",
    ),
    "load.too_many_inputs": (
        one(node("Relu", "xx")), "InvalidGraph", "has input size 2 not in range",
    ),
    "load.dangling": (
        one(node("Add", "xq")), "InvalidArgument", "Node input 'q' is not a graph input",
    ),
    "load.opset_too_new": (one(node("Relu"), opset=99), "Fail", "Opset 99 is under development"),
    "load.output_missing": (
        model([node("Relu")], [tensor("x")], [tensor("z")]),
        "Fail", r"Graph output \(z\) does not exist in the graph",
    ),
    "load.duplicate_name": (
        model([node("Relu"), helper.make_node("Neg", ["x"], ["y"], name="m")],
              [tensor("x")], [tensor("y")]),
        "Fail", "Duplicate definition of name|Duplicate definition-site for",
    ),
    "load.cycle": (
        model([node("Add", "xz"), helper.make_node("Relu", ["y"], ["z"])],
              [tensor("x")], [tensor("y")]),
        "Fail", "acyclic",
    ),
    "load.types_differ": (
        model([node("Add", "xz")], [tensor("x"), tensor("z", TensorProto.DOUBLE)], [tensor("y")]),
        "Fail", r"Type parameter \(T\) of Optype \(Add\) bound to different types",
    ),
    "load.type_not_allowed": (
        model([node("Relu")], [tensor("x", TensorProto.STRING)], [tensor("y", TensorProto.STRING)]),
        "InvalidGraph", r"Type 'tensor\(string\)' of input parameter",
    ),
    "load.shapes_contradict": (
        model([node("MatMul", "xz")], [tensor("x", FLOAT, [2, 3]), tensor("z", FLOAT, [4, 5])],
              [tensor("y", FLOAT, [2, 5])]),
        "Fail", "Incompatible dimensions for matrix multiplication",
    ),
}  # fmt: skip


@of(*LOADS)
@pytest.mark.parametrize("name", LOADS)
@pytest.mark.parametrize("runtime", BOTH)
def test_load_errors(name: str, runtime: str) -> None:
    proto, kind, message = LOADS[name]
    with warnings.catch_warnings(), pytest.raises(getattr(kinds(runtime), kind), match=message):
        make(None, runtime, proto)


@of("load.ir_too_new")
def test_newer_files_are_read() -> None:
    """onnxruntime refuses them; here what the file says is understood, or refused node by node."""
    made = make(None, proto=one(node("Relu"), ir_version=99))
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X)


@of("load.file_missing", "load.garbage", "load.empty", "load.folder", "load.empty_path")
@pytest.mark.parametrize("runtime", BOTH)
def test_files(runtime: str, tmp_path: Path) -> None:
    load, kind = importlib.import_module(runtime).InferenceSession, kinds(runtime)
    with pytest.raises(kind.NoSuchFile, match=r"x\.onnx failed\. File doesn't exist"):
        load(tmp_path / "x.onnx")
    with pytest.raises(kind.InvalidProtobuf, match="protobuf parsing failed"):
        load(b"\xff" * 20)
    (tmp_path / "garbage.onnx").write_bytes(b"\xff" * 20)
    with pytest.raises(kind.InvalidProtobuf, match="Protobuf parsing failed"):
        load(tmp_path / "garbage.onnx")
    with pytest.raises(kind.InvalidProtobuf):
        load(tmp_path)
    (tmp_path / "empty.onnx").touch()
    for source in (b"", tmp_path / "empty.onnx"):
        with pytest.raises(kind.InvalidArgument, match="No graph was found in the protobuf"):
            load(source)
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        load("")


@of("load.external_data_missing")
@pytest.mark.parametrize("runtime", BOTH)
def test_external(runtime: str) -> None:
    from tests.api.test_rows_options import external

    with pytest.raises(kinds(runtime).Fail, match="External data path does not exist"):
        make(None, runtime, external())


@of("exceptions")
@pytest.mark.parametrize("runtime", BOTH)
def test_exceptions(runtime: str) -> None:
    for kind in errors.ALL:
        assert getattr(kinds(runtime), kind.__name__).__bases__ == (Exception,)


def test_the_list_of_rows() -> None:
    """Every public method of a session has a row."""
    ours = {"explain", "trace"}
    for name, _ in inspect.getmembers(ort.InferenceSession, inspect.isfunction):
        assert name.startswith("_") or name in ours or f"session.{name}" in ROWS, name
    assert len(ROWS) > 70


if __name__ == "__main__":
    print("\n".join(f"{name}: {test.__name__}" for name, test in ROWS.items()))
