# SPDX-License-Identifier: Apache-2.0
"""cuDNN has plans for all convolutions and attentions of the models that we care for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cudnn_plans

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(cudnn_plans.missing()), reason=f"needs {cudnn_plans.missing()}"),
]


def test_every_problem_has_a_plan(tmp_path: Path) -> None:
    cudnn_plans.driver(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.cudnn_plans"],
        capture_output=True,
        text=True,
        env=cudnn_plans.environment(tmp_path),
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("no plan")]
    assert lines[-1].startswith("asked for")
