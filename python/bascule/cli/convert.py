# SPDX-License-Identifier: Apache-2.0
"""bascule convert: another precision, opset, place of the weights, or form of the file."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bascule.cli.console import make_console
from bascule.cli.progress import steps
from bascule.cli.session_arguments import (
    add_input_arguments,
    add_model_arguments,
    add_weight_arguments,
    check_dimensions,
    dimensions,
    excludes,
    external_data,
)


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "convert",
        help="convert a model: float16 within a budget, opset, weights, text form",
        description="Suffixes say what files are: .onnx, .onnxtxt (text) or, to write, "
        ".safetensors (the weights alone); the name of --external-data may end so, too. The exit "
        "code is 1 when the budget cannot be met, or when the model would compute something else.",
    )
    parser.add_argument("model", help="an .onnx or .onnxtxt file")
    parser.add_argument("output", help="an .onnx, .onnxtxt or .safetensors file")
    parser.add_argument("--to", choices=("float16", "bfloat16"), help="the precision")
    parser.add_argument(
        "--budget",
        type=_positive,
        default=1e-3,
        help="how far an output may be off, as a part of its largest element (default: 0.001)",
    )
    parser.add_argument(
        "--keep-io-types", action="store_true", help="inputs and outputs stay float32"
    )
    parser.add_argument("--opset", type=int, help="the opset, older or newer")
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare outputs after a change of opset"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="a .safetensors file that replaces weights by name"
    )
    add_weight_arguments(parser)
    add_input_arguments(parser, "to measure with: ")
    parser.add_argument("--all", action="store_true", help="list all nodes that stay in float32")
    add_model_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    # Imported here: --help needs none of it.
    from bascule.errors import InvalidArgument
    from bascule.tools.convert import convert
    from bascule.tools.convert.show import show

    if excludes(options, "--inline", "--external-data"):
        return 2
    try:
        with steps("converting", options.json) as progress:
            found = convert(
                options.model,
                options.output,
                to=options.to,
                budget=options.budget,
                feeds=_feeds(options),
                dims=dimensions(options),
                seed=options.seed,
                keep_io_types=options.keep_io_types,
                opset=options.opset,
                weights=options.weights,
                external_data=external_data(options),
                check=not options.no_check,
                progress=progress,
            )
    except InvalidArgument as error:
        print(f"bascule convert: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found.records()))
    else:
        show(found, make_console(), options.all)
    return 0


def _feeds(options: argparse.Namespace) -> dict[str, Any] | None:
    """Those given in files; None where there are none."""
    if not (options.input or options.dim):
        return None
    from bascule.cli.inputs import read_feeds
    from bascule.compiled import Argument
    from bascule.metadata import NodeArg
    from bascule.tools.convert.document import Document

    graph = Document.read(options.model).model().graph
    if options.dim:
        check_dimensions(dimensions(options), graph.inputs)
    values = [value for value in graph.inputs if value.name not in graph.initializers]
    named = {dim for value in values for dim in value.shape or () if isinstance(dim, str)}
    inputs = [NodeArg.of(Argument(value.name, value.type), named) for value in values]
    return read_feeds(options.input, inputs) if options.input else None


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return number
