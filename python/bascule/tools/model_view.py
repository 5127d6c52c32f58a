# SPDX-License-Identifier: Apache-2.0
"""What a Model shows: in the terminal, through rich, and in notebooks."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from bascule.model import Model


def as_text(model: Model) -> str:
    """Inputs and outputs, one a line."""
    rows = list(_rows(model))
    kinds, names = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    lines = [f"  {kind:{kinds}}  {name:{names}}  {type_}" for kind, name, type_ in rows]
    return "\n".join([f"Model {_title(model)}", *lines])


def as_table(model: Model) -> Table:
    """The same for a rich console."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "name", "type", title=escape(_title(model)))
    for row in _rows(model):
        table.add_row(*(escape(cell) for cell in row))
    return table


def as_html(model: Model) -> str:
    """The same as an HTML fragment without anything from outside."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in _rows(model)
    )
    return (
        '<table style="text-align:left"><caption style="text-align:left">'
        f"{html.escape(_title(model))}</caption>"
        f"<thead><tr><th></th><th>name</th><th>type</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _title(model: Model) -> str:
    """The file, and how many nodes run where once the graph is optimized."""
    session = model.session
    path, graph = session._model_path, session.get_modelmeta().graph_name
    counts = Counter(row.provider for row in session._compiled.rows)
    parts = [
        f"{count} node{'s' * (count > 1)} on {provider}" for provider, count in counts.most_common()
    ]
    return f"{path or graph or '(from memory)'}: {', '.join(parts) or 'no nodes'}"


def _rows(model: Model) -> Iterator[tuple[str, str, str]]:
    for info in model.inputs:
        default = ", may be left out" if info.optional else ""
        yield f"input{default}", info.name, info.annotation
    for info in model.outputs:
        yield "output", info.name, info.annotation
