# SPDX-License-Identifier: Apache-2.0
"""The line of the user's program that a node comes from, as exporters write it into the model.

Read are the Python stacks in a node's metadata (torch.onnx with ``dynamo=True``, jax2onnx) and in
its doc_string (torch.onnx's older exporter with ``verbose=True``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bascule.ir.graph import Node
from bascule.ir.replaced import Replaced, main_of, replaced_by

_STACKS = (
    "pkg.torch.onnx.stack_trace",
    "pkg.jax2onnx.jax_traceback",
    "pkg.jax2onnx.stacktrace",
)
"""Metadata entries with a stack as Python prints it, the innermost frame last."""

_CALL_SITE = "pkg.jax2onnx.callsite"
"""``function:line``."""

_FRAME = re.compile(r'^\s*File "(?P<path>[^"\n]+)", line (?P<line>\d{1,9})(?:, in (?P<in>.*))?$')
_OLD_FRAME = re.compile(r"^(?P<path>\S.*)\((?P<line>\d{1,9})\): (?P<in>\S+)$")
_MARKERS = re.compile(r"^[\s~^]*$")

_FRAMEWORKS = re.compile(
    r"/(?:site|dist)-packages/(?:torch|onnxscript|onnx|jax|jaxlib|jax2onnx|flax|equinox|keras"
    r"|tensorflow|tf2onnx|functorch)/"
)
_STANDARD_LIBRARY = re.compile(r"/lib/python3[.\d]*/(?!(?:site|dist)-packages/)")
_LONGEST_CODE = 100
_MOST_FRAMES = 400


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a Python program; prints as ``file.py:123 in forward: x = self.proj(y)``."""

    path: str
    line: int
    function: str
    code: str = ""

    @property
    def is_users(self) -> bool:
        """Whether it is neither the exporting framework's nor the standard library's."""
        path = self.path.replace("\\", "/")
        inside = _FRAMEWORKS.search(path) or _STANDARD_LIBRARY.search(path)
        return inside is None and not path.startswith("<frozen")

    def __str__(self) -> str:
        place = f"{self.path.replace(chr(92), '/').rpartition('/')[2]}:{self.line}"
        if self.function:
            place += f" in {self.function}"
        return f"{place}: {self.code}" if self.code else place


def line_of(doc: str, metadata: Mapping[str, str]) -> SourceLine | None:
    """The innermost line of the user in what an exporter wrote, None where there is none.

    Where all lines are of a framework, the innermost of them.
    """
    frames = _frames_in(next((metadata[key] for key in _STACKS if metadata.get(key)), ""))
    if not frames and metadata.get(_CALL_SITE):
        function, _, line = metadata[_CALL_SITE].rpartition(":")
        frames = (SourceLine("", int(line), function),) if line.isdecimal() else ()
    if not frames and doc:
        frames = _old_frames(doc)
    users = [frame for frame in frames if frame.is_users]
    return (users or frames or (None,))[-1]


@functools.lru_cache(maxsize=512)  # the nodes of one call of the program have one stack
def _frames_in(text: str) -> tuple[SourceLine, ...]:
    """The frames of a stack as Python prints it."""
    found: list[SourceLine] = []
    lines = text.splitlines()
    for index, line in enumerate(lines[: 4 * _MOST_FRAMES]):
        frame = _FRAME.match(line)
        if frame is None:
            continue
        code = lines[index + 1].strip() if index + 1 < len(lines) else ""
        if _FRAME.match(code) or _MARKERS.match(code):
            code = ""
        found.append(
            SourceLine(
                frame["path"],
                int(frame["line"]),
                (frame["in"] or "").strip(),
                code if len(code) <= _LONGEST_CODE else code[: _LONGEST_CODE - 1] + "…",
            )
        )
    return tuple(found)


@functools.lru_cache(maxsize=512)
def _old_frames(text: str) -> tuple[SourceLine, ...]:
    """The frames of a doc_string, where the innermost comes first."""
    matches = [_OLD_FRAME.match(line) for line in text.splitlines()[:_MOST_FRAMES]]
    frames = [SourceLine(m["path"], int(m["line"]), m["in"]) for m in matches if m is not None]
    return tuple(reversed(frames))


def sources_of(node: Node) -> list[SourceLine]:
    """The lines that a node and all nodes that it replaced come from, the main one first."""
    nodes = replaced_by(node)
    ordered = [main_of(nodes), *nodes]
    lines = [line_of(each.doc, each.metadata) for each in ordered]
    return list(dict.fromkeys(line for line in lines if line is not None))


def source_text(lines: Sequence[SourceLine | str]) -> str:
    """Lines in short: ``file.py:123 in forward: x = self.proj(y) (+2 more lines)``; '' if none."""
    if not lines:
        return ""
    more = len(lines) - 1
    return f"{lines[0]} (+{more} more line{'s' * (more > 1)})" if more else str(lines[0])


def source_of(node: Node) -> str:
    """The lines that a node comes from, in short, or ''."""
    return source_text(sources_of(node))


def scope_of(node: Node) -> tuple[str, ...]:
    """The modules that a node stands in, from the outermost: ``("layers.0", "proj")``."""
    return scope_in(main_of(replaced_by(node)))


def scope_in(node: Replaced) -> tuple[str, ...]:
    """As scope_of, of a node that is gone."""
    return _scope(
        node.metadata.get("pkg.torch.onnx.name_scopes", ""),
        node.metadata.get("namespace", ""),
        node.name,
    )


@functools.lru_cache(maxsize=1024)
def _scope(scopes: str, namespace: str, name: str) -> tuple[str, ...]:
    if scopes:  # "['', 'layers.0', 'layers.0.proj', 'linear']", of which the last is the call
        return _relative(re.findall(r"'((?:[^'\\]|\\.)*)'", scopes)[:-1])
    if namespace:  # ": m.Net/layers.0: m.Block/layers.0.proj: torch.nn.Linear/linear: aten.linear"
        parts = [part.partition(":")[0].strip() for part in namespace.split("/")]
        return _relative(parts[:-1] if len(parts) > 1 else parts)
    return tuple(part for part in name.split("/")[:-1] if part)


def _relative(paths: Sequence[str]) -> tuple[str, ...]:
    """Each path without that of the module around it."""
    found = []
    outer = ""
    for path in paths:
        if path:
            found.append(path.removeprefix(f"{outer}.") if outer else path)
            outer = path
    return tuple(found)


def module_of(node: Node) -> str:
    """The path of the module that a node stands in, ``layers.0.proj``, or ''."""
    return ".".join(scope_of(node))
