# SPDX-License-Identifier: Apache-2.0
"""Arguments that every verb which makes a session takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bascule.options import GraphOptimizationLevel, SessionOptions

if TYPE_CHECKING:
    from bascule.ir.graph import Value
    from bascule.session import InferenceSession

LEVELS = {
    "disabled": GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """Threads, optimization level, sizes, and the form of what is printed."""
    parser.add_argument(
        "-t", "--threads", type=_count, default=0, help="threads in an operator (default: all CPUs)"
    )
    parser.add_argument(
        "-O", "--level", choices=LEVELS, default="all", help="how far the graph is optimized"
    )
    add_operators_argument(parser)
    add_model_arguments(parser)


def add_operators_argument(parser: argparse.ArgumentParser) -> None:
    """Libraries of operators."""
    parser.add_argument(
        "--operators",
        action="append",
        default=[],
        metavar="LIBRARY",
        help="a library of operators that the model may call",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes, and the form of what is printed."""
    parser.add_argument(
        "-d",
        "--dim",
        action="append",
        type=_dimension,
        default=[],
        metavar="NAME=SIZE",
        help="fix a symbolic size of the inputs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def make_session(options: argparse.Namespace) -> InferenceSession:
    """A session of `options.model` as the arguments ask for it.

    Raises:
        ValueError: --dim names a size that the model does not have.
    """
    from bascule.session import InferenceSession

    if options.dim:
        from bascule.ir.load import load_model

        check_dimensions(dimensions(options), load_model(options.model).graph.inputs)
    return InferenceSession(options.model, session_options(options))


def session_options(options: argparse.Namespace) -> SessionOptions:
    """The SessionOptions that the arguments ask for."""
    result = SessionOptions()
    result.intra_op_num_threads = options.threads
    result.graph_optimization_level = LEVELS[options.level]
    for library in options.operators:
        result.register_custom_ops_library(library)
    for name, size in dimensions(options).items():
        result.add_free_dimension_override_by_name(name, size)
    return result


def dimensions(options: argparse.Namespace) -> dict[str, int]:
    """The sizes given with --dim."""
    return dict(options.dim)


def check_dimensions(sizes: Mapping[str, int], inputs: Iterable[Value]) -> None:
    """Refuse sizes that no input has.

    Raises:
        ValueError: a name is none of the symbolic sizes; the message lists them.
    """
    known = {dim for value in inputs for dim in value.shape or () if isinstance(dim, str)}
    for name in sizes:
        if name not in known:
            raise ValueError(
                f"--dim: no input has a size called '{name}'; symbolic sizes of this model: "
                f"{', '.join(sorted(known)) or 'none'}"
            )


def _dimension(text: str) -> tuple[str, int]:
    name, _, size = text.rpartition("=")
    if not name or not size.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=SIZE")
    return name, int(size)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 on")
    return int(text)
