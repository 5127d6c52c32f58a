# SPDX-License-Identifier: Apache-2.0
"""The ``bascule`` command: one verb a task."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from bascule._version import __version__

# Each is a module of this package, in the order in which --help lists them.
VERBS = (
    "run",
    "info",
    "explain",
    "check",
    "bench",
    "profile",
    "trace",
    "compare",
    "diff",
    "convert",
    "edit",
    "digest",
    "lock",
    "sbom",
    "view",
    "doctor",
    "completion",
)


class _Folder(argparse.Action):
    """Prints what the function of bascule that is called like the option returns, and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        # Imported here: few ask for it.
        from bascule import operator_libraries

        (option,) = self.option_strings
        print(getattr(operator_libraries, option.lstrip("-").replace("-", "_"))())
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="bascule", description="Run, explain and measure ONNX models."
    )
    parser.add_argument("--version", action="version", version=f"bascule {__version__}")
    parser.add_argument(
        "--include-dir", action=_Folder, help="print the folder of bascule/operator.h and exit"
    )
    parser.add_argument(
        "--cmake-dir", action=_Folder, help="print the folder of the CMake package and exit"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        importlib.import_module(f"bascule.cli.{verb}").add_parser(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 wrong usage."""
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.handler(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads, as `head` does, has enough
        # What is left must not fail once more when Python shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # what the user reads is the message, not our stack
        print(f"bascule {options.verb}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
