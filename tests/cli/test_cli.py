# SPDX-License-Identifier: Apache-2.0
"""The command line, verb by verb."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule as ort
from bascule.cli import main
from bascule.examples import digits
from tests.api.models import FLOAT, linear, model, tensor

Capture = pytest.CaptureFixture[str]
X = np.random.default_rng(2).standard_normal((2, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> str:
    target = tmp_path / "linear.onnx"
    onnx.save(linear(), target)
    return str(target)


@pytest.fixture
def want(path: str) -> dict[str, np.ndarray[Any, Any]]:
    return dict(zip("ys", ort.InferenceSession(path).run(None, {"x": X})))


def printed(capsys: Capture, *arguments: str) -> Any:
    """What a verb prints with --json."""
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def refused(capsys: Capture, *arguments: str, code: int = 1) -> str:
    """What a verb that fails says on stderr."""
    got: object
    try:
        got = main(list(arguments))
    except SystemExit as end:
        got = end.code
    assert got == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


# --- run


def test_run_reads_the_bundled_digits(capsys: Capture) -> None:
    assert main(["run"]) == 0
    shown = capsys.readouterr().out
    _, _, labels = digits()
    assert f"{len(labels)} of {len(labels)} right." in shown
    record = printed(capsys, "run")
    assert record["prediction"] == record["truth"] == labels.tolist()


@pytest.mark.parametrize("form", ["npy", "npy of a name", "npz", "json", "json of a name"])
def test_run_reads_files(
    form: str, path: str, want: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / f"feed.{form.split()[0]}"
    if file.suffix == ".npy":
        np.save(file, X)
    elif file.suffix == ".npz":
        np.savez(file, x=X)
    else:
        file.write_text(json.dumps(X.tolist() if "name" in form else {"x": X.tolist()}))
    argument = f"x={file}" if "name" in form else str(file)
    record = printed(capsys, "run", path, "-i", argument)
    for name, array in want.items():
        np.testing.assert_allclose(record[name], array, rtol=1e-6)


def test_run_saves_arrays(path: str, want: dict[str, Any], tmp_path: Path, capsys: Capture) -> None:
    feed, target = tmp_path / "x.npy", tmp_path / "out.npz"
    np.save(feed, X)
    assert main(["run", path, "-i", str(feed), "-o", str(target)]) == 0
    with np.load(target) as saved:
        assert set(saved.files) == set(want)
        for name, array in want.items():
            np.testing.assert_array_equal(saved[name], array)


def test_run_reads_and_writes_files_of_any_name(
    path: str, want: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "run=3"
    folder.mkdir()
    np.save(folder / "x.npy", X)
    for feed in (f"{folder}/x.npy", f"x={folder}/x.npy"):
        assert main(["run", path, "-i", feed, "-o", str(folder / "results")]) == 0
        assert sorted(each.name for each in folder.iterdir()) == ["results", "x.npy"]
        with np.load(folder / "results") as saved:
            np.testing.assert_array_equal(saved["y"], want["y"])


def test_json_of_numbers_that_are_not_finite(path: str, tmp_path: Path, capsys: Capture) -> None:
    feed = tmp_path / "x.npy"
    np.save(feed, np.array([[np.nan, 1, 2], [3, 4, np.inf]], np.float32))
    (y,) = ort.InferenceSession(path).run(["y"], {"x": np.load(feed)})
    record = printed(capsys, "run", path, "-i", str(feed))
    texts = {text for row in record["y"] for text in row if isinstance(text, str)}
    assert texts and texts <= {"nan", "inf", "-inf"}
    np.testing.assert_array_equal(np.array(record["y"], dtype=np.float32), y)
    (tmp_path / "again.json").write_text(json.dumps({"x": [["nan", 1, 2], [3, 4, "inf"]]}))
    assert printed(capsys, "run", path, "-i", str(tmp_path / "again.json")) == record


def test_run_feeds_seeded_random_numbers(path: str, capsys: Capture) -> None:
    first = printed(capsys, "run", path, "-d", "n=4")
    assert np.shape(first["y"]) == (4, 2)
    assert printed(capsys, "run", path, "-d", "n=4") == first
    assert printed(capsys, "run", path, "-d", "n=4", "--seed", "1") != first
    assert np.shape(printed(capsys, "run", path)["y"]) == (1, 2)


def test_run_shows_a_table(path: str, capsys: Capture) -> None:
    assert main(["run", path, "-t", "1", "-O", "basic"]) == 0
    shown = capsys.readouterr().out
    assert "output" in shown and "float32" in shown


@pytest.mark.parametrize("channels_first", [True, False])
def test_run_reads_images(channels_first: bool, tmp_path: Path, capsys: Capture) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    image.fromarray(pixels).save(tmp_path / "image.png")
    shape = ["n", 3, 4, 5] if channels_first else ["n", 4, 5, 3]
    proto = model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", FLOAT, shape)],
        [tensor("y", FLOAT, shape)],
    )
    onnx.save(proto, tmp_path / "image.onnx")
    record = printed(capsys, "run", str(tmp_path / "image.onnx"), "-i", str(tmp_path / "image.png"))
    expected = pixels.transpose(2, 0, 1) if channels_first else pixels
    np.testing.assert_allclose(record["y"], expected[None] / 255, rtol=1e-6)


def test_run_with_text_scalars_sequences_and_narrow_floats(tmp_path: Path, capsys: Capture) -> None:
    nodes = [
        helper.make_node("Identity", ["t"], ["text"]),
        helper.make_node("SequenceConstruct", ["a", "a"], ["list"]),
        helper.make_node("Cast", ["a"], ["narrow"], to=TensorProto.BFLOAT16),
        helper.make_node("ReduceSum", ["a"], ["total"], keepdims=0),
    ]
    proto = model(
        nodes,
        [tensor("t", TensorProto.STRING, [2]), tensor("a", FLOAT, [2])],
        [
            tensor("text", TensorProto.STRING, [2]),
            helper.make_tensor_sequence_value_info("list", FLOAT, [2]),
            tensor("narrow", TensorProto.BFLOAT16, [2]),
            tensor("total", FLOAT, []),
        ],
    )
    path = str(tmp_path / "kinds.onnx")
    onnx.save(proto, path)
    feed = tmp_path / "feed.json"
    feed.write_text(json.dumps({"t": ["a", "b"], "a": [1, 2]}))
    record = printed(capsys, "run", path, "-i", str(feed))
    assert record == {"text": ["a", "b"], "list": [[1, 2]] * 2, "narrow": [1, 2], "total": 3}
    assert main(["run", path, "-i", str(feed)]) == 0
    assert "bfloat16" in capsys.readouterr().out
    target = tmp_path / "out.npz"
    assert main(["run", path, "-i", str(feed), "-o", str(target)]) == 0
    with np.load(target) as saved:
        assert set(saved.files) == {"text", "list.0", "list.1", "narrow", "total"}
        assert saved["text"].tolist() == ["a", "b"] and saved["narrow"].tolist() == [1, 2]


# --- info


def test_info_counts(path: str, capsys: Capture) -> None:
    record = printed(capsys, "info", path, "-d", "n=4")
    assert record["inputs"] == [{"name": "x", "type": "tensor(float)", "shape": ["n", 3]}]
    assert [output["name"] for output in record["outputs"]] == ["y", "s"]
    assert record["operators"] == {"MatMul": 1, "Add": 1, "Relu": 1}
    assert (record["nodes"], record["parameters"], record["weight_bytes"]) == (3, 8, 32)
    # A multiply-add counts 2; Add and Relu one an element.
    assert record["flops"] == 2 * 4 * 3 * 2 + 8 + 8
    assert record["product_flops"] == 2 * 4 * 3 * 2
    assert record["opsets"] == {"ai.onnx": 21}


def test_info_tells_gathered_weights_from_streamed_ones(tmp_path: Path, capsys: Capture) -> None:
    table = onnx.numpy_helper.from_array(np.ones((100, 4), np.float32), "table")
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    proto = model(
        nodes,
        [tensor("i", TensorProto.INT64, [2])],
        [tensor("y", FLOAT, [2, 3])],
        [table, weight],
    )
    onnx.save(proto, tmp_path / "gather.onnx")
    record = printed(capsys, "info", str(tmp_path / "gather.onnx"))
    assert (record["weight_bytes"], record["streamed_bytes"]) == (4 * 400 + 4 * 12, 4 * 12)


def test_info_counts_packed_weights(tmp_path: Path, capsys: Capture) -> None:
    packed = onnx.numpy_helper.from_array(np.ones((8, 2, 16), np.uint8), "b")
    scales = onnx.numpy_helper.from_array(np.ones((8, 2), np.float32), "s")
    sizes = {"K": 64, "N": 8, "bits": 4, "block_size": 32}
    node = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", **sizes)
    proto = model(
        [node], [tensor("x", FLOAT, [3, 64])], [tensor("y", FLOAT, [3, 8])], [packed, scales]
    )
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(proto, tmp_path / "packed.onnx")
    record = printed(capsys, "info", str(tmp_path / "packed.onnx"))
    assert record["product_flops"] == 2 * 3 * 8 * 64
    assert record["streamed_bytes"] == 8 * 2 * 16 + 4 * 8 * 2


def test_info_counts_convolutions(tmp_path: Path, capsys: Capture) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((8, 2, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, pads=[1, 1, 1, 1])
    proto = model(
        [node],
        [tensor("x", FLOAT, [1, 4, 10, 10])],
        [tensor("y", FLOAT, [1, 8, 10, 10])],
        [weight],
    )
    onnx.save(proto, tmp_path / "conv.onnx")
    record = printed(capsys, "info", str(tmp_path / "conv.onnx"))
    assert record["flops"] == 2 * (8 * 10 * 10) * (2 * 3 * 3)
    assert record["activation_bytes"] == 4 * 8 * 10 * 10


def test_info_shows_a_table(path: str, capsys: Capture) -> None:
    assert main(["info", path]) == 0
    shown = capsys.readouterr().out
    for text in ("input", "tensor(float)", "3 nodes", "parameters 8", "ai.onnx 21"):
        assert text in shown


# --- explain


def test_explain(path: str, capsys: Capture) -> None:
    record = printed(capsys, "explain", path)
    assert set(record) == {"nodes", "passes", "seconds"}
    assert all(node["provider"] == "CPUExecutionProvider" for node in record["nodes"])
    assert all(node["kernel"] and node["reason"] for node in record["nodes"])
    assert main(["explain", path]) == 0
    table = capsys.readouterr().out
    assert table.startswith("node") and "CPUExecutionProvider" in table
    assert main(["explain", path, "--passes"]) == 0
    longer = capsys.readouterr().out
    assert longer.startswith(table) and all(name in longer for name in record["passes"])


# --- bench


def test_bench(path: str, capsys: Capture) -> None:
    (record,) = printed(capsys, "bench", path, "-s", "0.05", "-t", "1")
    assert record["runtime"] == "bascule" and record["runs"] > 0
    assert 0 < record["fastest_ms"] <= record["median_ms"] <= record["p99_ms"]
    assert (record["ratio"], record["difference"]) == (1, 0)
    assert main(["bench", path, "-s", "0.05", "-t", "1"]) == 0
    assert "median ms" in capsys.readouterr().out


def test_bench_refuses_unknown_and_absent_peers(
    path: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(capsys, "bench", path, "-a", "abacus")
    assert "cannot compare with 'abacus': known are onnxruntime, openvino" in said
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = refused(capsys, "bench", path, "-a", "onnxruntime")
    assert "onnxruntime is not installed: pip install onnxruntime" in said


# --- what goes wrong


@pytest.mark.parametrize("verb", ["run", "info", "explain", "bench", "digest", "lock"])
def test_failures_say_what_on_stderr(verb: str, tmp_path: Path, capsys: Capture) -> None:
    said = refused(capsys, verb, str(tmp_path / "missing.onnx"))
    assert said.startswith(f"bascule {verb}: ") and "File doesn't exist" in said
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\xff" * 50)
    assert "rotobuf parsing failed" in refused(capsys, verb, str(broken))


@pytest.mark.parametrize("verb", ["run", "info", "explain", "bench"])
def test_wrong_sizes(verb: str, path: str, capsys: Capture) -> None:
    for wrong in ("n", "n=", "n=x", "n=-1", "=3"):
        assert "NAME=SIZE" in refused(capsys, verb, path, "-d", wrong, code=2)
    said = refused(capsys, verb, path, "-d", "m=3")
    assert "no input has a size called 'm'; symbolic sizes of this model: n" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["info"],
        ["run", "a", "b"],
        ["run", "--threads", "x"],
        ["run", "--threads", "-1"],
        ["run", "--seed", "-1"],
        ["run", "--level", "none"],
        ["bench", "a", "-s", "0"],
        ["profile", "a", "--top", "-1"],
        ["profile", "a", "--warmup", "-1"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: Capture) -> None:
    assert "usage: bascule" in refused(capsys, *arguments, code=2)


def test_wrong_inputs(path: str, tmp_path: Path, capsys: Capture) -> None:
    missing = str(tmp_path / "missing.npy")
    assert "does not exist" in refused(capsys, "run", path, "-i", missing)
    feed = tmp_path / "x.npy"
    np.save(feed, X)
    said = refused(capsys, "run", path, "-i", f"z={feed}")
    assert "the model has no input 'z'; it has ['x']" in said
    said = refused(capsys, "run", path, "-i", str(feed), "-i", str(feed))
    assert "every input has a feed already" in said
    (tmp_path / "x.txt").write_text("1")
    assert "expected .npy" in refused(capsys, "run", path, "-i", str(tmp_path / "x.txt"))
    (tmp_path / "z.json").write_text('{"z": 1}')
    said = refused(capsys, "run", path, "-i", str(tmp_path / "z.json"))
    assert "no inputs ['z']" in said
    assert "input file 'x=' does not exist" in refused(capsys, "run", path, "-i", "x=")
    for text, message in (
        ("{", "cannot be read as .json: Expecting property name"),
        ("[1]", "expected an object with a list for each input"),
        ('{"x": [[1], 2]}', "does not fit input 'x', tensor(float): "),
    ):
        (tmp_path / "x.json").write_text(text)
        said = refused(capsys, "run", path, "-i", str(tmp_path / "x.json"))
        assert str(tmp_path / "x.json") in said and message in said
    for suffix in ("npy", "npz"):
        (tmp_path / f"cut.{suffix}").write_bytes(b"")
        said = refused(capsys, "run", path, "-i", str(tmp_path / f"cut.{suffix}"))
        assert f"cut.{suffix} cannot be read as .{suffix}: " in said
    np.save(feed, X.astype(np.float64))
    assert "Unexpected input data type" in refused(capsys, "run", path, "-i", str(feed))
    assert "need a model" in refused(capsys, "run", "-i", str(feed))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_floats_for_float16(suffix: str, tmp_path: Path, capsys: Capture) -> None:
    half = TensorProto.FLOAT16
    node = helper.make_node("Identity", ["x"], ["y"], "copy")
    path = str(tmp_path / "half.onnx")
    onnx.save(model([node], [tensor("x", half, [2, 3])], [tensor("y", half, [2, 3])]), path)
    feed = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(feed, X)
    else:
        np.savez(feed, x=X)
    expected = X.astype(np.float16).tolist()
    assert printed(capsys, "run", path, "-i", str(feed))["y"] == expected
    assert main(["trace", path, "-i", str(feed)]) == 0


@pytest.mark.parametrize("verb", [["run"], ["info"], ["bench", "-s", "0.01"]], ids=str)
def test_names_are_no_markup(verb: list[str], tmp_path: Path, capsys: Capture) -> None:
    """What is printed in colours reads [red] and [/] as its own."""
    nodes = [helper.make_node("Identity", ["x[red]"], ["y[/]"])]
    proto = model(nodes, [tensor("x[red]", shape=["n[b]"])], [tensor("y[/]", shape=["n[b]"])])
    proto.producer_name = "producer[/i]"
    file = tmp_path / "[red]model.onnx"
    onnx.save(proto, file)
    assert main([verb[0], str(file), *verb[1:]]) == 0
    shown = capsys.readouterr().out
    names = {
        "run": ["y[/]"],
        "info": ["x[red]", "y[/]", "n[b]", "producer[/i]", "[red]model.onnx"],
        "bench": ["[red]model.onnx"],
    }
    assert all(name in shown.replace("\n", "") for name in names[verb[0]])


@pytest.mark.parametrize("arguments", [["info"], ["info", "--text"], ["run", "--json"]], ids=str)
def test_who_reads_may_stop(arguments: list[str], path: str) -> None:
    """As `head` does."""
    command = [sys.executable, "-m", "bascule", arguments[0], path, *arguments[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"bascule {ort.__version__}\n"


@pytest.mark.parametrize("module", ["bascule", "bascule.cli"])
def test_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"bascule {ort.__version__}\n"
