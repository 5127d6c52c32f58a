# SPDX-License-Identifier: Apache-2.0
"""What errors tell of the node at fault: source line, module, and what it was declared to read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from bascule.compiled import NodeRow
from bascule.errors import ALL, add_details
from bascule.ir.graph import Graph, Node
from bascule.ir.printer import format_type
from bascule.ir.source_trace import module_of, source_of
from bascule.ir.symbols import invented_names

_RUNNING = re.compile(
    r"running (?P<op>\S+) node\. Name:'(?P<name>.*?)' Status Message: .*"
    r"\[inputs: (?P<inputs>[^\]].*)\]",
    re.DOTALL,
)
_ON_DEVICE = re.compile(
    r"(?P<op>\S+) node '(?P<name>.*?)'(?: on inputs of shapes |.*[\[ ]inputs: )"
    r"(?P<inputs>.*?)(?:: |; |\]$)",
    re.DOTALL,
)
_MENTIONS = (
    re.compile(r"[Nn]ode '(.*?)'"),
    re.compile(r"[Nn]ode \((.*?)\)"),
    re.compile(r"node: ([^;\]]+)"),
)
_SIZES = re.compile(r"[\[{(]([\d, ]*)[\]})]")


def explain_run_error(error: Exception, rows: Sequence[NodeRow]) -> None:
    """Add to an error of a run what the node that failed was compiled from, if it names one.

    `nodes` are those of the model that a fused one stands for.
    """
    if not isinstance(error, ALL) or not error.args:
        return
    text = str(error.args[0])
    found = _RUNNING.search(text) or _ON_DEVICE.search(text)
    if found is None:
        return
    named = [row for row in rows if row.name == found["name"]]
    row = next((row for row in named if row.op_type == found["op"]), None)
    if row is not None:
        add_details(
            error,
            reads=_signature(row.inputs),
            sizes=_sizes(row, found["inputs"]),
            nodes="" if row.replaced in ([], [row.name]) else ", ".join(row.replaced),
            source=row.source,
            module=row.module,
        )


def explain_load_error(error: Exception, graph: Graph) -> None:
    """Add to an error of loading where the node of `graph` that it names comes from."""
    if not isinstance(error, ALL) or not error.args:
        return
    node = _mentioned(str(error.args[0]), graph)
    if node is None:
        return
    reads = [(v.name, format_type(v.type)) for v in node.inputs if v is not None]
    add_details(
        error,
        reads=", ".join(f"{name} {type_}" for name, type_ in reads),
        source=source_of(node),
        module=module_of(node),
    )


def _mentioned(text: str, graph: Graph) -> Node | None:
    names = [name for pattern in _MENTIONS for name in pattern.findall(text) if name]
    if not names:
        return None
    nodes = {node.name: node for node in graph.walk_nodes()}
    return next((nodes[name] for name in names if name in nodes), None)


def _signature(inputs: Iterable[tuple[str, str, list[Any] | None]]) -> str:
    """``x float[batch,3], w float[3,4]``."""
    shown = []
    for name, type_, shape in inputs:
        if not type_:
            continue
        plain = type_.removeprefix("tensor(").removesuffix(")") if "tensor" in type_ else type_
        sizes = ",".join(
            "?" if dim is None or invented_names(dim) else str(dim) for dim in shape or ()
        )
        shown.append(f"{name} {plain}" + ("" if shape is None else f"[{sizes}]"))
    return ", ".join(shown)


def _sizes(row: NodeRow, given: str) -> str:
    """The sizes with a name, as they were: ``batch=2``."""
    shapes = [
        [int(size) for size in sizes.replace(" ", "").split(",") if size]
        for sizes in _SIZES.findall(given)
    ]
    declared = [shape for _, type_, shape in row.inputs if type_]
    if len(shapes) != len(declared):  # one was packed at load, or is no tensor
        return ""
    found: dict[str, dict[int, None]] = {}
    for names, sizes in zip(declared, shapes):
        for name, size in zip(names or (), sizes):
            if isinstance(name, str) and not invented_names(name):
                found.setdefault(name, {})[size] = None
    return ", ".join(
        f"{name}={' or '.join(map(str, sizes))}" for name, sizes in found.items() if sizes
    )
