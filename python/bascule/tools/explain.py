# SPDX-License-Identifier: Apache-2.0
"""Where each node of a session runs, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bascule.compiled import NodeRow

_COLUMNS = ("node", "operator", "shape", "dtype", "provider", "kernel", "reason")
_LONGEST = 40
_LONGEST_SOURCE = 90


class Explanation:
    """The nodes of a compiled model in execution order; print it for a table.

    `rows` holds one record a node, `seconds` the time of each phase of making the session,
    `passes` how often each optimizer pass changed something, `plan_cache` what became of the plan
    where session.cache_dir is set, `verification` what became of the rewrites where
    session.verify_optimizer is.
    """

    def __init__(
        self,
        rows: Sequence[NodeRow],
        seconds: dict[str, float],
        passes: dict[str, int],
        plan_cache: str = "",
        verification: str = "",
    ) -> None:
        self.rows = list(rows)
        self.seconds = dict(seconds)
        self.passes = dict(passes)
        self.plan_cache = plan_cache
        self.verification = verification

    def records(self) -> list[dict[str, Any]]:
        """The table as dicts, with its column titles as keys.

        Where the model carries the source lines of its exporter, ``source`` has that of the node in
        short, ``sources`` those of all nodes that it replaced, ``module`` its module and
        ``replaced`` the names of these nodes.
        """
        records: list[dict[str, Any]] = [dict(zip(_COLUMNS, _cells(row))) for row in self.rows]
        if self._has_sources:
            for record, row in zip(records, self.rows):
                record["source"] = row.source
                record["sources"] = list(row.sources)
                record["module"] = row.module
                record["replaced"] = list(row.replaced)
        return records

    @property
    def _has_sources(self) -> bool:
        return any(row.source for row in self.rows)

    def __str__(self) -> str:
        columns, cells = [*_COLUMNS], [_cells(row) for row in self.rows]
        if self._has_sources:
            columns.append("source")
            cells = [[*line, row.source] for line, row in zip(cells, self.rows)]
        table = [columns, *cells]
        widths = [max(len(line[i]) for line in table) for i in range(len(_COLUMNS))]
        widths[:-1] = [min(width, _LONGEST) for width in widths[:-1]]  # a reason is shown whole
        widths += [_LONGEST_SOURCE] * (len(columns) - len(_COLUMNS))
        lines = [
            "  ".join(_clip(cell, width) for cell, width in zip(line, widths)).rstrip()
            for line in table
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        if self.plan_cache:
            lines += ["", f"plan cache: {self.plan_cache}"]
        if self.verification:
            lines += ["", f"optimizer: {self.verification}"]
        return "\n".join(lines)

    __repr__ = __str__


def _clip(text: str, width: int) -> str:
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)


def _cells(row: NodeRow) -> list[str]:
    domain = f"{row.domain}." if row.domain else ""
    shapes, types = [], []
    for _, type_, shape in row.outputs:
        shapes.append("?" if shape is None else "x".join(_dim(d) for d in shape) or "scalar")
        types.append(type_.removeprefix("tensor(").removesuffix(")"))
    reasons = [f"{provider}: {why}" for provider, why in row.reasons]
    reason = "; ".join([row.note, *reasons] if row.note else reasons)
    return [
        row.inside + row.name,
        domain + row.op_type,
        ", ".join(shapes),
        ", ".join(dict.fromkeys(types)),
        row.provider,
        row.kernel,
        reason or "first provider that takes it",
    ]


def _dim(dim: Any) -> str:
    return "?" if dim is None else str(dim)
