# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule
from bascule.errors import Fail, InvalidGraph
from bascule.ir.graph import Model
from bascule.ir.load import load_model

DATA = np.arange(100, dtype=np.float32)


def write_model(folder: Path, *entries: dict[str, str], data: bool = True) -> Path:
    """A model with one tensor of 100 floats for each of `entries`."""
    folder.mkdir(exist_ok=True)
    tensors = []
    for index, each in enumerate(entries):
        tensor = TensorProto(name=f"w{index}", data_type=1, dims=[100], data_location=1)
        for key, value in each.items():
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
    node = helper.make_node("Sum", [t.name for t in tensors], ["y"])
    output = helper.make_tensor_value_info("y", 1, [100])
    graph = helper.make_graph([node], "g", [], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = folder / "model.onnx"
    onnx.save(model, path)
    if data:
        (folder / "data.bin").write_bytes(b"\0" * 16 + DATA.tobytes() + b"\0" * 400)
    return path


def weight(model: Model, mapped: bool = True) -> np.ndarray:
    constant = model.graph.initializers["w0"].constant
    assert constant is not None
    assert constant.mapped is mapped
    return constant.numpy()


GOOD = {"location": "data.bin", "offset": "16", "length": "400"}


def test_data_is_mapped(tmp_path: Path) -> None:
    np.testing.assert_array_equal(weight(load_model(write_model(tmp_path, GOOD))), DATA)


def test_length_may_be_left_out(tmp_path: Path) -> None:
    entries = {"location": "./data.bin", "offset": "16"}
    np.testing.assert_array_equal(weight(load_model(write_model(tmp_path, entries))), DATA)


def test_folder_of_a_model_without_a_path(tmp_path: Path) -> None:
    path = write_model(tmp_path, GOOD)
    model = load_model(path.read_bytes(), external_folder=str(tmp_path))
    np.testing.assert_array_equal(weight(model), DATA)


def test_contents_in_memory(tmp_path: Path) -> None:
    path = write_model(tmp_path, {"location": "elsewhere"}, data=False)
    model = load_model(path, external_files={"elsewhere": memoryview(DATA.tobytes())})
    np.testing.assert_array_equal(weight(model, mapped=False), DATA)


def test_missing_file(tmp_path: Path) -> None:
    path = write_model(tmp_path, GOOD, data=False)
    with pytest.raises(Fail, match=r"External data path does not exist.*data\.bin.*w0"):
        load_model(path)


@pytest.mark.parametrize(
    "location",
    ["../data.bin", "a/../../data.bin", "/etc/hostname", "", "..", ".", "a\0b", "data.bin/x"],
)
def test_locations_outside_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "data.bin").write_bytes(b"\0" * 1000)
    path = write_model(tmp_path / "model", {**GOOD, "location": location})
    with pytest.raises((Fail, InvalidGraph)):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": "-1"},
        {"offset": "1e3"},
        {"offset": "99999999999999999999"},
        {"offset": "500"},
        {"length": "399"},
        {"length": "9223372036854775807"},
        {"length": "٤٠٠"},
    ],
)
def test_ranges_are_checked(tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises((Fail, InvalidGraph), match="w0"):
        load_model(write_model(tmp_path, {**GOOD, **change}))


def test_overlap_is_refused_and_sharing_is_not(tmp_path: Path) -> None:
    load_model(write_model(tmp_path, GOOD, GOOD))
    load_model(write_model(tmp_path, GOOD, {**GOOD, "offset": "416"}))
    with pytest.raises(InvalidGraph, match="overlap"):
        load_model(write_model(tmp_path, GOOD, {**GOOD, "offset": "20"}))
    with pytest.raises(InvalidGraph, match="overlap"):
        load_model(write_model(tmp_path, {**GOOD, "offset": "20"}, GOOD))


@pytest.mark.skipif(os.name != "posix", reason="links as on POSIX")
class TestLinks:
    def test_symbolic_link_to_outside(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "model", GOOD, data=False)
        (tmp_path / "secret").write_bytes(b"\0" * 1000)
        (tmp_path / "model/data.bin").symlink_to("../secret")
        with pytest.raises(Fail, match="refused"):
            load_model(path)

    def test_folder_link_to_outside(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "model", {**GOOD, "location": "d/data.bin"}, data=False)
        (tmp_path / "other").mkdir()
        (tmp_path / "other/data.bin").write_bytes(b"\0" * 1000)
        (tmp_path / "model/d").symlink_to("../other")
        with pytest.raises(Fail, match="refused"):
            load_model(path)

    def test_symbolic_link_inside(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, GOOD)
        (tmp_path / "data.bin").rename(tmp_path / "real")
        (tmp_path / "data.bin").symlink_to("real")
        np.testing.assert_array_equal(weight(load_model(path)), DATA)

    def test_cache_of_links(self, tmp_path: Path) -> None:
        """Model and data may both be links into one folder of contents."""
        path = write_model(tmp_path / "blobs", GOOD)
        snapshot = tmp_path / "snapshot"
        snapshot.mkdir()
        for name in ("model.onnx", "data.bin"):
            (snapshot / name).symlink_to(f"../blobs/{name}")
        assert path.exists()
        np.testing.assert_array_equal(weight(load_model(snapshot / "model.onnx")), DATA)

    def test_hard_link_to_outside(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "model", GOOD)
        os.link(tmp_path / "model/data.bin", tmp_path / "model/again")
        load_model(path)
        os.link(tmp_path / "model/data.bin", tmp_path / "outside")
        with pytest.raises(Fail, match="hard link"):
            load_model(path)

    def test_special_files(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, GOOD, data=False)
        os.mkfifo(tmp_path / "data.bin")
        with pytest.raises(Fail, match="no regular file"):
            load_model(path)
        (tmp_path / "data.bin").unlink()
        (tmp_path / "data.bin").mkdir()
        with pytest.raises(Fail):
            load_model(path)


def test_external_strings_and_two_payloads_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path, GOOD)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].raw_data = b"\0" * 400
    with pytest.raises(InvalidGraph, match="twice"):
        load_model(model, external_folder=str(tmp_path))
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_type = TensorProto.STRING
    with pytest.raises(InvalidGraph, match="strings"):
        load_model(model, external_folder=str(tmp_path))


def test_files_in_memory_stay_as_they_are() -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[64, 64], data_location=1)
    tensor.external_data.add(key="location", value="weights.bin")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 64])],
        [helper.make_tensor_value_info("y", 1, [1, 64])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32).tobytes()
    kept = bytearray(data)
    options = bascule.SessionOptions()
    options.add_external_initializers_from_files_in_memory(
        ["weights.bin"],
        [kept],  # type: ignore[list-item]
        [len(kept)],
    )
    feeds = {"x": np.ones((1, 64), np.float32)}
    first, second = (
        bascule.InferenceSession(model.SerializeToString(), options).run(None, feeds)[0]
        for _ in range(2)
    )
    assert kept == data
    np.testing.assert_array_equal(first, second)
