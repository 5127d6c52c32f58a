# SPDX-License-Identifier: Apache-2.0
"""Runs a page of the documentation: its snippets and commands, and compares what they show.

``python -m tests.support.guide PAGE`` does so in the current folder, where it leaves files.

A listing that begins with ``$ bascule`` is a command and its output; one that follows Python at
once is what that prints or raises. Of outputs only the words count, not the numbers, units and
lines of tables; what stands for ``...`` is left out.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bascule.cli import main, make_parser
from tests.support.reference import DOCS

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?|(?<![\w])[-+]?inf\b")
_UNIT = re.compile(r"# ?(?:[nµm]?s|[kMG]?B|[kMG]?FLOP)\b")
_LINES = re.compile(r"[\u2500-\u257f\s]+")
_TIMED = ("bench", "profile")  # they take long, and show the machine: only their arguments are read


@dataclass(frozen=True)
class Step:
    """A snippet or a command, and what it shows."""

    code: str
    output: str = ""
    is_command: bool = False


def steps(page: str) -> Iterator[Step]:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    for number, block in enumerate(blocks):
        language, body = block[1], block[2]
        if language == "python":
            follows = number + 1 < len(blocks) and not blocks[number + 1][1]
            between = text[block.end() : blocks[number + 1].start()] if follows else "none"
            yield Step(body, "" if between.strip() else blocks[number + 1][2])
        elif not language and body.startswith("$ bascule"):
            command, _, output = body.partition("\n")
            yield Step(command.removeprefix("$ "), output, True)


def words(text: str) -> str:
    """A text without what differs between machines."""
    text = _UNIT.sub("#", _NUMBER.sub("#", text)).replace("# threads", "# thread")
    return _LINES.sub(" ", text).strip()


def shown(step: Step, namespace: dict[str, Any]) -> str:
    """What a step prints, or the error that it raises."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        if step.is_command:
            main(shlex.split(step.code)[1:])
            return stream.getvalue()
        try:
            exec(compile(step.code, "<guide>", "exec"), namespace)
        except Exception as error:
            if not step.output:
                raise
            print(f"{type(error).__name__}: {error}")
    return stream.getvalue()


def follow(page: str) -> None:
    """Run everything on a page, in order."""
    namespace: dict[str, Any] = {}
    for step in steps(page):
        if "CUDAExecutionProvider" in step.code:
            continue  # another error on each machine, or none
        if step.is_command and shlex.split(step.code)[1] in _TIMED:
            make_parser().parse_args(shlex.split(step.code)[1:])
            continue
        found = words(shown(step, namespace))
        for line in map(words, step.output.splitlines()):
            assert line in ("", "...") or line in found, f"{step.code}\n{line}\n\n{found}"


if __name__ == "__main__":
    follow(sys.argv[1])
