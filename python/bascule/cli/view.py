# SPDX-License-Identifier: Apache-2.0
"""bascule view: the graph of a model as a page or an image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bascule.cli.session_arguments import excludes


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "view",
        help="draw the graph as a page or an image, or open it in netron",
        description="Write a page with the graph, with pan, zoom and search, that needs no "
        "network; or an image, or open the model in netron.",
    )
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=".html or .svg; default: the model's name with .html"
    )
    parser.add_argument("--group", action="store_true", help="draw modules in place of their nodes")
    parser.add_argument(
        "--diff", metavar="OLD", help="colour what differs from this older version of the model"
    )
    parser.add_argument(
        "--colour", metavar="FILE.json", help="colour nodes: numbers or words by node name"
    )
    parser.add_argument(
        "--by",
        choices=("time", "provider", "error"),
        help="colour nodes by what bascule profile, explain or compare (with onnx.reference) finds",
    )
    parser.add_argument("--netron", action="store_true", help="open the model in netron instead")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    from bascule.tools.view import View, serve_in_netron

    if excludes(options, "--diff", "--colour", "--by"):
        return 2
    colour = _colour(options)
    if options.netron:
        serve_in_netron(options.model, colour)
        return 0
    output = options.output or str(Path(options.model).with_suffix(".html"))
    View(options.model, colour, group=options.group or None).save(output)
    print(json.dumps({"written": output}) if options.json else f"{output} is written.")
    return 0


def _colour(options: argparse.Namespace) -> Any:
    """What colours the nodes."""
    # Imported here: each takes long, and at most one is needed.
    if options.diff:
        from bascule.tools.diff import diff

        return diff(options.diff, options.model)
    if options.colour:
        return json.loads(Path(options.colour).read_text())
    if options.by == "time":
        from bascule.tools.profile import profile

        return profile(options.model)
    if options.by == "provider":
        from bascule.session import InferenceSession

        return InferenceSession(options.model).explain()
    if options.by == "error":
        from bascule.tools.compare import compare

        return compare(options.model, bisect=False, outputs=False)
    return None
