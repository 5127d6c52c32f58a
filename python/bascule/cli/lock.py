# SPDX-License-Identifier: Apache-2.0
"""bascule lock: keep the digests of models in a file, and compare the models with it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from bascule.cli.console import make_console
from bascule.cli.progress import reading
from bascule.cli.session_arguments import add_json_argument


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "lock",
        help="keep the digests of models in a file, or compare the models with it",
        description="Write the digests of models to a lock file, or, with --check, compare the "
        "models that a lock file names with it: the exit code is 0 if all are the same.",
    )
    parser.add_argument("model", nargs="*", help=".onnx files")
    parser.add_argument(
        "-o", "--output", metavar="LOCK", default="models.lock", help="default: models.lock"
    )
    parser.add_argument("--check", metavar="LOCK", help="the lock file to compare with")
    add_json_argument(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    if bool(options.model) == (options.check is not None):
        print("bascule lock: give models to lock, or --check and a lock file", file=sys.stderr)
        return 2
    return _write(options) if options.model else _check(options)


def _write(options: argparse.Namespace) -> int:
    from bascule.tools.lock import write_lock

    found = write_lock(options.model, options.output, _digester(options.json))
    if options.json:
        print(json.dumps(found))
    else:
        _show(("digest", "model"), [(made, model) for model, made in found.items()])
        print(f"{options.output} is written.")
    return 0


def _check(options: argparse.Namespace) -> int:
    from bascule.tools.lock import check_lock

    checked = list(check_lock(options.check, _digester(options.json)))
    are_same = all(each.state == "same" for each in checked)
    if options.json:
        records = [dataclasses.asdict(each) for each in checked]
        print(json.dumps({"same": are_same, "models": records}))
    else:
        rows = [(e.state, e.model, "" if e.state == "same" else e.found) for e in checked]
        _show(("state", "model", "now"), rows)
    return 0 if are_same else 1


def _digester(quiet: bool) -> Any:
    from bascule.tools.digest import digest

    def make(path: str) -> str:
        with reading(path, quiet) as progress:
            return str(digest(path, progress))

    return make


def _show(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    make_console().print(table)
