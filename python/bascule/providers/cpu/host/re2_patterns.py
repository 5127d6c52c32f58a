# SPDX-License-Identifier: Apache-2.0
"""Regular expressions of RE2, whose syntax is what the operators name, and whose time is linear."""

from __future__ import annotations

from typing import Any

from bascule.errors import InvalidGraph
from bascule.ir.graph import Node
from bascule.providers.cpu.host.registry import Unavailable


def compiled(node: Node, pattern: str, *, longest: bool = False) -> Any:
    """A pattern over UTF-8 bytes; with `longest` the longest of several matches counts."""
    try:
        import re2
    except ImportError:
        raise Unavailable("RE2 is not installed: pip install google-re2") from None
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.longest_match = longest
    try:
        return re2.compile(utf8(pattern), options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise InvalidGraph(
            f"{node.op_type} node '{node.name}': the pattern '{pattern}' is no regular expression "
            f"of RE2: {reason}"
        ) from None


def utf8(text: str) -> bytes:
    """The bytes of a text; those that are no UTF-8 stand in it as surrogates."""
    return text.encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    """The text whose bytes utf8() gives."""
    return data.decode("utf-8", "surrogateescape")
