# SPDX-License-Identifier: Apache-2.0
"""bascule edit: every kind of edit as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bascule.cli import main
from tests.support.edited import assert_near, results

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z) <float[4] w = {1, 2, 3, 4}> {
    [scale] scaled = Mul(x, w)
    [relu] positive = Relu(scaled)
    [minus] y = Neg(positive)
    [tanh] z = Tanh(positive)
}"""
X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
W = np.float32([1, 2, 3, 4])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    np.save(tmp_path / "w.npy", W * 2)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "half.npy", W.astype(ml_dtypes.bfloat16))
    return tmp_path / "m.onnx"


def run(path: Path, *arguments: str) -> tuple[int, onnx.ModelProto]:
    verb, *rest = arguments
    output = path.parent / "out.onnx"
    code = main(["edit", verb, str(path), *rest, "-o", str(output)])
    return code, onnx.load(output) if output.exists() else onnx.ModelProto()


@pytest.mark.parametrize(
    ("arguments", "y"),
    [
        (["rename", "x=image"], lambda x: -np.maximum(x * W, 0)),
        (["insert", "scaled", "Exp", "--readers", "relu"], lambda x: -np.exp(x * W)),
        (["insert", "positive", "LeakyRelu", "-a", "alpha=0.5"], lambda x: -np.maximum(x * W, 0)),
        (["insert", "x", "Add", "--inputs", "x", "c", "--constant", "c=1"],
         lambda x: -np.maximum((x + 1) * W, 0)),
        (["replace", "relu", "--op", "Abs"], lambda x: -np.abs(x * W)),
        (["replace", "minus", "--op", "Add", "--inputs", "positive", "x"],
         lambda x: np.maximum(x * W, 0) + x),
        (["delete", "relu", "minus"], lambda x: x * W),
        (["set", "w={folder}/w.npy"], lambda x: -np.maximum(2 * x * W, 0)),
        (["to-input", "w", "--keep-default"], lambda x: -np.maximum(x * W, 0)),
        (["dims", "n=2"], lambda x: -np.maximum(x * W, 0)),
        (["dims", "x=rows,4"], lambda x: -np.maximum(x * W, 0)),
    ],
)  # fmt: skip
def test_each_edit(path: Path, arguments: list[str], y: Any) -> None:
    code, model = run(path, *(each.format(folder=path.parent) for each in arguments))
    assert code == 0
    assert_near(results(model, {model.graph.input[0].name: X})["y"], y(X).astype(np.float32))


def test_cut_and_constants(path: Path) -> None:
    code, model = run(path, "cut", "--inputs", "scaled", "--outputs", "positive")
    assert code == 0 and [node.name for node in model.graph.node] == ["relu"]
    code, model = run(path, "cut", "--outputs", "z", "--inputs", "positive", "--type",
                      "positive=float32[rows,4]")  # fmt: skip
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"
    code, model = run(path, "to-constant", f"x={path.parent / 'x.npy'}")
    assert_near(results(model, {})["z"], np.tanh(np.maximum(X * W, 0)))
    code, model = run(path, "to-input", "w")
    assert [info.name for info in model.graph.input] == ["x", "w"]
    code, model = run(path, "set", f"extra={path.parent / 'half.npy'}", "--dtype", "bfloat16")
    assert numpy_helper.to_array(model.graph.initializer[1]).dtype == ml_dtypes.bfloat16
    code, model = run(path, "insert", "z", "Cast", "-a", "to=float16")
    assert model.graph.output[1].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_merge_and_chain(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, model = run(path, "merge", str(path), "--prefixes", "b_", "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["before"]["nodes"] == 4 and record["after"]["nodes"] == 8
    assert record["after"]["inputs"] == ["x float[n, 4]", "b_x float[b_n, 4]"]
    code, model = run(path, "chain", str(path), "--connect", "y=x", "--keep", "y")
    assert code == 0
    first = -np.maximum(X * W, 0)
    assert_near(results(model, {"x": X})["m_y"], -np.maximum(first * W, 0))
    assert [info.name for info in model.graph.output] == ["m_y", "m_z", "y", "z"]


def test_tables_notes_and_writing_in_place(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", "delete", str(path), "minus", "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert "before" in out and "note: an Identity" not in out
    assert "note: value 'positive' is now called 'y', as the output that it is" in out
    assert len(onnx.load(path).graph.node) == 3


def test_where_weights_go(path: Path) -> None:
    data = path.parent / "out.onnx.data"
    weight = np.zeros((64, 64), np.float32)
    np.save(path.parent / "big.npy", weight)
    run(path, "set", f"big={path.parent / 'big.npy'}", "--external-data")
    assert data.stat().st_size == weight.nbytes
    out = path.parent / "out.onnx"
    assert main(["edit", "rename", str(out), "x=a", "-o", str(path.parent / "b.onnx"),
                 "--share-data"]) == 0  # fmt: skip
    shared = onnx.load(path.parent / "b.onnx", load_external_data=False)
    assert shared.graph.initializer[1].external_data[0].value == "out.onnx.data"
    assert main(["edit", "rename", str(out), "x=a", "-o", str(out), "--inline"]) == 0
    data.unlink()
    assert onnx.load(out).graph.initializer[1].raw_data == weight.tobytes()


def test_errors_and_wrong_usage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, model = run(path, "cut", "--inputs", "w", "--outputs", "y")
    assert code == 1 and not model.graph.node
    assert "Input 'x' is needed as well" in capsys.readouterr().err
    assert run(path, "rename", "x")[0] == 1
    assert run(path, "set", "w=nowhere.npy")[0] == 1
    assert run(path, "replace", "relu", "--op", "Add")[0] == 1
    assert run(path, "replace", "relu", "--op", "Add", "--no-check")[0] == 0
    for arguments in (["edit"], ["edit", "cut"], ["edit", "cut", str(path)]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
