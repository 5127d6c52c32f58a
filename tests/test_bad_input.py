# SPDX-License-Identifier: Apache-2.0
"""Hostile files and wrong feeds: the right exception, never a crash, and the session goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

import bascule
from bascule import errors

OURS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NotImplemented,
)


def model(
    nodes: list[onnx.NodeProto] | None = None,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    initializers: list[onnx.TensorProto] | None = None,
) -> onnx.ModelProto:
    """relu(x @ w + b), or what the arguments say."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], np.arange(6.0))
    bias = helper.make_tensor("b", TensorProto.FLOAT, [2], [0.5, -100.0])
    graph = helper.make_graph(
        nodes
        or [
            helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
            helper.make_node("Add", ["m", "b"], ["s"], name="sum"),
            helper.make_node("Relu", ["s"], ["y"], name="relu"),
        ],
        "g",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weight, bias] if initializers is None else initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def session(proto: onnx.ModelProto | None = None) -> bascule.InferenceSession:
    return bascule.InferenceSession((proto or model()).SerializeToString())


def expect(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    weight = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    return np.maximum(x @ weight + np.array([0.5, -100.0], np.float32), 0)


# --- files


def test_every_truncation_is_refused_or_runs() -> None:
    data = model().SerializeToString()
    for size in range(len(data)):
        try:
            bascule.InferenceSession(data[:size])
        except OURS:
            continue


def test_every_flipped_bit_is_refused_or_runs() -> None:
    data = bytearray(model().SerializeToString())
    x = np.ones((2, 3), np.float32)
    for position in range(len(data)):
        for bit in range(0, 8, 3):
            data[position] ^= 1 << bit
            try:
                bascule.InferenceSession(bytes(data)).run(None, {"x": x})
            except (*OURS, ValueError):
                pass
            data[position] ^= 1 << bit


@pytest.mark.parametrize("seed", range(20))
def test_garbage_is_refused(seed: int) -> None:
    data = np.random.default_rng(seed).bytes(200 + 37 * seed)
    with pytest.raises((errors.InvalidProtobuf, errors.InvalidArgument)):
        bascule.InferenceSession(data)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(errors.NoSuchFile, match="File doesn't exist"):
        bascule.InferenceSession(str(tmp_path / "x.onnx"))


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(model().SerializeToString()[:-20])
    with pytest.raises(errors.InvalidProtobuf, match="Protobuf parsing failed"):
        bascule.InferenceSession(path)


@pytest.mark.parametrize("value", [None, 3, bytearray(b"x"), model()])
def test_wrong_kind_of_source(value: Any) -> None:
    with pytest.raises(TypeError, match="Unable to load from type"):
        bascule.InferenceSession(value)


def test_cycle() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["a"], ["y"], name="third"),
    ]
    with pytest.raises(errors.Fail, match="not acyclic"):
        session(model(nodes, initializers=[]))


def test_missing_producer() -> None:
    with pytest.raises(errors.InvalidArgument, match="Node input 'q'"):
        session(model([helper.make_node("Add", ["x", "q"], ["y"], name="sum")]))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Softmax", ["x"], ["y"], name="bad", axis=1.5),
        helper.make_node("Softmax", ["x"], ["y"], name="bad", axis="last"),
        helper.make_node("Softmax", ["x"], ["y"], name="bad", unknown=1),
        helper.make_node("Cast", ["x"], ["y"], name="bad"),
    ],
)
def test_wrong_attribute(node: onnx.NodeProto) -> None:
    with pytest.raises(errors.InvalidGraph, match="bad"):
        session(model([node]))


@pytest.mark.parametrize("size", [-1, -5, 2**62, 2**63 - 1])
def test_impossible_initializer(size: int) -> None:
    proto = model()
    proto.graph.initializer[0].dims[0] = size
    with pytest.raises(OURS, match="'w'"):
        session(proto)


def test_huge_shapes_computed_at_run_time() -> None:
    big = helper.make_tensor("big", TensorProto.INT64, [2], [2**40, 2**40])
    proto = model(
        [helper.make_node("Expand", ["x", "big"], ["y"], name="grow")],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [big],
    )
    with pytest.raises(OURS, match="grow"):
        session(proto).run(None, {"x": np.ones((1, 1), np.float32)})


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "a/../../secret.bin"])
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    proto = model()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(OURS, match="w"):
        bascule.InferenceSession(path)


def test_symbolic_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "secret.bin")
    proto = model()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(OURS, match="w"):
        bascule.InferenceSession(folder / "m.onnx")


# --- feeds

WRONG: list[tuple[str, Callable[[], Any], type[BaseException], str]] = [
    ("missing", dict, ValueError, r"Required inputs \(\['x'\]\) are missing"),
    (
        "unknown",
        lambda: {"x": np.ones((1, 3), np.float32), "z": 1},
        errors.InvalidArgument,
        "Invalid input name: z",
    ),
    ("dtype", lambda: {"x": np.ones((1, 3))}, errors.InvalidArgument, r"tensor\(double\)"),
    (
        "rank",
        lambda: {"x": np.ones(3, np.float32)},
        errors.InvalidArgument,
        "Invalid rank for input: x Got: 1 Expected: 2",
    ),
    (
        "size",
        lambda: {"x": np.ones((1, 4), np.float32)},
        errors.InvalidArgument,
        r"(?s)invalid dimensions for input: x.*index: 1 Got: 4 Expected: 3",
    ),
    ("scalar", lambda: {"x": 1.0}, RuntimeError, "Unable to handle object"),
    ("text", lambda: {"x": "text"}, RuntimeError, "Unable to handle object"),
    ("none", lambda: {"x": None}, errors.Fail, "Missing Input: x"),
    ("no dict", lambda: [np.ones((1, 3), np.float32)], AttributeError, "input_feed"),
]


@pytest.mark.parametrize(
    ("feeds", "kind", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_wrong_feed(feeds: Callable[[], Any], kind: type[BaseException], message: str) -> None:
    made = session()
    with pytest.raises(kind, match=message):
        made.run(None, feeds())
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(made.run(None, {"x": x})[0], expect(x))


def test_wrong_output_name() -> None:
    made = session()
    x = np.ones((2, 3), np.float32)
    with pytest.raises(errors.InvalidArgument, match="Invalid output name:m"):
        made.run(["m"], {"x": x})
    with pytest.raises(TypeError):
        made.run("y", {"x": x})  # type: ignore[arg-type]
    assert len(made.run(["y", "y"], {"x": x})) == 2


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1][::-1],
        lambda x: x.astype(">f4"),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view("<f4").reshape(x.shape),
        lambda x: x.tolist(),
        lambda x: bascule.OrtValue.ortvalue_from_numpy(x),
    ],
    ids=["fortran", "strided", "reversed twice", "big endian", "unaligned", "list", "OrtValue"],
)
def test_unusual_arrays(arrange: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_allclose(session().run(None, {"x": arrange(x)})[0], expect(x), rtol=1e-6)


def test_outputs_belong_to_the_caller() -> None:
    proto = model(
        [helper.make_node("Identity", ["x"], ["y"], name="same")],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    made = session(proto)
    x = np.ones((2, 3), np.float32)
    first = made.run(None, {"x": x})[0]
    first[...] = 7
    assert (x == 1).all()
    assert (made.run(None, {"x": x})[0] == 1).all()


def test_terminate() -> None:
    options = bascule.RunOptions()
    options.terminate = True
    made = session()
    x = np.ones((2, 3), np.float32)
    with pytest.raises(errors.Fail, match="terminate flag"):
        made.run(None, {"x": x}, options)
    options.terminate = False
    made.run(None, {"x": x}, options)


def test_a_fork_computes() -> None:
    code = (
        "import os, numpy as np, bascule\n"
        "from tests.test_bad_input import session\n"
        "s = session(); x = np.ones((50000, 3), np.float32); s.run(None, {'x': x})\n"
        "pid = os.fork()\n"
        "s.run(None, {'x': x})\n"
        "if pid == 0: os._exit(0)\n"
        "raise SystemExit(os.waitpid(pid, 0)[1])\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_sizes_of_one_name_may_differ() -> None:
    """The name promises equal sizes, and the optimizer uses that; a caller may not keep to it."""
    proto = model(
        [
            helper.make_node("Shape", ["a"], ["s"], name="size"),
            helper.make_node("Expand", ["b", "s"], ["e"], name="grow"),
            helper.make_node("Add", ["a", "e"], ["y"], name="sum"),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m"])],
        [],
    )
    made = session(proto)
    ones = np.ones(4, np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(made.run(None, {"a": ones, "b": ones})[0], 2 * ones)
        np.testing.assert_array_equal(made.run(None, {"a": ones, "b": ones[:1]})[0], 2 * ones)


@pytest.mark.parametrize(
    ("graph", "declared"),
    [
        ("(float[N,C,H,W] x) => (float[1,1,8,6] y) <float[1,1,1,1] w = {2}> { y = Conv(x, w) }", 6),
        ("(float[a,b,c,d] x) => (float[1,8,6,1] y) { y = Transpose<perm = [0,2,3,1]>(x) }", 1),
    ],
)
def test_sizes_left_over_in_an_output(graph: str, declared: int) -> None:
    """An image of one channel had the sizes that the file states of the output, not its own."""
    text = f'<ir_version: 10, opset_import: ["" : 21]> g {graph}'
    data = onnx.parser.parse_model(text).SerializeToString()
    x = np.random.default_rng(0).standard_normal((1, 1, 6, 8)).astype(np.float32)
    results = []
    for level in (0, 99):
        options = bascule.SessionOptions()
        options.graph_optimization_level = bascule.GraphOptimizationLevel(level)
        made = bascule.InferenceSession(data, options)
        assert made.get_outputs()[0].shape[-1] == declared  # as the model describes it
        results.append(made.run(None, {"x": x})[0])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Loop(two, , x) <body = b (int64 i, bool c, float[3,4] a) => (bool d, float[3,4] e)"
        " { d = Identity(c) s = Size(a) o = Cast<to = 1>(s) e = Mul(a, o) }>",
        "g = com.microsoft.Gelu(x) y = Loop(two, , g) <body = b (int64 i, bool c, float[3,4] a) =>"
        " (bool d, float[3,4] e) { d = Identity(c) e = Softmax<axis = 0>(a) }>",
        "g = com.microsoft.Gelu(x) y = Loop(two, , g) <body = b (int64 i, bool c, float[3,4] a) =>"
        " (bool d, float[3,4] e) <float[3,4] k> { d = Identity(c)"
        " k, h = Scan<num_scan_inputs = 1, body = s (float[3,4] p, float[4] q) =>"
        " (float[3,4] r, float[4] t) { r = Neg(p) t = Relu(q) }>"
        "(a, a) e = Hardmax<axis = 0>(k) }>",
        "t = Transpose<perm = [1, 0]>(x) y = Scan<num_scan_inputs = 1, body = b (float[3] a) =>"
        " (float[3] e) { s = Size(a) o = Cast<to = 1>(s) e = Mul(a, o) }>(t)",
    ],
)
def test_sizes_left_over_in_a_body(nodes: str) -> None:
    """The input had three rows when the file was made."""
    left, free = "float[3", "float[n"
    text = f"""<ir_version: 8, opset_import: ["": 12, "com.microsoft": 1]>
        g ({free},4] x) => (float[p,q] y) <int64 two = {{2}}> {{ {nodes} }}"""
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    results = []
    for level, each in ((0, text.replace(left, free)), (0, text), (99, text)):
        options = bascule.SessionOptions()
        options.graph_optimization_level = bascule.GraphOptimizationLevel(level)
        data = onnx.parser.parse_model(each).SerializeToString()
        results.append(bascule.InferenceSession(data, options).run(None, {"x": x})[0])
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-6)


# --- arguments

X = np.ones((2, 3), np.float32)
CPU = bascule.OrtDevice.make("cpu", 0)
ARGUMENTS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "binding": (lambda: session().run_with_iobinding(True), AttributeError, "IOBinding, not bool"),
    "values": (
        lambda: session().run_with_ort_values(None, [X]),
        AttributeError,
        "from input name to OrtValue, not list",
    ),
    "bound input": (
        lambda: session().io_binding().bind_ortvalue_input("x", X),
        AttributeError,
        "bind_ortvalue_input takes an OrtValue, not ndarray",
    ),
    "bound output": (
        lambda: session().io_binding().bind_ortvalue_output("y", {}),
        AttributeError,
        "bind_ortvalue_output takes an OrtValue, not dict",
    ),
    "device": (lambda: bascule.OrtValue.ortvalue_from_numpy(X, 3), TypeError, "device must be"),
    "bound device": (
        lambda: session().io_binding().bind_output("y", {}),
        TypeError,
        "device must be a str or OrtDevice, not dict",
    ),
    "sparse": (
        lambda: bascule.OrtValue.ort_value_from_sparse_tensor(X),
        AttributeError,
        "SparseTensor, not ndarray",
    ),
    "onnx type": (
        lambda: bascule.OrtValue.ortvalue_from_numpy_with_onnx_type([1], 1),
        TypeError,
        "expected an array, not list",
    ),
    "dense shape": (
        lambda: bascule.SparseTensor.sparse_csr_from_numpy({}, X[0, :1], [1], [0, 1], CPU),
        TypeError,
        "dense_shape must be",
    ),
    "parameters": (
        lambda: bascule.AdapterFormat().set_parameters([1]),
        AttributeError,
        "params must be a dict",
    ),
    "model": (lambda: bascule.Model(None), TypeError, "InferenceSession, not NoneType"),
    "load options": (
        lambda: bascule.load(model(), session_options=3),
        TypeError,
        "session_options must be SessionOptions, not int",
    ),
    "load dims": (lambda: bascule.load(model(), dims=["n"]), TypeError, "dims must be a dict"),
    "load config": (lambda: bascule.load(model(), config="a"), TypeError, "config must be a dict"),
    "profile": (
        lambda: bascule.profile(model(), session_options="x"),
        TypeError,
        "session_options must be SessionOptions, not str",
    ),
    "stop on": (lambda: list(session().trace({"x": X}, stop_on=["nan"])), TypeError, "stop_on"),
    "dims": (
        lambda: bascule.edit(model()).set_dims(["n"]),
        errors.InvalidArgument,
        "sizes must be a dict",
    ),
    "types": (
        lambda: bascule.edit(model()).cut(["x"], ["y"], types=["float"]),
        errors.InvalidArgument,
        "types must be a dict",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_kinds_of_arguments(name: str) -> None:
    call, kind, message = ARGUMENTS[name]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("write", [False, True])
def test_a_number_is_no_path_of_an_adapter(write: bool) -> None:
    """It was taken for a file that is open already, and closed."""
    reader, writer = os.pipe()
    made = bascule.AdapterFormat()
    with pytest.raises(TypeError, match="PathLike"):
        if write:
            made.export_adapter(writer)  # type: ignore[arg-type]
        else:
            made.read_adapter(reader)  # type: ignore[arg-type]
    os.close(reader)
    os.close(writer)
