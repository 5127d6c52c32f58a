# SPDX-License-Identifier: Apache-2.0
"""Python code in a process of its own, whose memory is nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import bascule

_STATUS = "\nimport re\nprint(re.search(r'{}:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"


def memory_of(
    code: str, *arguments: object, field: Literal["VmHWM", "RssFile"] = "VmHWM"
) -> tuple[list[str], int]:
    """What `code` prints by words, and bytes afterwards: the most there were, or those of files.

    `code` finds the arguments in sys.argv. AssertionError, with its errors, if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", code + _STATUS.format(field), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(bascule.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *words, kibibytes = done.stdout.split()
    return words, int(kibibytes) * 1024
