# SPDX-License-Identifier: Apache-2.0
"""Making sessions: sources, providers, what they tell about the model."""

from __future__ import annotations

import warnings
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


def test_sources(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear().SerializeToString())
    for source in (str(path), path, path.read_bytes()):
        made = ort.InferenceSession(path_or_bytes=source, sess_options=None, providers=None)
        assert made.run(None, {"x": X})[0].shape == (2, 2)
        assert made._model_path == (None if isinstance(source, bytes) else str(path))


@pytest.mark.parametrize("source", [bytearray(b"x"), memoryview(b"x"), linear(), None, 3])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(TypeError, match="Unable to load from type"):
        ort.InferenceSession(source)


def test_load_errors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        ort.InferenceSession("")
    with pytest.raises(errors.NoSuchFile, match=r"x\.onnx failed\. File doesn't exist"):
        ort.InferenceSession(tmp_path / "x.onnx")
    with pytest.raises(errors.NoSuchFile, match="null byte"):
        ort.InferenceSession("a\0b")
    with pytest.raises(errors.InvalidProtobuf, match="protobuf parsing failed"):
        ort.InferenceSession(b"\xff" * 20)
    with pytest.raises(errors.InvalidProtobuf, match="Protobuf parsing failed"):
        ort.InferenceSession(tmp_path)
    with pytest.raises(errors.InvalidArgument, match="No graph was found in the protobuf"):
        ort.InferenceSession(b"")


def broken(node: onnx.NodeProto, **arguments: Any) -> onnx.ModelProto:
    return model([node], [tensor("x")], [tensor("y")], **arguments)


def node(op_type: str, inputs: Any = ("x",), domain: str = "", **attributes: Any) -> Any:
    return helper.make_node(op_type, list(inputs), ["y"], name="n", domain=domain, **attributes)


@pytest.mark.parametrize(
    ("proto", "kind", "message"),
    [
        (broken(node("FooBar")), errors.InvalidGraph, "No Op registered for FooBar with domain_v"),
        (
            broken(node("FooBar", domain="my.dom"), domains=[("my.dom", 1)]),
            errors.Fail,
            r"my\.dom:FooBar\(-1\) is not a registered function/op",
        ),
        (broken(node("FooBar", domain="my.dom")), errors.InvalidGraph, "No opset import for dom"),
        (broken(node("Concat")), errors.InvalidGraph, "Required attribute 'axis' is missing"),
        (
            broken(node("Relu", foo=1)),
            errors.InvalidGraph,
            "Unrecognized attribute: foo for operator Relu",
        ),
        (broken(node("Relu", "xx")), errors.InvalidGraph, "has input size 2 not in range"),
        (broken(node("Add", "xq")), errors.InvalidArgument, "Node input 'q' is not a graph input"),
        (broken(node("Relu"), opset=99), errors.Fail, "Opset 99 is under development"),
        (
            model(
                [node("Relu")], [tensor("x", TensorProto.STRING)], [tensor("y", TensorProto.STRING)]
            ),
            errors.InvalidGraph,
            r"Type 'tensor\(string\)' of input parameter \(x\) of operator \(Relu\)",
        ),
        (
            model([node("Relu")], [tensor("x")], [tensor("z")]),
            errors.Fail,
            r"Graph output \(z\) does not exist in the graph",
        ),
    ],
)
def test_model_errors(proto: onnx.ModelProto, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        session(proto)
    assert str(caught.value).startswith("[ONNXRuntimeError] : ")


def test_codes() -> None:
    from bascule.capi import onnxruntime_pybind11_state as state

    names = {
        "Fail": "1 : FAIL",
        "InvalidArgument": "2 : INVALID_ARGUMENT",
        "NoSuchFile": "3 : NO_SUCHFILE",
        "NoModel": "4 : NO_MODEL",
        "EngineError": "5 : ENGINE_ERROR",
        "RuntimeException": "6 : RUNTIME_EXCEPTION",
        "InvalidProtobuf": "7 : INVALID_PROTOBUF",
        "ModelLoaded": "8 : MODEL_LOADED",
        "NotImplemented": "9 : NOT_IMPLEMENTED",
        "InvalidGraph": "10 : INVALID_GRAPH",
        "EPFail": "11 : EP_FAIL",
        "ModelLoadCanceled": "12 : MODEL_LOAD_CANCELED",
        "ModelRequiresCompilation": "13 : ",
        "NotFound": "14 : ",
        "DeviceReset": "",
    }
    for name, code in names.items():
        kind = getattr(state, name)
        assert kind.__bases__ == (Exception,)
        assert kind is getattr(ort.capi._pybind_state, name)
        assert str(kind("text")).startswith(f"[ONNXRuntimeError] : {code}")


# --- providers


def test_provider_lists() -> None:
    assert ort.get_available_providers()[-1] == CPU
    assert ort.get_all_providers()[-1] == CPU
    assert set(ort.get_available_providers()) <= set(ort.get_all_providers())
    has_gpu = "CUDAExecutionProvider" in ort.get_available_providers()
    assert ort.get_device() == ("GPU" if has_gpu else "CPU")


@pytest.mark.parametrize(
    "providers",
    [None, [], [CPU], (CPU,), [(CPU, {"option": 1})]],
    ids=["None", "[]", "list", "tuple", "pair"],
)
def test_providers(providers: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = session(linear(), providers=providers)
    assert made.get_providers()[-1] == CPU
    assert set(made.get_provider_options()) == set(made.get_providers())


def test_absent_and_duplicate_providers_warn() -> None:
    with pytest.warns(UserWarning, match="is not in available provider names"):
        made = session(linear(), providers=["TensorrtExecutionProvider", CPU])
    assert made.get_providers() == [CPU]
    with pytest.warns(UserWarning, match="Duplicate provider"):
        session(linear(), providers=[CPU, CPU])


@pytest.mark.parametrize(
    ("providers", "options"),
    [
        (["Nonsense"], None),
        (CPU, None),
        ([CPU], [{}, {}]),
        ([(CPU, {})], [{}]),
        ([3], None),
        (3, None),
    ],
)
def test_malformed_providers_fall_back(
    providers: Any, options: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = session(linear(), providers=providers, provider_options=options)
    assert made.get_providers() == [CPU]
    printed = capsys.readouterr().out
    assert "EP Error" in printed
    assert f"Falling back to ['{CPU}'] and retrying." in printed
    with pytest.raises((RuntimeError, ValueError)):
        session(linear(), providers=providers, provider_options=options, enable_fallback=0)


@pytest.mark.parametrize(
    ("providers", "hint"),
    [
        (["CUDA"], "Unknown Provider Type: CUDA (did you mean 'CUDAExecutionProvider'?)"),
        (CPU, f"Unknown Provider Type: C (providers are a list: ['{CPU}'])"),
        ([""], "Unknown Provider Type: "),
    ],
)
def test_what_a_provider_may_have_meant(providers: Any, hint: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        session(linear(), providers=providers, enable_fallback=0)
    assert str(caught.value) == hint


def test_set_providers() -> None:
    made = session(linear())
    before = made.run(None, {"x": X})
    with pytest.raises(RuntimeError, match="Unknown Provider Type: Nonsense"):
        made.set_providers(["Nonsense"])
    made.set_providers([CPU])
    for got, want in zip(made.run(None, {"x": X}), before):
        np.testing.assert_array_equal(got, want)
    made.enable_fallback()
    made.disable_fallback()


def test_unknown_arguments_are_ignored() -> None:
    session(linear(), something=1)


# --- what the model is


def test_node_args() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    proto = model([node], [tensor("x", shape=[1, "rows", None])], [tensor("y", shape=None)])
    made = session(proto)
    (x,), (y,) = made.get_inputs(), made.get_outputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", [1, "rows", None])
    assert y.shape == [1, "rows", None]
    assert isinstance(x, ort.NodeArg)
    with pytest.raises(AttributeError):
        x.name = "z"  # type: ignore[misc]
    assert str(x) == "NodeArg(name='x', type='tensor(float)', shape=[1, 'rows', None])"
    x.shape.clear()
    assert made.get_inputs()[0].shape == [1, "rows", None]


LEVELS = list(ort.GraphOptimizationLevel.__members__.values())


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("operator", ["Identity", "Cast"])
def test_an_input_is_what_the_model_says(operator: str, level: ort.GraphOptimizationLevel) -> None:
    """It takes no type from a node that hands it on, which may say a size of a former version."""
    attributes = {"to": FLOAT} if operator == "Cast" else {}
    nodes = [
        helper.make_node(operator, ["x"], ["same"], **attributes),
        helper.make_node("Sigmoid", ["same"], ["y"]),
    ]
    for sizes in (None, [2, 4]):
        proto = model(nodes, [tensor("x", shape=[None, 4])], [tensor("y", shape=None)])
        if sizes:
            proto.graph.value_info.append(tensor("same", shape=sizes))
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        made = session(proto, options)
        assert made.get_inputs()[0].shape == [None, 4]
        assert made.run(None, {"x": np.ones((3, 4), np.float32)})[0].shape == (3, 4)


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_outputs_keep_the_names_of_their_sizes(level: ort.GraphOptimizationLevel) -> None:
    """The optimizer knows more of them than the model says, which is not what they are called."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    for rows in ("batch", None):
        proto = model(
            [
                helper.make_node("Relu", ["x"], ["z"]),
                helper.make_node("Reshape", ["z", "s"], ["y"]),
            ],
            [tensor("x", shape=[rows, 4])],
            [tensor("y", shape=["elements" if rows else None])],
            [helper.make_tensor("s", TensorProto.INT64, [1], [-1])],
        )
        made = session(proto, options)
        assert made.get_inputs()[0].shape == [rows, 4]
        assert made.get_outputs()[0].shape == ["elements" if rows else None]


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (TensorProto.DOUBLE, "double"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.INT64, "int64"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.STRING, "string"),
        (TensorProto.INT4, "int4"),
        (TensorProto.FLOAT8E4M3FN, "float8e4m3fn"),
    ],
)
def test_type_names(number: int, name: str) -> None:
    proto = model(
        [helper.make_node("Identity", ["x"], ["y"])], [tensor("x", number)], [tensor("y", number)]
    )
    assert session(proto).get_outputs()[0].type == f"tensor({name})"


def test_metadata() -> None:
    proto = linear()
    proto.producer_name = "producer"
    proto.model_version = 7
    proto.domain = "domain"
    proto.doc_string = "about the model"
    proto.graph.doc_string = "about the graph"
    helper.set_model_props(proto, {"names": "{0: 'cat'}", "stride": "32"})
    meta = session(proto).get_modelmeta()
    assert isinstance(meta, ort.ModelMetadata)
    assert meta.custom_metadata_map == {"names": "{0: 'cat'}", "stride": "32"}
    assert (meta.producer_name, meta.graph_name, meta.domain) == ("producer", "graph", "domain")
    assert (meta.description, meta.graph_description) == ("about the model", "about the graph")
    assert meta.version == 7
    with pytest.raises(AttributeError):
        meta.version = 8  # type: ignore[misc]


def test_explain() -> None:
    explanation = session(linear()).explain()
    assert explanation.rows and explanation.seconds and explanation.passes
    for row in explanation.rows:
        assert row.provider == CPU
        assert row.kernel
        assert row.outputs
    records = explanation.records()
    assert set(records[0]) == {"node", "operator", "shape", "dtype", "provider", "kernel", "reason"}
    assert records[0]["dtype"] == "float"
    assert all(record["reason"] for record in records)
    text = str(explanation)
    assert text.splitlines()[0].startswith("node") and records[0]["operator"] in text


def test_free_dimensions_are_not_checked_against_each_other() -> None:
    node = helper.make_node("Concat", ["a", "b"], ["y"], axis=0)
    proto = model(
        [node], [tensor("a", FLOAT, ["n"]), tensor("b", FLOAT, ["n"])], [tensor("y", FLOAT, ["m"])]
    )
    (y,) = session(proto).run(None, {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})
    assert y.shape == (5,)
