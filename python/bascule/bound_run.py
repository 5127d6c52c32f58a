# SPDX-License-Identifier: Apache-2.0
"""Runs whose outputs are wanted in memory that the caller names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bascule.errors import InvalidArgument
from bascule.native import _native
from bascule.providers.cuda.targets import Wanted

if TYPE_CHECKING:
    from bascule.options import RunOptions
    from bascule.providers.cuda.replay import Replay
    from bascule.session import InferenceSession
    from bascule.values import Array


def run_to_device(
    session: InferenceSession,
    feeds: Mapping[str, Any],
    targets: Mapping[str, Wanted],
    run_options: RunOptions | None,
    waits: bool = True,
) -> tuple[list[Any], Replay | None]:
    """Run with outputs of which some stay on the GPU.

    `targets` says where each output is wanted. Returns Tensors and arrays, and a Replay if the same
    run can be had again by it.
    """
    if session._cuda is None:
        raise InvalidArgument(
            "An output is bound to GPU memory, but the session has only the CPU provider"
        )
    program, values, numbers = session._prepared(list(targets), feeds)
    wanted = dict(zip(numbers, targets.values()))
    try:
        found: tuple[list[Any], Replay | None] = program.run_bound(
            values, wanted, _flag(run_options), session._trace.profiler, waits
        )
    except Exception as error:
        session._explain_error(error)
        raise
    return found


def run_to_host(
    session: InferenceSession,
    feeds: Mapping[str, Any],
    targets: Mapping[str, Array | None],
    run_options: RunOptions | None,
) -> list[Any]:
    """Run with outputs in the arrays of `targets`, or in memory of their own where it has None.

    Raises:
        RuntimeError: an array has no room for its output, or is of another type.
    """
    program, values, numbers = session._prepared(list(targets), feeds)
    flag, profiler = _flag(run_options), session._trace.profiler
    try:
        if isinstance(program, _native.Runner):  # which can compute in the memory of the arrays
            found = program.run_into(values, numbers, list(targets.values()), flag, profiler)
        else:
            found = program.run_values(values, numbers, flag, profiler)
    except Exception as error:
        session._explain_error(error)
        raise
    return [
        made if target is None else target if made is None else write_into(name, target, made)
        for (name, target), made in zip(targets.items(), found)
    ]


def _flag(run_options: RunOptions | None) -> Any:
    return None if run_options is None else run_options._flag


def write_into(name: str, target: Array, result: Array) -> Array:
    """An output in the host memory that is bound to it."""
    if target.nbytes < result.nbytes or target.dtype != result.dtype:
        raise RuntimeError(
            f"the buffer of output '{name}' is {target.dtype}{list(target.shape)}, expected room "
            f"for {result.dtype}{list(result.shape)}"
        )
    if not target.flags.c_contiguous:  # reshaped it would be a copy, to which nothing must go
        target.flat[: result.size] = result.reshape(-1)
        return target if target.shape == result.shape else result
    flat = target.reshape(-1)[: result.size]
    flat[:] = result.reshape(-1)
    written: Array = flat.reshape(result.shape)
    return written
