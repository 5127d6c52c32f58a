# SPDX-License-Identifier: Apache-2.0
"""Arguments that every verb which makes a session takes."""

from __future__ import annotations

import argparse

from bascule.options import GraphOptimizationLevel, SessionOptions

LEVELS = {
    "disabled": GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t", "--threads", type=int, default=0, help="threads in an operator (default: all CPUs)"
    )
    parser.add_argument(
        "-O", "--level", choices=LEVELS, default="all", help="how far the graph is optimized"
    )
    parser.add_argument(
        "-d",
        "--dim",
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="fix a symbolic size of the inputs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def session_options(options: argparse.Namespace) -> SessionOptions:
    """The SessionOptions that the arguments ask for."""
    result = SessionOptions()
    result.intra_op_num_threads = options.threads
    result.graph_optimization_level = LEVELS[options.level]
    for name, size in dimensions(options).items():
        result.add_free_dimension_override_by_name(name, size)
    return result


def dimensions(options: argparse.Namespace) -> dict[str, int]:
    """The sizes given with --dim."""
    sizes = {}
    for item in options.dim:
        name, _, size = item.partition("=")
        if not size.isdigit():
            raise ValueError(f"--dim takes NAME=SIZE, not '{item}'")
        sizes[name] = int(size)
    return sizes
