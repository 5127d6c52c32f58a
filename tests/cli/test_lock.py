# SPDX-License-Identifier: Apache-2.0
"""bascule lock: digests in a file, and what became of the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from bascule.cli import main
from bascule.tools.digest import digest
from bascule.tools.lock import check_lock, read_lock, write_lock
from tests.api.models import linear, scaled

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    (tmp_path / "inner").mkdir()
    paths = [tmp_path / "b.onnx", tmp_path / "inner" / "a.onnx"]
    for path, proto in zip(paths, (linear(), scaled())):
        onnx.save(proto, path)
    return [str(path) for path in paths]


def states(lock: Path) -> dict[str, str]:
    return {each.model: each.state for each in check_lock(lock)}


def test_a_lock_names_models_from_its_folder(models: list[str], tmp_path: Path) -> None:
    lock = tmp_path / "inner" / "models.lock"
    found = write_lock(models, lock)
    assert list(found.items()) == [
        ("../b.onnx", digest(linear()).digest),
        ("a.onnx", digest(scaled()).digest),
    ]
    assert read_lock(lock) == found
    assert sorted(path.name for path in lock.parent.iterdir()) == ["a.onnx", "models.lock"]
    assert states(lock) == {"../b.onnx": "same", "a.onnx": "same"}


def test_a_lock_is_the_same_in_any_order(models: list[str], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_lock(models, first)
    write_lock(models[::-1], second)
    assert first.read_bytes() == second.read_bytes()


def test_what_became_of_models(models: list[str], tmp_path: Path) -> None:
    lock = tmp_path / "models.lock"
    write_lock(models, lock)
    renamed = linear()
    renamed.graph.node[0].name = "other"
    onnx.save(renamed, models[0])
    assert states(lock) == {"b.onnx": "same", "inner/a.onnx": "same"}
    onnx.save(scaled(), models[0])
    Path(models[1]).unlink()
    assert states(lock) == {"b.onnx": "changed", "inner/a.onnx": "missing"}
    Path(models[0]).write_bytes(b"\xff" * 50)
    assert states(lock)["b.onnx"] == "unreadable"


def test_a_model_that_cannot_be_read_leaves_the_lock_alone(tmp_path: Path) -> None:
    lock = tmp_path / "models.lock"
    lock.write_text("before")
    with pytest.raises(Exception, match="File doesn't exist"):
        write_lock([tmp_path / "missing.onnx"], lock)
    assert lock.read_text() == "before"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", '{"models": {}}', '{"format": 1, "models": []}', '{"format": 1}', "\x00"],
)
def test_what_is_no_lock(content: str, tmp_path: Path) -> None:
    (tmp_path / "models.lock").write_text(content)
    with pytest.raises(ValueError, match="is no lock file of bascule"):
        read_lock(tmp_path / "models.lock")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 2, "models": {}}, "has format 2; known is 1"),
        ({"format": 1, "models": {"a": 3}}, "'a' has no digest that begins with bascule1:"),
        ({"format": 1, "models": {"a": "md5:3"}}, "'a' has no digest"),
    ],
)
def test_locks_of_others(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "models.lock").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_lock(tmp_path / "models.lock")


def test_the_command(
    models: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lock", *models]) == 0
    assert "models.lock is written." in capsys.readouterr().out
    assert main(["lock", "--check", "models.lock"]) == 0
    assert "same" in capsys.readouterr().out
    assert main(["lock", *models, "-o", "other.lock", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_lock("other.lock")
    onnx.save(scaled(), models[0])
    assert main(["lock", "--check", "models.lock"]) == 1
    assert "changed" in capsys.readouterr().out
    assert main(["lock", "--check", "models.lock", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["same"] is False
    assert record["models"][0] == {
        "model": "b.onnx",
        "state": "changed",
        "expected": digest(linear()).digest,
        "found": digest(scaled()).digest,
    }


def test_wrong_usage(models: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert main(["lock"]) == 2
    assert main(["lock", *models, "--check", str(tmp_path / "models.lock")]) == 2
    assert capsys.readouterr().err.count("give models to lock, or --check") == 2
    assert main(["lock", "--check", str(tmp_path / "missing.lock")]) == 1
    assert "FileNotFoundError" in capsys.readouterr().err
