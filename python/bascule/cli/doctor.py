# SPDX-License-Identifier: Apache-2.0
"""bascule doctor: what this machine has, what is missing, and what mends it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bascule.cli.console import make_console
from bascule.cli.session_arguments import add_json_argument

if TYPE_CHECKING:
    from bascule.tools.doctor.finding import Finding

_PROVIDERS = ("cpu", "cuda")


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "doctor",
        help="show what this machine has, and what is missing",
        description="CPU, instruction sets, threads, packages, CUDA and caches: what was found, "
        "and the command that mends what is not right. The exit code is 0 if all that is asked "
        "for works.",
    )
    parser.add_argument(
        "-p",
        "--provider",
        action="append",
        choices=_PROVIDERS,
        default=[],
        help="what must work beside the CPU",
    )
    parser.add_argument(
        "-m", "--measure", action="store_true", help="measure arithmetic and memory, too"
    )
    add_json_argument(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    from bascule.tools.doctor import examine

    asked = sorted({"cpu", *options.provider})
    with contextlib.nullcontext() if options.json else make_console().status("looking"):
        findings = examine(asked, options.measure)
    works = all(finding.is_well for finding in findings)
    if options.json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"asked": asked, "works": works, "findings": listed}))
    else:
        _show(findings, asked, works)
    return 0 if works else 1


def _show(findings: Sequence[Finding], asked: Sequence[str], works: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "what", "found", "what to do", title="bascule doctor")
    area = ""
    for finding in findings:
        if finding.area != area and area:
            table.add_section()
        found = finding.found
        text = " ".join(map(str, found)) if isinstance(found, list) else str(found)
        if found is None:
            text = "missing"
        style = "" if finding.state == "ok" else "yellow" if finding.is_well else "red"
        table.add_row(
            finding.area if finding.area != area else "",
            escape(finding.name),
            escape(text),
            escape(finding.fix),
            style=style,
        )
        area = finding.area
    console = make_console()
    console.print(table)
    verdict = "works" if works else "does not work: see the lines in red"
    console.print(f"What was asked for ({', '.join(asked)}) {verdict}.")
