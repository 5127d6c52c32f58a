# SPDX-License-Identifier: Apache-2.0
"""bascule profile: where the time of a model goes."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bascule.cli.console import make_console
from bascule.cli.inputs import read_feeds
from bascule.cli.session_arguments import (
    add_input_arguments,
    add_session_arguments,
    check_dimensions,
    count,
    dimensions,
    providers,
    session_options,
)


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "profile",
        help="show where the time of a model goes, by node, operator and source line",
        description="Loads and runs a model with profiling on. --html writes a report with a flame "
        "view, memory over time and a roofline plot, which needs nothing from the network; --trace "
        "writes a file for ui.perfetto.dev or chrome://tracing.",
    )
    parser.add_argument("model", help="an .onnx file")
    add_input_arguments(parser)
    parser.add_argument(
        "-n",
        "--runs",
        type=int,
        help="runs that are profiled (default: a second of them, 5 to 400)",
    )
    parser.add_argument("--warmup", type=count, default=2, help="runs before (default 2)")
    parser.add_argument("--top", type=count, default=15, help="rows of each table (default 15)")
    parser.add_argument("--html", metavar="FILE", help="write a report")
    parser.add_argument("--trace", metavar="FILE", help="write a trace")
    add_session_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    # Imported here: --help needs none of it.
    from rich.console import Console

    from bascule.ir.load import load_model
    from bascule.metadata import NodeArg
    from bascule.tools.profile import profile
    from bascule.tools.profile.table import show

    for path, ending in ((options.html, ".html"), (options.trace, ".json")):
        if path and not path.endswith(ending):
            print(f"bascule profile: {path} should end in {ending}", file=sys.stderr)
            return 2
    if options.runs is not None and options.runs < 1:
        print("bascule profile: --runs takes a positive number", file=sys.stderr)
        return 2
    graph = load_model(options.model).graph
    check_dimensions(dimensions(options), graph.inputs)
    inputs = [NodeArg.of(value) for value in graph.inputs if value.name not in graph.initializers]
    feeds = read_feeds(options.input, inputs)
    status = Console(stderr=True)
    with status.status("starting") as shown:
        found = profile(
            options.model,
            feeds,
            options.runs,
            warmup=options.warmup,
            seed=options.seed,
            session_options=session_options(options),
            providers=providers(options),
            progress=shown.update if status.is_terminal and not options.json else None,
        )
    for path in (options.html, options.trace):
        if path:
            found.save(path)
    if options.json:
        print(json.dumps(found.records()))
        return 0
    show(found, make_console(), options.top)
    return 0
