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
_PARTS = re.compile(r"^// parts: (.+)$", re.MULTILINE)


@functools.cache
def folder() -> Path:
    """Where the kernels' sources are: in the installed package, else in the source tree."""
    package = Path(bascule.__file__).parent
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parents[1] / "kernels"


def modules() -> list[str]:
    """The names of all modules: ``softmax`` for ``kernels/softmax.cu``.

    A file that says ``// parts: float32 float16`` is the modules ``softmax.float32`` and
    ``softmax.float16``.
    """
    return [
        ".".join(filter(None, (path.stem, part)))
        for path in sorted(folder().glob("*.cu"))
        for part in parts(path.stem) or [""]
    ]


def parts(name: str) -> list[str]:
    """What ``kernels/<name>.cu`` is compiled in one at a time; none if all at once."""
    path = folder() / f"{name}.cu"
    if not path.is_file():
        raise errors.EngineError(f"there is no file {name}.cu in {folder()}")
    lines = _PARTS.findall(path.read_text(encoding="utf-8"))
    return [part for line in lines for part in line.split()]


@functools.cache
def module_of(name: str, function: str) -> str:
    """The module with a kernel of ``kernels/<name>.cu``: the part that is named in `function`.

    ``softmax.float16`` for ``softmax_warp_8_float16``; of several the longest, and the last. A name
    with a part is a module already.
    """
    known = [] if "." in name else parts(name)
    if not known:
        return name
    words = f"_{function}_"
    best = max(known, key=lambda part: (f"_{part}_" in words and len(part), words.rfind(part)))
    if f"_{best}_" not in words:
        raise errors.EngineError(f"{function} is in no part of {name}.cu, which are {known}")
    return f"{name}.{best}"


@functools.cache
def architectures() -> tuple[int, ...]:
    """The compute capabilities that fat binaries are built for; the last one also as PTX."""
    text = (folder() / "architectures.txt").read_text(encoding="utf-8")
    return tuple(int(line) for line in text.split())


@functools.cache
def source(module: str) -> str:
    """The text of a module with the files of the folder that it includes, each once.

    What chooses its part comes first, as nvcc has it in its options; a file without the name of a
    part is all of them.
    """
    name, _, part = module.partition(".")
    if part and part not in parts(name):
        raise errors.EngineError(f"{name}.cu has no part '{part}'")
    path = folder() / f"{name}.cu"
    if not path.is_file():
        raise errors.EngineError(f"there is no file {name}.cu in {folder()}")
    text = inlined(path.read_text(encoding="utf-8"), path.name)
    chosen = f"#define BASCULE_PARTS\n#define BASCULE_PART_{part} 1\n" if part else ""
    return chosen + text


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
