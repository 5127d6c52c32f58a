# SPDX-License-Identifier: Apache-2.0
"""Libraries of operators for tests, compiled once: they stay in the temporary folder."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import bascule

SOURCES = Path(__file__).with_name("libraries")
_COMPILER = shutil.which("g++")
_FLAGS = ("-O1", "-g0", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")
# What people who are strict compile with.
_CPP = ("-std=c++20", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion")

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or _COMPILER is None, reason="needs Linux and g++"
)


@functools.cache
def built(source: Path, *flags: str) -> Path:
    """The library of one C or C++ source, from the cache if it was compiled before."""
    standard = ("-x", "c", "-std=c99") if source.suffix == ".c" else _CPP
    include = Path(bascule.include_dir())
    headers = [path.read_text() for path in sorted(include.rglob("*.h"))]
    parts = [source.read_text(), *headers, *_FLAGS, *standard, *flags]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"bascule-operators-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.getuid(), f"{folder} is somebody else's"
    path = folder / f"lib{source.stem}-{key[:32]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = Path(work, "made.so")
            command = [str(_COMPILER), *_FLAGS, *standard, *flags, f"-I{include}", str(source)]
            done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:5000]
            os.replace(made, path)
    return path
