# SPDX-License-Identifier: Apache-2.0
"""Models from the standard's text form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bascule.ir import check
from bascule.ir.graph import Model
from bascule.ir.load import load_model

if TYPE_CHECKING:
    import onnx

_MAX_DEPTH = 300
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"?|#[^\n]*|=>|[()\[\]{}<>]', re.DOTALL)
"""Strings, comments, arrows, brackets."""


def parse_graph(text: str) -> Model:
    """The model that `text` describes, checked like one from a file.

    Without a header (``<ir_version: ..., opset_import: [...]>``) it is of the newest IR version and
    opsets, and may use the fused operators and those of com.microsoft.
    """
    import onnx

    if not text.lstrip().startswith("<"):
        imports = {domain: check.newest_opsets()[domain] for domain in ("", "ai.onnx.ml")}
        imports.update(dict.fromkeys(sorted(check.UNCHECKED_DOMAINS), 1))
        listed = ", ".join(f'"{domain}" : {version}' for domain, version in imports.items())
        text = f"<ir_version: {onnx.IR_VERSION}, opset_import: [{listed}]>\n{text}"
    return load_model(parse_text(text, "this"))


def parse_text(text: str, where: str) -> onnx.ModelProto:
    """The protobuf that `text` describes, unchecked; errors say that `where` is wrong.

    Raises:
        ValueError: it is no model in text form; the message tells where.
    """
    import onnx.parser
    from google.protobuf.message import DecodeError

    if _depth(text) > _MAX_DEPTH:
        raise ValueError(f"{where} nests deeper than {_MAX_DEPTH} brackets")
    try:
        return onnx.parser.parse_model(text)
    except (onnx.parser.ParseError, DecodeError, ValueError, RuntimeError) as error:
        told = error.args[0] if error.args else ""
        if isinstance(told, bytes):
            told = told.decode("utf-8", "replace")
        raise ValueError(f"{where} is not an ONNX model in text form: {told}") from None


def _depth(text: str) -> int:
    """How deep brackets are nested: the parser's own stack has no such limit."""
    depth = deepest = 0
    for token in _TOKENS.finditer(text):
        first = token[0]
        if first in "([{<":
            depth += 1
            deepest = max(deepest, depth)
        elif first in ")]}>":
            depth -= 1
    return deepest
