# SPDX-License-Identifier: Apache-2.0
"""Boxes and edges of a graph; nodes of one module can be one box."""

from __future__ import annotations

from bascule.ir.graph import Graph, Node
from bascule.ir.printer import format_node, format_type
from bascule.tools.digest.graph import constant_of
from bascule.tools.view.layout import Box

_LONGEST = 34


def boxes_of(graph: Graph, depth: int | None = None) -> tuple[list[Box], list[tuple[int, int]]]:
    """The boxes in an order in which edges go forwards, and the edges between them.

    With `depth`, nodes that follow each other and whose modules have the first `depth` parts of
    their path in common are one box.
    """
    boxes: list[Box] = []
    makers: dict[int, int] = {}
    for value in graph.inputs:
        if value.name not in graph.initializers:
            makers[id(value)] = len(boxes)
            text = format_type(value.type)
            boxes.append(Box(f"in:{value.name}", _short(value.name), _short(text), "input", text))
    edges: dict[tuple[int, int], None] = {}
    last: tuple[str, ...] = ()
    for node in graph:
        if constant_of(node) is not None:
            continue
        scope = () if depth is None else scope_of(node)[:depth]
        if scope and scope == last:
            here = len(boxes) - 1
            box = boxes[here]
            box.members.append(node.name)
            box.detail = f"{len(box.members)} nodes"
        else:
            here = len(boxes)
            boxes.append(_node_box(node, scope))
            boxes[-1].scope = scope_of(node)
        last = scope
        inner = [v for nested in node.subgraphs for v in nested.captures()]
        for read in [*node.inputs, *inner]:
            source = makers.get(id(read)) if read is not None else None
            if source is not None and source != here:
                edges[source, here] = None
        for made in node.outputs:
            makers[id(made)] = here
    for value in graph.outputs:
        if id(value) in makers:
            edges[makers[id(value)], len(boxes)] = None
        text = format_type(value.type)
        boxes.append(Box(f"out:{value.name}", _short(value.name), _short(text), "output", text))
    return boxes, list(edges)


def modules(graph: Graph, most: int) -> tuple[list[Box], list[tuple[int, int]]]:
    """Modules, as deep as there are at most `most` boxes; the outermost if there are more."""
    deepest = max((len(scope_of(node)) for node in graph), default=0)
    best = boxes_of(graph, 1)
    for depth in range(2, deepest + 1):
        found = boxes_of(graph, depth)
        if len(found[0]) > most:
            break
        best = found
    return best


def scope_of(node: Node) -> tuple[str, ...]:
    """The path of the module that made the node, from the exporter's metadata or the name."""
    text = node.metadata.get("namespace", "")
    if text:  # "/layer.0: torch.nn.Linear/node: aten.addmm"
        parts = [part.partition(":")[0] for part in text.split("/")]
        return tuple(part for part in parts[:-1] if part)
    return tuple(part for part in node.name.split("/")[:-1] if part)


def _node_box(node: Node, scope: tuple[str, ...]) -> Box:
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    shape = next((format_type(v.type) for v in node.outputs if v.shape is not None), node.name)
    title = _short(operator)
    detail = _short(shape)
    if scope:
        title, detail = _last(scope[-1]), "1 node"
    return Box(
        node.name,
        title,
        detail,
        "group" if scope else "node",
        "/".join(scope) or format_node(node)[:400],
        [node.name],
    )


def _last(path: str) -> str:
    """The end of a module's path, which tells it from others."""
    return path if len(path) <= _LONGEST else "…" + path[1 - _LONGEST :]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
