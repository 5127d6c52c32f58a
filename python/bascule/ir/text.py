# SPDX-License-Identifier: Apache-2.0
"""Models from the standard's text form."""

from __future__ import annotations

from bascule.ir import check
from bascule.ir.graph import Model
from bascule.ir.load import load_model


def parse_graph(text: str) -> Model:
    """The model that `text` describes, checked like one from a file.

    Without a header (``<ir_version: ..., opset_import: [...]>``) it is of the newest IR version and
    opsets, and may use the fused operators and those of com.microsoft.
    """
    import onnx
    import onnx.parser

    if not text.lstrip().startswith("<"):
        imports = {domain: check.newest_opsets()[domain] for domain in ("", "ai.onnx.ml")}
        imports.update(dict.fromkeys(sorted(check.UNCHECKED_DOMAINS), 1))
        listed = ", ".join(f'"{domain}" : {version}' for domain, version in imports.items())
        text = f"<ir_version: {onnx.IR_VERSION}, opset_import: [{listed}]>\n{text}"
    try:
        proto = onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        raise ValueError(f"this is not an ONNX model in text form: {error}") from None
    return load_model(proto)
