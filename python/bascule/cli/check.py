# SPDX-License-Identifier: Apache-2.0
"""bascule check: all that is wrong or lossy in a model, before anything runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bascule.cli.console import make_console
from bascule.cli.progress import reading
from bascule.cli.session_arguments import (
    add_session_arguments,
    dimensions,
    session_options,
)


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "check",
        help="list all that is wrong or lossy in a model, and what a run will take",
        description="Nothing is run, and the model is read piece by piece. The exit code is 1 when "
        "the model cannot run, else 0.",
    )
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument(
        "-s",
        "--shape",
        action="append",
        type=_shape,
        default=[],
        metavar="INPUT=SIZExSIZE",
        help="the shape of an input, as x=1x3x224x224",
    )
    parser.add_argument(
        "--no-constants", action="store_true", help="do not look at the elements of constants"
    )
    add_session_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    # Imported here: --help needs none of it.
    from bascule.errors import InvalidArgument
    from bascule.options import SessionOptions
    from bascule.tools.check import check
    from bascule.tools.check.show import show

    shapes: dict[str, Any] = {**dimensions(options), **dict(options.shape)}
    settings: SessionOptions = session_options(options)
    settings._dimensions.clear()  # the check takes sizes by itself, and says which there are
    try:
        with reading(options.model, options.json) as progress:
            result = check(
                options.model,
                shapes,
                providers=options.provider,
                session_options=settings,
                constants=not options.no_constants,
                progress=progress,
            )
    except InvalidArgument as error:
        print(f"bascule check: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result.records()))
    else:
        show(result, make_console())
    return 0 if result.can_run else 1


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    parts = sizes.replace(",", "x").split("x") if sizes else []
    if not name or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not INPUT=SIZExSIZE")
    return name, tuple(int(part) for part in parts)
