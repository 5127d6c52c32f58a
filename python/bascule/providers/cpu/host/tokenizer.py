# SPDX-License-Identifier: Apache-2.0
"""Tokenizer of domain com.microsoft: what text pipelines are converted to.

Expressions are those of RE2. The usual ones mean the same to Python, which is far faster at
handing out many short matches.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from bascule.errors import InvalidGraph
from bascule.ir.graph import Node
from bascule.providers.cpu.host.re2_patterns import compiled, text_of, utf8
from bascule.providers.cpu.host.registry import HostFunction, host_operator

_START, _END = "\x02", "\x03"

Cut = Callable[[str], list[str]]

# Words of one kind of ASCII character: the longest match is the greedy one.
_WORDS = re.compile(r"(\\[wd]|\[(?:[A-Za-z0-9_](?:-[A-Za-z0-9_])?|\\[wd])+\])\1*\+?")
_LITERAL = re.compile(r"[\w ,;:'\"/\t\n-]+")


@host_operator("Tokenizer", domain="com.microsoft")
def tokenizer(node: Node) -> HostFunction:
    cut = _cut(node)
    pad = node.attribute("pad_value", "")
    least = node.attribute("mincharnum", 1)
    marks = bool(node.attribute("mark", 0))

    def run(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if text.ndim not in (1, 2):
            raise ValueError(f"the text has shape {list(text.shape)}; expected [C] or [N, C]")
        if not text.size:
            return text
        rows = [[t for t in cut(item) if t and len(t) >= least] for item in text.flat]
        width = max(map(len, rows))
        if width and marks:
            rows = [[_START, *row, _END] for row in rows]
            width += 2
        tokens = np.full((len(rows), width), pad, object)
        for row, found in zip(tokens, rows):
            row[: len(found)] = found
        result: np.ndarray[Any, Any] = tokens.reshape(*text.shape, width)
        return result

    return run


def _cut(node: Node) -> Cut:
    """How a text is cut: into what an expression finds, or at what separators find."""
    expression = node.attribute("tokenexp", "")
    separators = node.attribute("separators", [])
    if bool(expression) == bool(separators):
        raise InvalidGraph(
            f"Tokenizer node '{node.name}': one of the attributes tokenexp and separators is needed"
        )
    if separators == [""] or expression == ".":
        return list
    if _WORDS.fullmatch(expression):
        with contextlib.suppress(re.error):  # RE2 says what is wrong with it
            return re.compile(expression, re.ASCII).findall
    if expression:
        found = compiled(node, expression, longest=True)
        return lambda text: [text_of(match.group()) for match in found.finditer(utf8(text))]
    if "" in separators:
        raise InvalidGraph(f"Tokenizer node '{node.name}': one of several separators is empty")
    if len(separators) == 1 and _LITERAL.fullmatch(separators[0]):
        return lambda text: text.split(separators[0])
    patterns = [compiled(node, separator, longest=True) for separator in separators]

    def split(text: str) -> list[str]:
        parts = [utf8(text)]
        for pattern in patterns:
            parts = [piece for part in parts for piece in _pieces(pattern, part)]
        return [text_of(part) for part in parts]

    return split


def _pieces(pattern: Any, text: bytes) -> list[bytes]:
    """What lies between the matches that are not empty."""
    pieces, start = [], 0
    for match in pattern.finditer(text):
        if match.end() > match.start():
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]
