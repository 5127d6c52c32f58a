# SPDX-License-Identifier: Apache-2.0
"""What can be told of a model without types."""

from __future__ import annotations

from collections.abc import Sequence

from bascule.ir.graph import Model
from bascule.tools.check.result import ERROR, NOTE, Finding
from bascule.tools.check.words import listed, plain

_OLD_OPSET = 13
"""Since 2020: before it, operators of the default domain meant different things."""


def examine_external(missing: Sequence[tuple[str, Exception]]) -> list[Finding]:
    groups: dict[str, list[str]] = {}
    for tensor, error in missing:
        text = plain(error).replace(f"'{tensor}'", "it").replace(f" [tensor: {tensor}]", "")
        groups.setdefault(text, []).append(tensor)
    return [
        Finding(ERROR, "external data", f"{listed(tensors)}: {text}", tuple(tensors))
        for text, tensors in groups.items()
    ]


def examine_outside(model: Model) -> list[Finding]:
    """What can be told without types: opsets, unused inputs and initializers, symbolic sizes."""
    graph, found = model.graph, []
    version = model.opset_imports.get("", _OLD_OPSET)
    if version < _OLD_OPSET:
        text = f"opset {version} is older than {_OLD_OPSET}: nodes are rewritten when it is loaded"
        advice = "other tools may refuse it; onnx.version_converter raises it"
        found.append(Finding(NOTE, "opset", text, advice=advice))
    defaults = graph.initializers
    unread = [v.name for v in graph.inputs if v.is_unused and v.name not in defaults]
    if unread:
        text = f"inputs that nothing reads: {listed(unread)}"
        advice = "they must be fed nevertheless; export the model without them"
        found.append(Finding(NOTE, "unused", text, tuple(unread), advice=advice))
    unused = [
        (name, value.constant.nbytes)
        for each in graph.walk_graphs()
        for name, value in each.initializers.items()
        if value.constant is not None and value.is_unused and value not in each.inputs
    ]
    if unused:
        # Imported here: the table is a part of the profile.
        from bascule.tools.profile.table import size

        total = size(sum(nbytes for _, nbytes in unused))
        names = tuple(name for name, _ in unused)
        text = f"initializers that nothing reads, {total}: {listed(names)}"
        found.append(Finding(NOTE, "unused", text, names, advice="the file could be smaller"))
    symbols: dict[str, list[str]] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int):
                symbols.setdefault(dim or "(no name)", []).append(f"{value.name}[{axis}]")
    if symbols:
        told = ", ".join(f"{name} in {listed(places)}" for name, places in symbols.items())
        text = f"sizes that a run decides: {told}"
        found.append(Finding(NOTE, "sizes", text, tuple(symbols)))
    return found
