# SPDX-License-Identifier: Apache-2.0
"""Kinds of files that were published as attacks on other readers of ONNX models.

Paths and links out of the folder are in tests/ir/test_external.py, places of saving in
tests/ir/test_save.py, and tensors with two payloads in tests/ir/test_two_payloads.py.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

import bascule
from bascule import errors

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
X = np.ones((1, 1, 5, 5), np.float32)


def run(proto: onnx.ModelProto, **feeds: np.ndarray[Any, Any]) -> list[Any]:
    return bascule.InferenceSession(proto.SerializeToString()).run(None, feeds)


@pytest.mark.parametrize("entry", ["../outside", "model.onnx"])
def test_an_archive_is_no_model(tmp_path: Path, entry: str) -> None:
    """CVE-2024-5187, CVE-2024-7776: an archive that unpacks to anywhere. Nothing unpacks here."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(folder / "model.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(entry), io.BytesIO())
    with pytest.raises(errors.InvalidProtobuf):
        bascule.InferenceSession(folder / "model.tar")
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(folder) == ["model.tar"]


@pytest.mark.parametrize("length", [2047, 2048, 2049, 100_000])
def test_long_names_in_messages(length: int) -> None:
    """CVE-2024-27319: a message longer than the buffer that it was formatted in."""
    name = "n" * length
    proto = onnx.parser.parse_model(HEAD + "g (float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.graph.node[0].name = name
    proto.graph.node[0].attribute.append(helper.make_attribute("a" * length, 1))
    with pytest.raises(errors.InvalidGraph, match=f"'{name}'"):
        run(proto)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3]},
        {"kernel_shape": [3, 3, 3]},
        {"kernel_shape": [3, 3], "strides": [1]},
        {"kernel_shape": [3, 3], "strides": [0, 0]},
        {"kernel_shape": [3, 3], "dilations": [1] * 6},
        {"kernel_shape": [3, 3], "pads": [1, 1]},
        {"kernel_shape": [3, 3], "pads": [1] * 40},
        {"kernel_shape": [3, 3], "pads": [-9, 0, 0, 0]},
        {"kernel_shape": [2**62, 2**62]},
        {"strides": [2**62, 2**62], "kernel_shape": [3, 3]},
        {"dilations": [2**62, 2**62], "kernel_shape": [3, 3]},
        {"pads": [2**62] * 4, "kernel_shape": [3, 3]},
    ],
    ids=str,
)
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool", "Conv", "ConvTranspose"])
@pytest.mark.parametrize("shape", [[1, 1, 5, 5], None], ids=["static", "unknown"])
def test_windows_of_another_rank(
    op_type: str, attributes: dict[str, list[int]], shape: list[int] | None
) -> None:
    """A heap overflow in the shape inference of convolution and pooling."""
    is_conv = op_type.startswith("Conv")
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)
    inputs = ["x", "w"] if is_conv else ["x"]
    graph = helper.make_graph(
        [helper.make_node(op_type, inputs, ["y"], name="window", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight] if is_conv else [],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises((errors.Fail, errors.InvalidArgument), match="window"):
        run(proto, x=X)


def test_strides_far_beyond_the_output() -> None:
    """No time is spent on places that nothing falls on."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], np.arange(9.0))
    far = 2**31 - 1
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[far, far])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (y,) = run(proto, x=X[..., :1, :1])
    np.testing.assert_array_equal(y.ravel(), np.arange(9))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("__class__", "object"),
        ("__dict__", "{}"),
        ("__setattr__", "x"),
        ("basepath", "/"),
        ("checksum", "a" * 10_000),
        ("read", "1"),
    ],
)
def test_unknown_keys_of_external_data(tmp_path: Path, key: str, value: str) -> None:
    """CVE-2026-34445: keys of external data that became attributes of the reader's object."""
    proto = external(tmp_path, location="data", **{key: value})
    (y,) = bascule.InferenceSession(proto).run(None, {})
    np.testing.assert_array_equal(y, [1, 2])


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "1e3", str(2**40), str(2**63), "9" * 5000])
def test_huge_sizes_of_external_data(tmp_path: Path, key: str, value: str) -> None:
    """CVE-2026-34445 also: nothing is allocated for what the file only claims."""
    with pytest.raises((errors.Fail, errors.InvalidGraph), match="'w'"):
        bascule.InferenceSession(external(tmp_path, location="data", **{key: value}))


def external(folder: Path, **entries: str) -> Path:
    """A model whose weight w, two floats beside it, is its output."""
    (folder / "data").write_bytes(np.array([1, 2], np.float32).tobytes())
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=1)
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [weight]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("collects", [False, True], ids=["state", "scan output"])
def test_a_bomb_of_trips_can_be_stopped(collects: bool) -> None:
    """Nothing is allocated by the number of trips, and terminate ends the loop."""
    outputs, more = ("y, s", ", float[0] v") if collects else ("y", "")
    scan = ", float[K,0] s" if collects else ""
    collected = "v = Slice(u, zero, zero)" if collects else ""
    text = f"""g (float[1] x) => (float[1] y{scan})
        <int64 n = {{9223372036854775807}}, bool c = {{1}}, int64[1] zero = {{0}}> {{
        {outputs} = Loop(n, c, x) <body = b (int64 i, bool k, float[1] t)
            => (bool l, float[1] u{more}) {{ l = Identity(k) u = Neg(t) {collected} }}> }}"""
    session = bascule.InferenceSession(onnx.parser.parse_model(HEAD + text).SerializeToString())
    options = bascule.RunOptions()
    timer = threading.Timer(0.05, setattr, (options, "terminate", True))
    timer.start()
    with pytest.raises(errors.Fail, match="terminate flag"):
        session.run(None, {"x": X[0, 0, 0, :1]}, options)
    timer.join()
