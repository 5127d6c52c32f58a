# SPDX-License-Identifier: Apache-2.0
"""What the guides show is what happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.guide import steps, words
from tests.support.reference import ROOT


@pytest.mark.parametrize(
    "page, count",
    [
        ("index.md", 4),
        ("find_out_why.md", 15),
        ("coming_from_onnxruntime.md", 6),
        ("gradients.md", 3),
    ],
)
def test_guide(page: str, count: int, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert len(list(steps(page))) >= count
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = subprocess.run(
        # In a process of its own: a page makes ``import onnxruntime`` mean bascule.
        [sys.executable, "-m", "tests.support.guide", page],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_words() -> None:
    assert words("│ a │ -1.5e+03 │\n┗━━┛ 3.2 MB in 5 µs") == words("┃ a ┃ 7 ┃ 1 kB in 2 ms")
    assert words("nan in 'x'") != words("inf in 'x'")
