# SPDX-License-Identifier: Apache-2.0
"""Nodes and names in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bascule.ir.graph import Node, Value
from bascule.ir.printer import format_type
from bascule.ir.replaced import Replaced
from bascule.ir.source_trace import source_text, sources_of

_LISTED = 6


def described(nodes: Sequence[Node]) -> str:
    """Nodes with the types that they read."""
    told = [f"'{node.name}' ({', '.join(map(_type, node.inputs))})" for node in nodes[:_LISTED]]
    more = f" and {len(nodes) - _LISTED} more" if len(nodes) > _LISTED else ""
    return ", ".join(told) + more


def operators(nodes: Iterable[Node | Replaced]) -> str:
    """``3 Softmax, 1 Exp``."""
    counts = Counter(f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in nodes)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(_LISTED))


def source(nodes: Sequence[Node]) -> str:
    lines = dict.fromkeys(str(line) for node in nodes for line in sources_of(node))
    return source_text(list(lines))


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f"'{name}'" for name in names[:_LISTED]) + more


def plain(error: Exception) -> str:
    """The message without the prefix that onnxruntime gives it."""
    text = str(error)
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text


def _type(value: Value | None) -> str:
    return "-" if value is None else format_type(value.type)
