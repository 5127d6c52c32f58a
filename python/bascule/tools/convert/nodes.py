# SPDX-License-Identifier: Apache-2.0
"""Other nodes for calls of functions, and for one node, given as a model of its own."""

from __future__ import annotations

import onnx
from onnx import helper

from bascule.canonical import canonicalize
from bascule.ir.infer import infer_types
from bascule.ir.inline import inline_call, schema_function
from bascule.ir.load import load_model
from bascule.ir.save import to_proto
from bascule.ir.walk import graphs_in
from bascule.tools.convert.document import Document


def expand_by_onnx(single: onnx.ModelProto, version: int) -> list[onnx.NodeProto]:
    """By onnx's version converter.

    Raises:
        ValueError: it cannot; the message says why.
    """
    from onnx import version_converter

    given = {tensor.name for tensor in single.graph.initializer}
    try:
        made = version_converter.convert_version(single, version)
    except Exception as error:  # its errors have no common type
        text = str(error).rpartition("failed: ")[2].strip() or type(error).__name__
        raise ValueError(f"onnx's version converter: {text}") from None
    return [*_constants(made.graph, given), *made.graph.node]


def expand_by_function(single: onnx.ModelProto) -> tuple[onnx.ModelProto, int] | None:
    """By the function that defines the operator, and the opset of its nodes; None without one."""
    version = single.opset_import[0].version
    model = load_model(single)
    infer_types(model, check=False)
    (node,) = model.graph.nodes
    since = onnx.defs.get_schema(node.op_type, version, node.domain).since_version
    function = schema_function(node, since)
    if function is None:
        return None
    inline_call(node, function)
    body_version = function.opset_imports.get("", version)
    model.opset_imports[""] = body_version
    return _with_constants(single, to_proto(model)), body_version


def expand_by_newest_form(single: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """By bascule's own rewriting to the newest opset, which is told, too."""
    model = load_model(single)
    infer_types(model, check=False)
    canonicalize(model)
    return _with_constants(single, to_proto(model)), model.opset_imports[""]


def _with_constants(single: onnx.ModelProto, made: onnx.ModelProto) -> onnx.ModelProto:
    """Initializers that are new become nodes."""
    given = {tensor.name for tensor in single.graph.initializer}
    nodes = [*_constants(made.graph, given), *made.graph.node]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(copies)
    kept = [tensor for tensor in made.graph.initializer if tensor.name in given]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    return made


def _constants(graph: onnx.GraphProto, given: set[str]) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in graph.initializer
        if tensor.name not in given
    ]


def inline(document: Document) -> tuple[Document, int]:
    """The model with the calls of its own functions replaced by what they do, and how many."""
    if not document.proto.functions:
        return document, 0
    # Imported here: few models have functions.
    from onnx.inliner import inline_local_functions

    calls = {(each.domain, each.name) for each in document.proto.functions}
    count = sum(
        (node.domain, node.op_type) in calls
        for graph in graphs_in(document.proto.graph)
        for node in graph.node
    )
    return document.with_proto(inline_local_functions(document.proto)), count
