# SPDX-License-Identifier: Apache-2.0
"""bascule compare: two backends, precisions or versions of a model, to the guilty node."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bascule.cli.console import make_console
from bascule.cli.session_arguments import (
    add_input_arguments,
    add_model_arguments,
    add_operators_argument,
    check_dimensions,
    dimensions,
)

if TYPE_CHECKING:
    from bascule.tools.compare import Comparison


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "compare",
        help="compare two backends, precisions or versions of a model, value by value",
        description="A runs; each node of B is run on the values of A, and its error is shown "
        "beside what rounding explains. The first value out of bounds, the optimizer pass behind "
        "it and the smallest model that shows it are looked for. Exits with 1 if there is one.",
    )
    backends = "cpu, cpu:disabled|basic|extended|all, cuda, onnxruntime, reference"
    parser.add_argument("a", help="an .onnx file")
    parser.add_argument(
        "b", nargs="?", default="reference", help=f"an .onnx file, or a backend: {backends}"
    )
    parser.add_argument("--a-on", metavar="BACKEND", help="where a runs (default: cpu)")
    parser.add_argument("--b-on", metavar="BACKEND", help="where b runs, if it is a file")
    add_input_arguments(parser)
    parser.add_argument(
        "--disable",
        action="append",
        default=[],
        metavar="PASS",
        help="an optimizer pass that b leaves out",
    )
    parser.add_argument("--all", action="store_true", help="list all values, not only bad ones")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="write the smallest model that differs there"
    )
    add_operators_argument(parser)
    add_model_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    from bascule.operator_libraries import load_operators
    from bascule.tools.compare import compare
    from bascule.tools.compare.show import record
    from bascule.tools.compare.sides import means_backend

    for library in options.operators:
        load_operators(library)
    b: Any = (options.b, options.b_on)
    if means_backend(options.b):
        if options.b_on:
            raise ValueError(f"--b-on: '{options.b}' is a backend already")
        b = options.b
    found = compare(
        (options.a, options.a_on),
        b,
        _feeds(options),
        dims=dimensions(options),
        disabled=options.disable,
    )
    written = []
    if options.output and found.reproduction is not None:
        written = [str(path) for path in found.write(options.output)]
        if found.reproduction.other is not None:
            written.append(str(Path(options.output) / "reproduction_a.onnx"))
    if options.json:
        print(json.dumps(record(found) | {"written": written}))
    else:
        _show(found, options.all, written)
    return 0 if found.agrees else 1


def _feeds(options: argparse.Namespace) -> dict[str, Any]:
    """From files, and random ones for the other inputs of a."""
    from bascule.cli.inputs import random_values, read_feeds
    from bascule.compiled import Argument
    from bascule.ir.load import load_model
    from bascule.metadata import NodeArg

    graph = load_model(options.a).graph
    if options.dim:
        check_dimensions(dimensions(options), graph.inputs)
    values = [value for value in graph.inputs if value.name not in graph.initializers]
    named = {dim for value in values for dim in value.shape or () if isinstance(dim, str)}
    inputs = [NodeArg.of(Argument(value.name, value.type), named) for value in values]
    feeds = read_feeds(options.input, inputs)
    missing = [(v.name, v.type) for v in values if v.name not in feeds and v.type is not None]
    return feeds | random_values(missing, dimensions(options), options.seed)


def _show(found: Comparison, everything: bool, written: list[str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from bascule.tools.compare.show import COLUMNS, row, summary

    console = make_console()
    console.print(f"a: {found.a}\nb: {found.b}", markup=False)
    values = [each for each in found.values if everything or not each.is_within]
    if values:
        table = Table()
        for title in COLUMNS:
            numeric = title in ("error", "bound")
            table.add_column(title, overflow="fold", justify="right" if numeric else "left")
        for value in values:
            cells = [escape(cell) for cell in row(value)]
            table.add_row(*cells, style=None if value.is_within else "red")
        console.print(table)
    for line in summary(found):
        console.print(line, markup=False, highlight=False)
    if written:
        console.print(f"Written: {', '.join(written)}", markup=False, highlight=False)
