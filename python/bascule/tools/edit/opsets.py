# SPDX-License-Identifier: Apache-2.0
"""Nodes brought to a newer opset, as `convert` does it: all others stay as they are."""

from __future__ import annotations

import functools

import onnx

from bascule.errors import Fail, InvalidArgument
from bascule.ir import check
from bascule.ir.walk import graphs_of
from bascule.tools.edit.change import Change, imports_of
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import label

_SAME_SINCE = {"Constant": 1, "If": 1, "Loop": 11, "Scan": 9, "SequenceMap": 17}
"""Operators that have only become more general since these versions."""


def raise_opsets(document: Document, change: Change, wanted: dict[str, int]) -> None:
    """Bring a model to these opsets, none of them older than its own.

    Raises:
        InvalidArgument: a node cannot be converted; it is named.
    """
    model = document.proto
    for domain, version in wanted.items():
        old = imports_of(model).get(domain)
        if old is None or old >= version:
            continue
        if _needs_conversion(model.graph, domain, old, version):
            if domain:
                node = _changed(model.graph, domain, old, version)
                raise InvalidArgument(
                    f"{label(node)} means something else in opset {version} of '{domain}' than in "
                    f"{old}, and there is no converter for this domain"
                )
            # Imported here: most edits need none of it.
            from bascule.tools.convert.opset import convert_nodes

            _refuse_graphs(model.graph, old, version)
            try:
                count = convert_nodes(document, old, version)
            except Fail as error:
                raise InvalidArgument(str(error)) from None
            change.note(f"nodes converted from opset {old} to {version}: {count}")
        for function in model.functions:
            _raise_function(function, domain, version, old)
        for each in model.opset_import:
            if check.normal_domain(each.domain) == domain:
                each.version = version


def _refuse_graphs(graph: onnx.GraphProto, old: int, new: int) -> None:
    for node in graph.node:
        for inner in graphs_of(node):
            _refuse_graphs(inner, old, new)
        if graphs_of(node) and _differs(node, "", old, new):
            raise InvalidArgument(
                f"{label(node)} means something else in opset {new} than in {old}, and there is "
                "no converter for it"
            )


def _raise_function(function: onnx.FunctionProto, domain: str, version: int, model: int) -> None:
    own = next((o for o in function.opset_import if check.normal_domain(o.domain) == domain), None)
    old = model if own is None else own.version
    for node in function.node:
        if _differs(node, domain, old, version):
            raise InvalidArgument(
                f"{label(node)} of function '{function.name}' means something else in opset "
                f"{version} than in {old}, and functions cannot be converted"
            )
    if own is not None and own.version < version:
        own.version = version


def _differs(node: onnx.NodeProto, domain: str, old: int, new: int) -> bool:
    if check.normal_domain(node.domain) != domain:
        return False
    since = _SAME_SINCE.get(node.op_type) if not domain else None
    if since is not None and old >= since:
        return False
    return _is_another(node.op_type, domain, old, new)


@functools.cache
def _is_another(op_type: str, domain: str, old: int, new: int) -> bool:
    """Whether an operator has become another one, not only one that takes more element types."""
    before, after = check.schema(op_type, old, domain), check.schema(op_type, new, domain)
    if before is None:
        return False
    if after is None or before.since_version == after.since_version:
        return after is None
    sides = [onnx.defs.get_schema(op_type, version, domain) for version in (old, new)]
    if sides[1].deprecated or (op_type, old < 7) == (
        "PRelu",
        True,
    ):  # that one broadcasts otherwise
        return True
    one, other = (
        (
            sorted(
                (a.name, a.type, a.required, str(a.default_value)) for a in s.attributes.values()
            ),
            [(p.name, p.option) for p in (*s.inputs, *s.outputs)],
            len(s.inputs),
        )
        for s in sides
    )
    return one != other


def _needs_conversion(graph: onnx.GraphProto, domain: str, old: int, new: int) -> bool:
    for node in graph.node:
        if _differs(node, domain, old, new):
            return True
        if any(_needs_conversion(inner, domain, old, new) for inner in graphs_of(node)):
            return True
    return False


def _changed(graph: onnx.GraphProto, domain: str, old: int, new: int) -> onnx.NodeProto:
    for node in graph.node:
        if _differs(node, domain, old, new):
            return node
        for inner in graphs_of(node):
            if _needs_conversion(inner, domain, old, new):
                return _changed(inner, domain, old, new)
    raise AssertionError("no node differs")
