# SPDX-License-Identifier: Apache-2.0
"""--provider, which the verbs that make a session share."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import bascule
from bascule.cli import main

DIGITS = str(Path(bascule.__file__).parent / "examples" / "digits.onnx")
VERBS = [
    ["run", "--json"],
    ["explain", "--json"],
    ["trace", "--json"],
    ["bench", "--json", "-s", "0.01", "-a", ""],
    ["profile", "--json", "--runs", "1"],
    ["check", "--json"],
]
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("verb", VERBS, ids=[verb[0] for verb in VERBS])
@pytest.mark.parametrize("name", ["cpu", "CPUExecutionProvider"])
def test_the_cpu(verb: list[str], name: str, capsys: Capture) -> None:
    assert main([verb[0], DIGITS, *verb[1:], "--provider", name]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("verb", VERBS[:-1], ids=[verb[0] for verb in VERBS[:-1]])
def test_one_that_is_not_there(verb: list[str], capsys: Capture) -> None:
    """Nothing runs elsewhere than was asked for."""
    assert main([verb[0], DIGITS, *verb[1:], "--provider", "Curious"]) == 1
    error = capsys.readouterr().err
    assert "--provider: Curious is not available here" in error
    assert "CPUExecutionProvider" in error


def test_no_gpu(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session would say is said here, too."""
    monkeypatch.setattr(
        "bascule.providers.names.available_providers", lambda: ["CPUExecutionProvider"]
    )
    (tmp_path / "cupy.py").write_text("raise ImportError('halted')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert main(["explain", DIGITS, "--provider", "cuda"]) == 1
    error = capsys.readouterr().err
    assert 'CuPy, which cannot be imported (halted); pip install "bascule[cuda13]"' in error
    assert "`bascule doctor -p cuda` tells what is missing" in error
