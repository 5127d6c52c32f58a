# SPDX-License-Identifier: Apache-2.0
"""bascule trace: every intermediate value of a run, and where numbers go bad."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from bascule.cli.console import make_console
from bascule.cli.inputs import random_feeds, read_feeds
from bascule.cli.session_arguments import (
    add_input_arguments,
    add_session_arguments,
    dimensions,
    make_session,
)

if TYPE_CHECKING:
    from bascule.tools.trace import Statistics, TracedInput, TracedValue


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "trace",
        help="show every intermediate value of a run, and where numbers go bad",
        description="Runs a model node by node and shows what each value is like. With --stop-on "
        "it halts at the first bad one, shows what that node read, and exits with 1.",
    )
    parser.add_argument("model", help="an .onnx file")
    add_input_arguments(parser)
    parser.add_argument(
        "-n",
        "--node",
        action="append",
        metavar="PATTERN",
        help="only these nodes or values, as 'layer.0/*'",
    )
    parser.add_argument(
        "--fused", action="store_true", help="the graph as it runs, after the optimizer"
    )
    parser.add_argument(
        "--stop-on", default="", metavar="ALARMS", help="nan, inf, overflow, joined by |"
    )
    add_session_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    session = make_session(options)
    inputs = session.get_inputs()
    feeds = read_feeds(options.input, inputs)
    missing = [arg for arg in inputs if arg.name not in feeds]
    feeds.update(random_feeds(missing, dimensions(options), options.seed))
    halted = None
    rows: list[TracedValue] = []
    records = []
    # What is kept of a value is what is printed: arrays are dropped as they come.
    for value in session.trace(feeds, options.node, options.fused, options.stop_on):
        if options.json:
            records.append(_record(value))
        else:
            rows.append(_without_array(value))
        halted = value if value.alarm else None
    if options.json:
        print(json.dumps(records))
    else:
        _show(rows)
    return 1 if halted is not None else 0


def _without_array(value: TracedValue) -> TracedValue:
    import dataclasses

    return dataclasses.replace(value, array=None)


def _record(value: TracedValue) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": value.name,
        "names": list(value.names),
        "node": value.node,
        "op_type": value.op_type,
        "sources": list(value.sources),
        "inside": value.inside,
        "dtype": value.dtype,
        "shape": None if value.shape is None else list(value.shape),
        "statistics": _numbers(value.statistics),
        "alarm": value.alarm,
        "line": value.line,
    }
    if value.alarm:
        record["inputs"] = [
            {
                "name": each.name,
                "dtype": each.dtype,
                "shape": None if each.shape is None else list(each.shape),
                "constant": each.constant,
                "statistics": _numbers(each.statistics),
            }
            for each in value.inputs
        ]
    return record


def _numbers(statistics: Statistics | None) -> dict[str, Any] | None:
    """As JSON can say them: what is not finite is text."""
    if statistics is None:
        return None
    found = {name: getattr(statistics, name) for name in statistics.__slots__}
    return {
        name: str(n) if isinstance(n, float) and not math.isfinite(n) else n
        for name, n in found.items()
    }


def _show(rows: list[TracedValue]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = make_console()
    table = Table()
    for title in ("value", "node", "type"):
        table.add_column(title, overflow="fold")
    for title in ("min", "mean", "max", "std", "zeros", "bad"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        operator = f"{escape(row.inside + ', '.join(row.sources))} ({row.op_type})"
        mark = "[red]" if row.alarm else ""
        table.add_row(mark + escape(row.name), operator, _type(row), *_cells(row.statistics))
    console.print(table)
    last = rows[-1] if rows else None
    if last is None or not last.alarm:
        return
    console.print(
        f"Halted: {last.alarm} in '{last.name}' of {last.op_type} "
        f"{', '.join(repr(name) for name in last.sources)}, which read",
        markup=False,
    )
    inputs = Table("input", "type", "min", "mean", "max", "std", "zeros", "bad")
    for each in last.inputs:
        name = escape(each.name) + (" (constant)" if each.constant else "")
        inputs.add_row(name, _type(each), *_cells(each.statistics))
    console.print(inputs)
    if last.line:
        console.print(f"from {last.line}", markup=False)


def _type(row: TracedValue | TracedInput) -> str:
    return row.dtype if row.shape is None else f"{row.dtype} {'x'.join(map(str, row.shape))}"


def _cells(found: Statistics | None) -> tuple[str, ...]:
    if found is None:
        return ("",) * 6
    bad = {"NaN": found.nan, "inf": found.inf, "denormal": found.denormals}
    text = ", ".join(f"{count} {name}" for name, count in bad.items() if count)
    numbers = (f"{n:.3g}" for n in (found.min, found.mean, found.max, found.std))
    return (*numbers, f"{found.zeros:.0%}", text)
