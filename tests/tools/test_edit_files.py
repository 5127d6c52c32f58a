# SPDX-License-Identifier: Apache-2.0
"""bascule.edit: where weights are, and where they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule.errors import Fail, InvalidArgument, InvalidProtobuf, NoSuchFile
from bascule.tools.edit import document, edit, merge_models

SIZE = 32


def layers(count: int = 3, seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(rng.standard_normal((SIZE, SIZE), np.float32) / 4, f"w{i}")
        for i in range(count)
    ]
    names = ["x", *(f"h{i}" for i in range(count))]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"n{i}")
        for i in range(count)
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", 1, ["n", SIZE])],
        [helper.make_tensor_value_info(names[-1], 1, ["n", SIZE])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A model with all weights in one file beside it."""
    path = tmp_path / "m.onnx"
    onnx.save(layers(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    return path


X = np.random.default_rng(1).standard_normal((2, SIZE), np.float32)


def run(path: Any, name: str = "x") -> Any:
    data = str(path) if isinstance(path, Path) else path
    return bascule.InferenceSession(data).run(None, {name: X})[0]


def expected(count: int = 3) -> Any:
    return run(layers(count).SerializeToString())


def tensors(path: Path) -> dict[str, onnx.TensorProto]:
    model = onnx.load(path, load_external_data=False)
    return {tensor.name: tensor for tensor in model.graph.initializer}


def entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def test_what_was_outside_stays_outside(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    out = tmp_path / "other" / "out.onnx"
    edit(outside).cut(["h0"], ["h1"]).save(out)
    [tensor] = tensors(out).values()
    assert entries(tensor) == {
        "location": "out.onnx.data", "offset": "0", "length": str(4 * SIZE * SIZE),
    }  # fmt: skip
    assert (out.parent / "out.onnx.data").stat().st_size == 4 * SIZE * SIZE
    onnx.checker.check_model(str(out), full_check=True)
    weight = numpy_helper.to_array(layers().graph.initializer[1])
    np.testing.assert_allclose(run(out, "h0"), X @ weight, rtol=1e-4, atol=1e-5)


def test_inside_outside_and_by_name(outside: Path, tmp_path: Path) -> None:
    editor = edit(outside)
    editor.save(tmp_path / "inside.onnx", external_data=False)
    assert all(t.raw_data for t in tensors(tmp_path / "inside.onnx").values())
    np.testing.assert_array_equal(run(tmp_path / "inside.onnx"), expected())
    assert editor.to_bytes() == (tmp_path / "inside.onnx").read_bytes()
    edit(tmp_path / "inside.onnx").save(tmp_path / "again.onnx", external_data="weights")
    assert {entries(t)["location"] for t in tensors(tmp_path / "again.onnx").values()} == {
        "weights"
    }
    np.testing.assert_array_equal(run(tmp_path / "again.onnx"), expected())
    edit(layers()).save(tmp_path / "few.onnx", external_data=True, size_threshold=1 << 20)
    assert (
        not (tmp_path / "few.onnx.data").exists() and tensors(tmp_path / "few.onnx")["w0"].raw_data
    )
    for name in ("few.onnx", "a/b", ".."):
        with pytest.raises(InvalidArgument, match="plain name"):
            edit(layers()).save(tmp_path / "few.onnx", external_data=name)


def test_its_own_files_may_be_overwritten(outside: Path, tmp_path: Path) -> None:
    editor = edit(outside).delete("n1")
    editor.save(outside, external_data="m.bin")
    assert (tmp_path / "m.bin").stat().st_size == 2 * 4 * SIZE * SIZE
    editor.undo().save(outside, external_data="m.bin")  # the data is that of the old file
    np.testing.assert_array_equal(run(outside), expected())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.bin", "m.onnx"]


def test_data_can_be_shared(outside: Path, tmp_path: Path) -> None:
    before = (tmp_path / "m.bin").stat().st_mtime_ns
    edit(outside).rename("x", "y").save(tmp_path / "b.onnx", share_data=True)
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", "y"), expected())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.onnx", "m.bin", "m.onnx"]
    assert (tmp_path / "m.bin").stat().st_mtime_ns == before
    editor = edit(outside).set_initializer("w0", np.zeros((SIZE, SIZE), np.float32))
    editor.save(tmp_path / "c.onnx", share_data=True)
    locations = {
        name: entries(t).get("location") for name, t in tensors(tmp_path / "c.onnx").items()
    }
    assert locations == {"w0": None, "w1": "m.bin", "w2": "m.bin"}
    editor.save(tmp_path / "d.onnx", share_data=True, external_data=True)
    assert entries(tensors(tmp_path / "d.onnx")["w0"])["location"] == "d.onnx.data"
    with pytest.raises(InvalidArgument, match="choose another name"):
        editor.save(tmp_path / "e.onnx", share_data=True, external_data="m.bin")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidArgument, match="files of its own folder"):
        editor.save(tmp_path / "folder" / "e.onnx", share_data=True)


def test_models_of_different_folders_are_joined(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "m.onnx"
    onnx.save(layers(2, seed=5), other, save_as_external_data=True, location="m.bin",
              size_threshold=0)  # fmt: skip
    editor = edit(outside).chain(other)
    editor.save(tmp_path / "both.onnx")
    names = list(tensors(tmp_path / "both.onnx"))
    assert names == ["w0", "w1", "w2", "m_w0", "m_w1"]
    found = run(tmp_path / "both.onnx")
    second = bascule.InferenceSession(layers(2, seed=5).SerializeToString())
    np.testing.assert_allclose(found, second.run(None, {"x": expected()})[0], 1e-4, 1e-5)


def test_shared_bytes_are_written_once(outside: Path, tmp_path: Path) -> None:
    merge_models(outside, outside).save(tmp_path / "two.onnx")
    found = tensors(tmp_path / "two.onnx")
    assert (tmp_path / "two.onnx.data").stat().st_size == 2 * 3 * 4 * SIZE * SIZE
    model = onnx.load(outside, load_external_data=False)
    model.graph.initializer[1].external_data[1].value = "0"
    model.graph.initializer[1].external_data.add(key="checksum", value="abc")
    onnx.save(model, tmp_path / "tied.onnx")
    edit(tmp_path / "tied.onnx").save(tmp_path / "out.onnx")
    found = tensors(tmp_path / "out.onnx")
    assert entries(found["w0"])["offset"] == entries(found["w1"])["offset"] == "0"
    assert entries(found["w1"])["checksum"] == "abc"
    assert (tmp_path / "out.onnx.data").stat().st_size == 2 * 4 * SIZE * SIZE


def test_a_graph_can_be_edited_without_its_weights(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "m.bin").unlink()
    editor = edit(outside).rename("x", "y").delete("n1")
    for fails in (
        editor.to_bytes,
        editor.check,
        lambda: editor.save(tmp_path / "out.onnx"),
    ):
        with pytest.raises(Fail, match=r"m\.bin"):
            fails()
    editor.save(tmp_path / "out.onnx", share_data=True)
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".data"] == []
    assert entries(tensors(tmp_path / "out.onnx")["w2"])["location"] == "m.bin"


def test_data_outside_of_the_folder_is_not_read(outside: Path, tmp_path: Path) -> None:
    model = onnx.load(outside, load_external_data=False)
    (tmp_path / "in").mkdir()
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../m.bin"
    (tmp_path / "in" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Fail, match="is refused"):
        edit(tmp_path / "in" / "m.onnx").to_bytes()
    # A mark of ours in a file means nothing.
    model.graph.initializer[0].external_data.add(key="bascule", value="0:0")
    (tmp_path / "in" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Fail, match="is refused"):
        edit(tmp_path / "in" / "m.onnx").to_bytes()


def test_too_large_for_one_file_goes_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "MAX_PROTOBUF_BYTES", 4 * SIZE * SIZE)
    edit(layers()).save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size == 3 * 4 * SIZE * SIZE
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), expected())


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.int32, np.bool_, np.float16])
def test_numbers_kept_as_numbers(dtype: Any, tmp_path: Path) -> None:
    """Typed fields come back as they were, or as raw bytes in a file of their own."""
    array = (np.arange(500) % 2).astype(dtype)
    values = array.view(np.uint16) if dtype == np.float16 else array
    tensor = helper.make_tensor("t", helper.np_dtype_to_tensor_dtype(array.dtype), [500], values)
    if dtype == np.float16:
        tensor = TensorProto(name="t", data_type=10, dims=[500], int32_data=values.tolist())
    graph = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", tensor.data_type, [500])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert edit(model).to_bytes() == model.SerializeToString()
    edit(model).save(tmp_path / "m.onnx", external_data=True, size_threshold=1)
    assert (tmp_path / "m.onnx.data").stat().st_size == array.nbytes
    np.testing.assert_array_equal(
        numpy_helper.to_array(onnx.load(tmp_path / "m.onnx").graph.initializer[0]), array
    )


def test_large_files_are_cut_by_reading_only_the_part(tmp_path: Path) -> None:
    """A file with a hole of 8 GB: to read all of it would show."""
    size = 1 << 15
    (tmp_path / "m.bin").touch()
    with open(tmp_path / "m.bin", "r+b") as file:
        file.truncate(2 * 4 * size * size)
        file.seek(4 * size * size)
    model = layers(2)
    for index, tensor in enumerate(model.graph.initializer):
        tensor.ClearField("raw_data")
        tensor.dims[:] = [size, size]
        tensor.data_location = 1
        for key, value in (
            ("location", "m.bin"), ("offset", index * 4 * size * size), ("length", 4 * size * size),
        ):  # fmt: skip
            tensor.external_data.add(key=key, value=str(value))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.shape.dim[1].dim_value = size
    onnx.save(model, tmp_path / "m.onnx")
    editor = edit(tmp_path / "m.onnx").insert("h0", "Relu").set_dims({"n": 4})
    editor.save(tmp_path / "out.onnx", share_data=True)
    assert len(onnx.load(tmp_path / "out.onnx", load_external_data=False).graph.node) == 3
    with pytest.raises(InvalidArgument, match="one protobuf file holds at most"):
        editor.to_bytes()


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFile):
        edit(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(InvalidProtobuf):
        edit(tmp_path / "text.onnx")
    with pytest.raises(InvalidArgument):
        edit(b"")
    with pytest.raises(InvalidArgument, match="cannot be written"):
        edit(layers()).save(tmp_path / "no folder" / "m.onnx")
