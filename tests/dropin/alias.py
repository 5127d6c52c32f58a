# SPDX-License-Identifier: Apache-2.0
"""Programs that import onnxruntime, run with bascule in its place."""

from __future__ import annotations

import subprocess
import sys

ALIASES = {
    "assigned": "import sys, bascule\nsys.modules['onnxruntime'] = bascule\n",
    "imported": "import bascule.as_onnxruntime\n",
}
"""The two ways of putting bascule in the place of onnxruntime."""

_HEAD = """
import onnxruntime
assert onnxruntime.InferenceSession.__module__.startswith("bascule")
"""


def run(code: str, alias: str = "assigned", folder: str | None = None) -> str:
    """What the program prints; its own process, as the alias holds for all of one."""
    program = ALIASES[alias] + _HEAD + code
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
