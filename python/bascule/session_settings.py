# SPDX-License-Identifier: Apache-2.0
"""Options of a session that are checked when it is made, or set on its programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bascule import global_threads
from bascule.errors import Fail, InvalidArgument
from bascule.native import _native, usable_cpus
from bascule.options import ExecutionMode, GraphOptimizationLevel, SessionOptions
from bascule.providers.names import CPU, CUDA

if TYPE_CHECKING:
    from bascule.providers.cpu.provider import CpuProvider

_AFFINITIES = "session.intra_op_thread_affinities"
_INTERVAL = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def check_options(options: SessionOptions) -> None:
    """Raise what options that do not go together, or ask for what there is not, raise."""
    options._cancellation.check()
    if options.log_severity_level != -1 and not 0 <= options.log_severity_level <= 4:
        raise RuntimeError(
            f"Invalid logging severity {options.log_severity_level}: expected 0 to 4"
        )
    global_threads.check_use(options.use_per_session_threads)
    config, target = options._config, options.optimized_model_filepath
    if config.get("session.load_model_format") == "ORT":
        raise Fail(
            "session.load_model_format is ORT, but models in onnxruntime's own format are not read",
            fix="load the .onnx model that it was made from",
        )
    if target and (config.get("session.save_model_format") == "ORT" or target.endswith(".ort")):
        raise Fail(
            f"The optimized model cannot be written to '{target}' in onnxruntime's own format",
            fix="save it as .onnx",
        )
    if _AFFINITIES in config:
        bind_threads(config[_AFFINITIES], thread_count(options))


def thread_count(options: SessionOptions) -> int:
    """How many threads a loop of the session may use."""
    wanted = global_threads.intra_op_threads(options.intra_op_num_threads)
    return wanted if wanted > 0 else usable_cpus()


def bind_threads(text: str, threads: int) -> None:
    """Bind the extra threads of loops to processors, such as ``1;2-3`` for three threads.

    Processors count from 1. The process has one pool: its first threads are bound for all sessions.

    Raises:
        RuntimeError: the text is malformed, or has not one entry for each thread but the caller's.
    """
    if not text:
        raise RuntimeError(f"{_AFFINITIES}: Affinity string must not be empty")
    if threads <= 1:
        return
    entries = [_processors(entry) for entry in text.removesuffix(";").split(";") if entry]
    if len(entries) != threads - 1:
        raise RuntimeError(
            f"{_AFFINITIES}: Number of affinities does not equal to thread_pool_size minus one, "
            f"affinities: {len(entries)}, thread_pool_size: {threads}"
        )
    _native.bind_workers(entries)


def _processors(entry: str) -> list[int]:
    found: list[int] = []
    for part in entry.split(","):
        match = _INTERVAL.fullmatch(part.strip())
        if match is None:
            raise RuntimeError(f"{_AFFINITIES}: Processor id must consist of only digits: '{part}'")
        first, last = int(match[1]), int(match[2] or match[1])
        if first < 1:
            raise RuntimeError(f"{_AFFINITIES}: Processor id must start from 1: '{part}'")
        if last < first:
            raise RuntimeError(f"{_AFFINITIES}: Invalid processor interval: '{part}'")
        if last - first > 4096:
            raise RuntimeError(f"{_AFFINITIES}: too many processors: '{part}'")
        found += range(first - 1, last)
    return found


def set_up_cpu(cpu: CpuProvider, options: SessionOptions) -> None:
    """How products and convolutions are computed, and whether their weights are packed."""

    def is_on(key: str) -> bool:
        return options._config.get(key, "0") == "1"

    cpu.winograd = not is_on("session.disable_winograd")
    cpu.float16_sums = is_on("session.float16_sums")
    cpu.product_parts = not is_on("session.disable_product_parts")
    cpu.packs_weights = not is_on("session.disable_prepacking")


def set_up_program(program: Any, options: SessionOptions) -> None:
    """Whether threads that wait for its work spin, and how it computes with denormal numbers."""
    if hasattr(program, "spins"):
        program.spins = options._config.get("session.intra_op.allow_spinning", "1") != "0"
    if hasattr(program, "flushes_denormals"):
        program.flushes_denormals = options._config.get("session.set_denormal_as_zero") == "1"


# --- options in the model


def reads_config(arguments: Any) -> bool:
    """Whether a session takes options from its model: by keyword, or by the environment."""
    if "read_config_from_model" in arguments:
        return int(arguments["read_config_from_model"]) == 1
    text = os.environ.get("ORT_LOAD_CONFIG_FROM_MODEL", "0")
    if text not in ("0", "1"):
        raise RuntimeError(
            "The only supported values for the environment variable ORT_LOAD_CONFIG_FROM_MODEL are "
            f"'0' and '1', not '{text}'"
        )
    return text == "1"


def take_config(options: SessionOptions, source: str | bytes) -> None:
    """Set what the metadata entry ``ort_config`` of the model says.

    Raises:
        RuntimeError: it is no JSON object, or has a value that an option cannot take.
    """
    # Imported here: few models carry options.
    from bascule.ir.load import load_model

    text = load_model(
        source, external_files=options._files, on_external_problem=lambda tensor, error: None
    ).metadata.get("ort_config")
    if text is None:
        return
    try:
        entries = json.loads(text).get("session_options", {})
        items = list(entries.items())
    except (ValueError, AttributeError) as error:
        raise RuntimeError(
            f"Json stored in the `ort_config` key cannot be parsed. Error message: {error}"
        ) from None
    for name, value in items:
        _take_option(options, name, value)


def _take_option(options: SessionOptions, name: str, value: Any) -> None:
    kinds: dict[str, Any] = {
        "intra_op_num_threads": int,
        "inter_op_num_threads": int,
        "execution_mode": ExecutionMode,
        "graph_optimization_level": GraphOptimizationLevel,
        "enable_profiling": lambda number: {0: False, 1: True}[number],
    }
    if name not in kinds:
        return
    if type(value) is not int:
        raise RuntimeError(f"{name} option in the model file must be an integer")
    try:
        if value < 0:
            raise ValueError
        setattr(options, name, kinds[name](value))
    except (ValueError, KeyError):
        raise RuntimeError(f"Unsupported {name} value in ORT config: {value}") from None


# --- the CPU


def names_cpu(providers: Sequence[Any] | None) -> bool:
    """Whether the caller lets nodes run on the CPU: by naming it, or by naming nothing."""
    if not isinstance(providers, Sequence) or not providers:
        return True
    names = [entry[0] if isinstance(entry, tuple) and entry else entry for entry in providers]
    return CPU in names or CUDA not in names


def refuse_cpu(providers: Sequence[Any] | None) -> None:
    """What session.disable_cpu_ep_fallback asks for where there is only the CPU."""
    if any(
        entry == CPU or (isinstance(entry, tuple) and CPU in entry) for entry in providers or ()
    ):
        raise InvalidArgument(
            f"Conflicting session configuration: {CPU} was named, but fallback to CPU EP has been "
            "explicitly disabled"
        )
    raise Fail(
        "This session has graph nodes assigned to the CPU, but fallback to CPU EP has been "
        "explicitly disabled by the user"
    )
