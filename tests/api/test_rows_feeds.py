# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: kinds of feeds and results, and further refusals."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.api.models import FLOAT, linear, model, scaled, tensor
from tests.api.rows import Rows

row = Rows({})
CPU = "CPUExecutionProvider"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def session(ort: Any, proto: onnx.ModelProto, options: Any = None) -> Any:
    options = options or ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options, providers=[CPU])


def kinds(ort: Any) -> Any:
    return importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")


def one(op_type: str, inputs: Any, outputs: Any, domain: str = "", **attributes: Any) -> Any:
    names = [value.name for value in inputs], [value.name for value in outputs]
    node = helper.make_node(op_type, *names, name="n", domain=domain, **attributes)
    return model([node], inputs, outputs, domains=[(domain, 3)] if domain else ())


# --- feeds and results


@row("feed.strings", "result.strings")
def _(ort: Any) -> None:
    text = tensor("x", TensorProto.STRING, ["n"]), tensor("y", TensorProto.STRING, ["n"])
    made = session(ort, one("Identity", text[:1], text[1:]))
    for given in (
        np.array(["a", "bé"]),
        np.array(["a", "bé"], object),
        ["a", "bé"],
        np.array([b"a ", "bé".encode()]),
    ):
        (found,) = made.run(None, {"x": given})
        assert found.dtype == object and [each.strip() for each in found] == ["a", "bé"]
        assert all(type(each) is str for each in found)
    (found,) = made.run(None, {"x": np.array([1, None], object)})
    assert list(found) == ["1", "None"]


@row("feed.sequence", "result.sequence")
def _(ort: Any) -> None:
    values = [helper.make_tensor_sequence_value_info(name, FLOAT, None) for name in "xy"]
    made = session(ort, one("Identity", values[:1], values[1:]))
    (found,) = made.run(None, {"x": [X, X[:1]]})
    assert isinstance(found, list) and [each.shape for each in found] == [(2, 3), (1, 3)]
    with pytest.raises((RuntimeError, kinds(ort).InvalidArgument)):
        made.run(None, {"x": (X,)})


@row("feed.map")
def _(ort: Any) -> None:
    key, value = TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, [])
    x = helper.make_value_info("x", helper.make_map_type_proto(key, value))
    y = tensor("y", FLOAT, [1, 3])
    proto = one("DictVectorizer", [x], [y], "ai.onnx.ml", string_vocabulary=["a", "b", "c"])
    made = session(ort, proto)
    assert made.get_inputs()[0].type == "map(string,tensor(float))"
    (found,) = made.run(None, {"x": {"a": np.float32(4), "c": np.float32(1.5)}})
    np.testing.assert_array_equal(found.reshape(-1), [4, 0, 1.5])
    with pytest.raises(RuntimeError):
        made.run(None, {"x": [{"a": np.float32(4)}]})


@row("result.sequence_of_maps")
def _(ort: Any) -> None:
    element = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, [])
    )
    y = helper.make_value_info("y", helper.make_sequence_type_proto(element))
    proto = one(
        "ZipMap", [tensor("x", FLOAT, ["n", 3])], [y], "ai.onnx.ml", classlabels_int64s=[7, 8, 9]
    )
    made = session(ort, proto)
    assert made.get_outputs()[0].type == "seq(map(int64,tensor(float)))"
    (found,) = made.run(None, {"x": X})
    assert found == [{7: 0.0, 8: 1.0, 9: 2.0}, {7: 3.0, 8: 4.0, 9: 5.0}]
    assert all(type(number) is float for each in found for number in each.values())


@row("feed.optional", "result.optional")
def _(ort: Any) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    values = [helper.make_value_info(name, kind) for name in "xy"]
    made = session(ort, one("Identity", values[:1], values[1:]))
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X)
    assert made.run(None, {"x": None}) == [None] == made.run(None, {})


@row("result.scalar")
def _(ort: Any) -> None:
    made = session(ort, one("Identity", [tensor("x", FLOAT, [])], [tensor("y", FLOAT, [])]))
    (found,) = made.run(None, {"x": np.array(3, np.float32)})
    assert type(found) is np.ndarray and found.shape == ()


@row("feed.layouts")
def _(ort: Any) -> None:
    made = session(ort, linear())
    want = made.run(["y"], {"x": X})[0]
    wide = np.zeros((2, 6), np.float32)
    wide[:, ::2] = X
    for given in (
        np.asfortranarray(X),
        wide[:, ::2],
        X.view(np.memmap.__base__),
        X.tolist(),
    ):
        np.testing.assert_array_equal(made.run(["y"], {"x": given})[0], want)
    half = session(ort, one("Identity", *([tensor(n, TensorProto.FLOAT16)] for n in "xy")))
    assert half.run(None, {"x": X.tolist()})[0].dtype == np.float16


@row("feed.byte_order", only=True)  # which onnxruntime does not look at
def _(ort: Any) -> None:
    made = session(ort, linear())
    for order in "<>":
        found = made.run(["y"], {"x": X.astype(f"{order}f4")})[0]
        np.testing.assert_array_equal(found, made.run(["y"], {"x": X})[0])


@row("result.fresh", only=True)  # onnxruntime gives one array for an output named twice
def _(ort: Any) -> None:
    """Nobody else's memory, even where an output is an input, or a constant."""
    constant = helper.make_tensor("c", FLOAT, [2], [1, 2])
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["c"], ["k"])]
    proto = model(nodes, [tensor("x")], [tensor("y"), tensor("k", FLOAT, [2])], [constant])
    made = session(ort, proto)
    results = [each for _ in range(2) for each in made.run(["y", "y", "k"], {"x": X})]
    for i, each in enumerate(results):
        assert each.flags.writeable and not np.shares_memory(each, X)
        assert not any(np.shares_memory(each, other) for other in results[:i])
        each += 1
    np.testing.assert_array_equal(made.run(["k"], {"x": X})[0], [1, 2])


@row("feed.default")
def _(ort: Any) -> None:
    made = session(ort, scaled())
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X * 2)
    five = np.array([5], np.float32)
    np.testing.assert_array_equal(made.run(None, {"x": X, "scale": five})[0], X * 5)
    np.testing.assert_array_equal(made.run(None, {"x": X, "scale": None})[0], X * 2)


@row("feed.unused_input")
def _(ort: Any) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    made = session(ort, model([node], [tensor("x"), tensor("unused")], [tensor("y")]))
    with pytest.raises(ValueError, match=r"Required inputs \(\['unused'\]\) are missing"):
        made.run(None, {"x": X})


@row("feed.same_named_sizes", only=True)
def _(ort: Any) -> None:
    node = helper.make_node("Concat", ["a", "b"], ["y"], axis=0)
    values = [tensor(name, FLOAT, ["n", 3]) for name in "ab"]
    made = session(ort, model([node], values, [tensor("y", FLOAT, ["m", 3])]))
    assert made.run(None, {"a": X, "b": X[:1]})[0].shape == (3, 3)


# --- refusals


@row("session.run.tensor_for_sequence")
def _(ort: Any) -> None:
    values = [helper.make_tensor_sequence_value_info(name, FLOAT, None) for name in "xy"]
    made = session(ort, one("Identity", values[:1], values[1:]))
    with pytest.raises(kinds(ort).InvalidArgument, match="expected to be of type: 3 but received"):
        made.run(None, {"x": X})


@row("session.run.nothing_for_a_tensor")
def _(ort: Any) -> None:
    with pytest.raises(kinds(ort).Fail, match=r"Missing Input: x"):
        session(ort, linear()).run(None, {"x": None})


@row("session.run.malformed_arguments")
def _(ort: Any) -> None:
    made = session(ort, linear())
    with pytest.raises(AttributeError):
        made.run(None, [X])
    for names, options in (("y", None), (None, 3)):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            made.run(names, {"x": X}, options)
    with pytest.raises(kinds(ort).InvalidArgument, match="Invalid input name: w"):
        made.run(None, {"x": X, "w": X})  # an initializer that is no input


@row("load.no_graph", "load.no_opset")
def _(ort: Any) -> None:
    for data in (onnx.ModelProto(ir_version=8).SerializeToString(), b""):
        with pytest.raises(kinds(ort).InvalidArgument, match="No graph was found in the protobuf"):
            ort.InferenceSession(data, providers=[CPU])
    proto = linear()
    del proto.opset_import[:]
    with pytest.raises(kinds(ort).Fail, match="Missing opset in the model"):
        session(ort, proto)


@row("load.own_format", only=True)
def _(ort: Any) -> None:
    with pytest.raises(kinds(ort).InvalidProtobuf, match="onnxruntime's own format"):
        ort.InferenceSession(b"\x18\0\0\0ORTM" + bytes(16), providers=[CPU])


@row("load.microsoft_domain_without_import")
def _(ort: Any) -> None:
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft", alpha=1.0)
    made = session(ort, model([node], [tensor("x")], [tensor("y")]))
    np.testing.assert_allclose(made.run(None, {"x": X})[0], X / (1 + np.exp(-X)), rtol=1e-5)


@row("load.nodes_in_any_order")
def _(ort: Any) -> None:
    nodes = [helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])]
    made = session(ort, model(nodes, [tensor("x")], [tensor("y")]))
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], -X)


@row("load.declared_output_type")
def _(ort: Any) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="n")
    proto = model([node], [tensor("x")], [tensor("y", TensorProto.DOUBLE)])
    with pytest.raises(kinds(ort).Fail, match="does not match expected type"):
        session(ort, proto)


@row("load.declared_output_shape")
def _(ort: Any) -> None:
    """A wrong declared shape is no error."""
    node = helper.make_node("Relu", ["x"], ["y"], name="n")
    proto = model([node], [tensor("x", FLOAT, [2, 3])], [tensor("y", FLOAT, [7, 7])])
    assert session(ort, proto).run(None, {"x": X})[0].shape == (2, 3)


@row("load.no_kernel")
def _(ort: Any) -> None:
    node = helper.make_node("RandomUniformLike", ["x"], ["y"], name="n")
    values = [tensor(name, TensorProto.UINT16) for name in "xy"]
    text = r"Could not find an implementation for RandomUniformLike\(1\) node with name 'n'"
    with pytest.raises(kinds(ort).NotImplemented, match=text):
        session(ort, model([node], values[:1], values[1:], opset=17))


@row("load.complex", only=True)
def _(ort: Any) -> None:
    """Types that onnxruntime has no support for at all."""
    kind = TensorProto.COMPLEX64
    proto = one(
        "Reshape",
        [tensor("x", kind, [6]), tensor("s", TensorProto.INT64, [2])],
        [tensor("y", kind, [2, 3])],
    )
    given = (np.arange(6) * 1j).astype(np.complex64)
    (found,) = session(ort, proto).run(None, {"x": given, "s": np.array([2, 3])})
    np.testing.assert_array_equal(found, given.reshape(2, 3))


@row("set_default_logger_callback with errors", only=True)
def _(ort: Any) -> None:
    """An exception of the callback ends neither the session nor the process."""

    def fail(*record: Any) -> None:
        raise KeyError("of the callback")

    ort.set_default_logger_callback(fail, 0)
    try:
        made = ort.InferenceSession(linear().SerializeToString(), providers=[CPU])
        assert made.run(None, {"x": X})[0].shape == (2, 2)
    finally:
        ort.set_default_logger_callback(None)
        ort.set_default_logger_severity(2)


@row("options.add_initializer keeps", only=True)
def _(ort: Any) -> None:
    """The value lives as long as the options, whoever else has it; onnxruntime keeps none."""
    options = ort.SessionOptions()
    options.add_initializer("b", ort.OrtValue.ortvalue_from_numpy(np.full(2, 3, np.float32)))
    junk = [np.zeros(2, np.float32) for _ in range(1000)]
    (found,) = session(ort, linear(), options).run(["s"], {"x": X})
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_allclose(found, X @ weight + 3)
    assert len(junk) == 1000


@row("session.copies", only=True)
def _(ort: Any) -> None:
    """Sessions and options are pickled and copied, which onnxruntime refuses."""
    copy, pickle = importlib.import_module("copy"), importlib.import_module("pickle")
    made = session(ort, linear())
    want = made.run(None, {"x": X})
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        for got, expected in zip(other.run(None, {"x": X}), want, strict=True):
            np.testing.assert_array_equal(got, expected)
    assert copy.deepcopy(made.get_session_options()).log_severity_level == 4


@pytest.mark.parametrize(("name", "runtime"), row.parameters())
def test_row(name: str, runtime: str, tmp_path: Any) -> None:
    row.check(name, runtime, tmp_path)
