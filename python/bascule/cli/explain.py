# SPDX-License-Identifier: Apache-2.0
"""bascule explain: where each node runs, and why."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bascule.cli.session_arguments import add_session_arguments, make_session


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "explain",
        help="show where each node runs, with which kernel, and why",
        description="The optimized graph as it runs: node, operator, shape, dtype, provider, "
        "kernel, reason.",
    )
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument(
        "--passes", action="store_true", help="list what each optimizer pass did, too"
    )
    add_session_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    explanation = make_session(options).explain()
    if options.json:
        record = {
            "nodes": explanation.records(),
            "passes": explanation.passes,
            "seconds": explanation.seconds,
        }
        print(json.dumps(record))
        return 0
    print(explanation)
    if options.passes:
        print()
        for name, count in explanation.passes.items():
            print(f"{count:6d}  {name}")
    return 0
