# SPDX-License-Identifier: Apache-2.0
"""Arguments that several verbs take, each declared here once."""

from __future__ import annotations

import argparse
import sys
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
    """Providers, threads, optimization level, sizes, and the form of what is printed."""
    parser.add_argument(
        "--provider",
        action="append",
        type=_provider,
        metavar="NAME",
        help="execution provider (cpu, cuda or its full name), in order",
    )
    parser.add_argument(
        "-t", "--threads", type=count, default=0, help="threads in an operator (default: all CPUs)"
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
    add_json_argument(parser)


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """The form of what is printed."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_input_arguments(parser: argparse.ArgumentParser, use: str = "") -> None:
    """Files of inputs, which `read_feeds` reads, and the seed of others; `use` says what for."""
    parser.add_argument(
        "-i",
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help=f"{use}.npy, .npz, .json or an image; inputs without one are random",
    )
    parser.add_argument("--seed", type=count, default=0, help="of random inputs")


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """Where weights are written."""
    parser.add_argument(
        "--external-data",
        nargs="?",
        const=True,
        metavar="NAME",
        help="put weights into a file beside the model, FILE.data or the one of this name",
    )
    parser.add_argument("--inline", action="store_true", help="put all weights into the model")


def excludes(options: argparse.Namespace, *names: str) -> bool:
    """Whether more than one of these was given; if so, tells that they exclude each other."""
    given = [name for name in names if getattr(options, name.strip("-").replace("-", "_"))]
    if len(given) > 1:
        text = f"bascule {options.verb}: {' and '.join(given)} exclude each other"
        print(text, file=sys.stderr)
    return len(given) > 1


def external_data(options: argparse.Namespace) -> bool | str | None:
    """Where weights are to be written: False inside, True or a name outside, None as they were."""
    found: bool | str | None = False if options.inline else options.external_data
    return found


def make_session(options: argparse.Namespace) -> InferenceSession:
    """A session of `options.model` as the arguments ask for it.

    Raises:
        ValueError: --dim names a size that the model does not have, or --provider what is not
            available.
    """
    from bascule.session import InferenceSession

    if options.dim:
        from bascule.ir.load import load_model

        check_dimensions(dimensions(options), load_model(options.model).graph.inputs)
    return InferenceSession(options.model, session_options(options), providers(options))


def providers(options: argparse.Namespace) -> list[str] | None:
    """The names given with --provider, or None: sessions then choose.

    Raises:
        ValueError: one of them is not available here.
    """
    from bascule.providers.names import CUDA, available_providers

    chosen: list[str] | None = options.provider
    available = available_providers()
    for name in chosen or ():
        if name not in available:
            hint = _why_no_gpu() if name == CUDA else ""
            raise ValueError(
                f"--provider: {name} is not available here, there are {', '.join(available)}{hint}"
            )
    return chosen


def _why_no_gpu() -> str:
    """What a session would say, and what says more."""
    # Imported here: most runs are on the CPU, or on a GPU that is there.
    from bascule.errors import EngineError
    from bascule.providers.cuda.cupy_device import CupyDevice

    hint = "`bascule doctor -p cuda` tells what is missing"
    try:
        CupyDevice()
    except EngineError as error:
        return f": {str(error).split(' : ', 3)[-1]}; {hint}"
    return f"; {hint}"


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


def _provider(text: str) -> str:
    short = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    return short.get(text.lower(), text)


def count(text: str) -> int:
    """A whole number from 0 on, as argparse wants it."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 on")
    return int(text)
