# SPDX-License-Identifier: Apache-2.0
"""bascule digest: a hash of what models compute, however their files store it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from bascule.cli.console import make_console
from bascule.cli.progress import reading
from bascule.cli.session_arguments import add_json_argument


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "digest",
        help="show a hash over graph and weights that does not depend on how they are stored",
        description="A hash over graph and all tensor data, external files included. It does not "
        "depend on the encoding of the file, the order of nodes, the names of values in between, "
        "or where tensors are stored.",
    )
    parser.add_argument("model", nargs="+", help=".onnx files")
    add_json_argument(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    from bascule.tools.digest import digest

    records: list[dict[str, Any]] = []
    for path in options.model:
        with reading(path, options.json) as progress:
            found = digest(path, progress)
        records.append({"model": path, **dataclasses.asdict(found)})
    if options.json:
        print(json.dumps(records))
    else:
        _show(records)
    return 0


def _show(records: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("digest", no_wrap=True)
    table.add_column("model", overflow="fold")
    for title in ("nodes", "tensors", "MB"):
        table.add_column(title, justify="right")
    for record in records:
        table.add_row(
            record["digest"],
            escape(record["model"]),
            str(record["nodes"]),
            str(record["tensors"]),
            f"{record['tensor_bytes'] / 1e6:.1f}",
        )
    make_console().print(table)
