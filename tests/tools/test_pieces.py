# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule.ir.pages import MappedFile
from bascule.tools.diff import weights
from bascule.tools.pieces import Job, Pieces


def test_results_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bascule.tools.pieces._AHEAD", 300_000)
    data = np.random.default_rng(0).bytes(2_000_000)
    (tmp_path / "file").write_bytes(data)
    with open(tmp_path / "file", "rb") as file:
        mapped = memoryview(MappedFile(file.fileno()))
    ranges = [(i * 20_000, i * 20_000 + size) for i, size in enumerate([10, 50_000, 1, 0] * 20)]

    def look(a: memoryview, b: memoryview) -> tuple[bytes, bytes]:
        return bytes(a), bytes(b)

    jobs: list[Job[tuple[bytes, bytes]]] = [
        (look, (mapped[i:j], memoryview(data)[i:j])) for i, j in ranges
    ]
    with Pieces[tuple[bytes, bytes]]() as pieces:
        assert list(pieces.map(jobs)) == [(data[i:j], data[i:j]) for i, j in ranges]


def test_an_error_in_a_thread_is_raised() -> None:
    def fail(piece: memoryview) -> None:
        raise ValueError("no such piece")

    with Pieces[None]() as pieces, pytest.raises(ValueError, match="no such piece"):
        list(pieces.map([(fail, (memoryview(bytes(100_000)),))]))


def _model(path: Path, array: np.ndarray) -> Path:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [array.shape[0]]) for n in "xy")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y],
        [numpy_helper.from_array(array, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


@pytest.mark.parametrize("changed", [(0, 1), (5000, 5001), (0, 20_000)])
def test_statistics_count_pieces_that_are_equal(
    changed: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PIECE", 4096)
    old = np.random.default_rng(0).standard_normal(20_000, np.float32)
    new = old.copy()
    new[slice(*changed)] += 1
    paths = [_model(tmp_path / f"{i}.onnx", array) for i, array in enumerate((old, new))]
    (found,) = bascule.diff(*paths).weights
    assert found.statistics is not None
    one = weights.array_statistics(old, new)
    for name in ("elements", "changed", "max", "shift", "nonfinite"):
        assert getattr(found.statistics, name) == getattr(one, name)
    for name in ("mean", "relative", "old_mean", "new_mean", "old_std", "new_std"):
        assert getattr(found.statistics, name) == pytest.approx(getattr(one, name), rel=1e-4)


def test_tensors_of_nan_alone_differ(tmp_path: Path) -> None:
    old = np.full(3000, np.nan, np.float32)
    paths = [_model(tmp_path / f"{i}.onnx", array) for i, array in enumerate((old, -old))]
    (found,) = bascule.diff(*paths).weights
    assert found.statistics is not None
    assert found.statistics.changed == 3000
