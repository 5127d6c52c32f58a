# SPDX-License-Identifier: Apache-2.0
"""A check in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bascule.tools.check.result import ERROR, NOTE, WARNING, ModelCheck
from bascule.tools.profile.table import duration, size

if TYPE_CHECKING:
    from rich.console import Console

_TEXT_WIDTH = 160
_COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "cyan"}


def text(result: ModelCheck) -> str:
    """The table as text."""
    # Imported here: it takes long.
    import io

    from rich.console import Console

    stream = io.StringIO()
    show(result, Console(file=stream, width=_TEXT_WIDTH))
    return stream.getvalue().rstrip("\n")


def show(result: ModelCheck, console: Console) -> None:
    """Print what the model is, the findings, and what a run will take."""
    from rich.markup import escape
    from rich.table import Table

    for line in _heading(result):
        console.print(line, highlight=False, markup=False)
    if result.findings:
        table = Table()
        table.add_column("", no_wrap=True)
        table.add_column("kind", no_wrap=True)
        table.add_column("what", overflow="fold")
        for each in result.findings:
            told = escape(each.text)
            if each.source:
                told += f"\n[dim]from {escape(each.source)}[/]"
            if each.advice:
                told += f"\n[dim]{escape(each.advice)}[/]"
            table.add_row(f"[{_COLOURS[each.severity]}]{each.severity}[/]", each.kind, told)
        console.print(table, highlight=False)
    for line in prediction_lines(result):
        console.print(line, highlight=False, markup=False)
    console.print(_verdict(result), highlight=False, markup=False)


def _heading(result: ModelCheck) -> list[str]:
    if not result.nodes:
        return [result.model]
    opsets = ", ".join(f"{name} {version}" for name, version in result.opsets.items())
    inputs = ", ".join(f"{name} {kind}" for name, kind in result.inputs.items())
    by = f", made by {result.producer}" if result.producer else ""
    return [
        f"{result.model}: {result.nodes} nodes, weights {size(result.weight_bytes)}, "
        f"opsets {opsets}{by}",
        f"inputs: {inputs}",
    ]


def prediction_lines(result: ModelCheck) -> list[str]:
    """What a run will take, in words."""
    found = result.prediction
    if found is None:
        return []
    shapes = ", ".join(f"{name} {'x'.join(map(str, s))}" for name, s in found.shapes.items())
    threads = f"{found.threads} thread{'s' * (found.threads > 1)}"
    lines = [
        f"a run with {shapes} on {threads}: {found.flops / 1e9:.3g} GFLOP, at least "
        f"{duration(found.least_seconds)}, about {duration(found.seconds)}"
    ]
    if found.values is None or found.memory is None:
        lines.append(f"memory: weights {size(found.weights)}; values depend on data")
    else:
        lines.append(
            f"memory: about {size(found.memory)} at most (weights {size(found.weights)}, values "
            f"{size(found.values)}, inputs and outputs {size(found.feeds)})"
        )
    if found.unknown:
        lines.append(f"{found.unknown} nodes are not counted: their sizes depend on data")
    if not found.optimized:
        lines.append("predicted for the graph as the file has it: it is too large to optimize here")
    return lines


def _verdict(result: ModelCheck) -> str:
    errors, warnings = len(result.of(ERROR)), len(result.of(WARNING))
    if errors:
        return f"It cannot run: {errors} error{'s' * (errors > 1)}."
    told = f", {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    return f"It can run{told}."
