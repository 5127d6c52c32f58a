# SPDX-License-Identifier: Apache-2.0
"""The CUDA C++ sources of the kernels."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import bascule
from bascule import errors

_INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)
_ONCE = re.compile(r"^#pragma once$", re.MULTILINE)


@functools.cache
def folder() -> Path:
    """Where the kernels' sources are: in the installed package, else in the source tree."""
    package = Path(bascule.__file__).parent
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parents[1] / "kernels"


def modules() -> list[str]:
    """The names of all modules: ``softmax`` for ``kernels/softmax.cu``."""
    return sorted(path.stem for path in folder().glob("*.cu"))


@functools.cache
def architectures() -> tuple[int, ...]:
    """The compute capabilities that fat binaries are built for; the last one also as PTX."""
    text = (folder() / "architectures.txt").read_text(encoding="utf-8")
    return tuple(int(line) for line in text.split())


@functools.cache
def source(module: str) -> str:
    """The text of a module with the files of the folder that it includes, each once."""
    path = folder() / f"{module}.cu"
    if not path.is_file():
        raise errors.EngineError(f"there is no file {module}.cu in {folder()}")
    return inlined(path.read_text(encoding="utf-8"), path.name)


def inlined(text: str, name: str) -> str:
    """A source text with the ``kernels/*.cuh`` that it includes in their places, each once."""
    return _inlined(text, name, set())


def _inlined(text: str, name: str, included: set[str]) -> str:
    def include(match: re.Match[str]) -> str:
        file = match[1]
        if file in included:
            return ""
        included.add(file)
        inner = (folder() / file).read_text(encoding="utf-8")
        line = text.count("\n", 0, match.start()) + 2
        return _inlined(_ONCE.sub("", inner), file, included) + f'#line {line} "{name}"'

    return f'#line 1 "{name}"\n' + _INCLUDE.sub(include, text)
