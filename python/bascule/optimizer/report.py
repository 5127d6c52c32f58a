# SPDX-License-Identifier: Apache-2.0
"""What the optimizer did, and what it left alone and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bascule.ir.graph import Node, Value


@dataclass(frozen=True)
class Rejection:
    """A node that a pass looked at and left alone."""

    pass_name: str
    node: str
    op_type: str
    reason: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        at = f" ({', '.join(self.values)})" if self.values else ""
        return f"{self.pass_name}: {self.op_type} '{self.node}': {self.reason}{at}"


@dataclass
class Report:
    """The changes by pass, and the rejections, each once."""

    changes: Counter[str] = field(default_factory=Counter)
    _rejections: dict[tuple[str, str, str], Rejection] = field(default_factory=dict)

    def change(self, pass_name: str, count: int = 1) -> None:
        if count:
            self.changes[pass_name] += count

    def reject(self, pass_name: str, node: Node, reason: str, values: Sequence[Value] = ()) -> None:
        key = (pass_name, node.name or node.output.name, reason)
        if key not in self._rejections:
            names = tuple(value.name for value in values)
            self._rejections[key] = Rejection(pass_name, key[1], node.op_type, reason, names)

    @property
    def rejections(self) -> list[Rejection]:
        return list(self._rejections.values())

    def __str__(self) -> str:
        lines = [f"{name}: {count}" for name, count in sorted(self.changes.items())]
        return "\n".join(lines + [str(rejection) for rejection in self.rejections])
