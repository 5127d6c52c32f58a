# SPDX-License-Identifier: Apache-2.0
"""bascule diff: what differs between two models."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from bascule.cli.console import make_console
from bascule.cli.progress import reading
from bascule.cli.session_arguments import (
    add_input_arguments,
    add_model_arguments,
    dimensions,
)

if TYPE_CHECKING:
    from bascule.tools.diff import ModelDiff

_GIT_ARGUMENTS = 7
"""path old-file old-hex old-mode new-file new-hex new-mode, as git gives them to a driver."""


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "diff",
        help="show which nodes, attributes and weights differ between two models",
        description="What differs between two models. Nodes are recognised by what they compute: "
        "their names and order, and where tensors are stored, do not count. The exit code is 0 if "
        "nothing differs and 1 if something does.",
    )
    parser.add_argument("model", nargs="+", metavar="OLD NEW", help="two .onnx files")
    parser.add_argument(
        "--run", action="store_true", help="run both on the same inputs and compare the outputs"
    )
    add_input_arguments(parser, "with --run: ")
    parser.add_argument(
        "--git",
        action="store_true",
        help='be a diff driver of git: git config diff.onnx.command "bascule diff --git"',
    )
    add_model_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    if options.git:
        from bascule.tools.diff.git import driver_text

        if len(options.model) < _GIT_ARGUMENTS:
            print("bascule diff --git: it is git that gives the arguments", file=sys.stderr)
            return 2
        path, old, _, _, new = options.model[:5]
        print(driver_text(path, old, new))
        return 0  # git takes anything else for a failure
    if len(options.model) != 2:
        print("bascule diff: give two models", file=sys.stderr)
        return 2
    found = _compare(options)
    if options.json:
        print(json.dumps(found.as_dict()))
    else:
        _show(found)
    return 0 if found.same else 1


def _compare(options: argparse.Namespace) -> ModelDiff:
    from bascule.tools.diff import diff

    old, new = options.model
    feeds: dict[str, Any] = {}
    if options.input:
        from bascule.cli.inputs import read_feeds
        from bascule.ir.load import load_model
        from bascule.metadata import NodeArg

        inputs = [NodeArg.of(value) for value in load_model(old).graph.inputs]
        feeds = read_feeds(options.input, inputs)
    run = options.run or bool(options.input)
    with reading(f"{old} and {new}", options.json) as progress:
        return diff(
            old,
            new,
            run=run,
            feeds=feeds,
            dims=dimensions(options),
            seed=options.seed,
            progress=progress,
        )


def _show(found: ModelDiff) -> None:
    """The report, its lines coloured by what they begin with, and weights as a table."""
    from rich.text import Text

    from bascule.tools.diff.text import lines

    console = make_console()
    styles = {"+": "green", "-": "red", "~": "yellow"}
    is_first = True
    style = ""
    for line in lines(found, with_statistics=False):
        style = style if line.startswith(" ") else styles.get(line[:1], "")
        console.print(Text(line, "bold" if is_first else style), soft_wrap=True)
        is_first = False
    if found.weights:
        console.print(_table("weight", [(w, w.node) for w in found.weights]))
    if found.outputs is not None:
        console.print(_table("output", [(o, "") for o in found.outputs]))


def _table(kind: str, rows: list[tuple[Any, str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column(kind, overflow="fold")
    if kind == "weight":
        table.add_column("read by", overflow="fold")
    table.add_column("type", overflow="fold")
    for title in ("changed", "max", "mean", "relative", "shift"):
        table.add_column(title, justify="right")
    for change, node in rows:
        name = change.new if change.old == change.new else f"{change.new} (was {change.old})"
        types = change.new_type
        if change.old_type != change.new_type:
            types = f"{change.old_type} → {change.new_type}"
        found = change.statistics
        numbers = ["yes" if not getattr(change, "same", False) else "no", *[""] * 4]
        if found is not None:
            numbers = [
                f"{found.changed / max(found.elements, 1):.2%}",
                f"{found.max:.3g}",
                f"{found.mean:.3g}",
                f"{found.relative:.3g}",
                f"{found.shift:.1%}",
            ]
        cells = [name, *([node] if kind == "weight" else []), types]
        table.add_row(*(escape(cell) for cell in cells), *numbers)
    return table
