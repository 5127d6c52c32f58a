# SPDX-License-Identifier: Apache-2.0
"""Options of sessions and of single runs, with onnxruntime's names."""

from __future__ import annotations

import contextlib
import copy
import enum
import operator
import os
from typing import Any, ClassVar

from bascule.errors import Fail
from bascule.native import _native
from bascule.values import OrtValue


class _Enum(enum.IntEnum):
    """Prints as its qualified name, also on Python versions that would print the number."""

    __str__ = enum.Enum.__str__


class GraphOptimizationLevel(_Enum):
    """How far the graph is rewritten before it is compiled."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(_Enum):
    """Whether independent nodes may run at the same time."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(_Enum):
    """The order in which nodes are scheduled."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


def _check(name: str, value: Any, kind: type) -> Any:
    """`value` as `kind`, else TypeError. Any integer object is an int; an enum member is not."""
    if kind in (int, bool) and not isinstance(value, (bool, enum.Enum)):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
            if kind is int or number in (0, 1):
                return kind(number)
    wrong_int = kind is int and isinstance(value, (bool, enum.Enum))
    if wrong_int or not isinstance(value, kind):
        raise TypeError(
            f"incompatible function arguments: {name} must be {kind.__name__}, "
            f"not {type(value).__name__} {value!r}"
        )
    return value


class _Typed:
    """A plain attribute holder: known names only, each of one type."""

    _fields: ClassVar[dict[str, tuple[type, Any]]] = {}

    def __init__(self) -> None:
        for name, (_, default) in self._fields.items():
            object.__setattr__(self, name, default)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fields:
            value = _check(name, value, self._fields[name][0])
        elif name not in self.__dict__ and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        object.__setattr__(self, name, value)


class SessionOptions(_Typed):
    """How a session is made. A session copies it, so one may serve many sessions.

    `intra_op_num_threads` 0 means one thread per usable CPU. Flags for memory are hints.

    Config entries of our own:
        session.cache_dir: a folder for compiled plans. The first session on a model writes its plan
            there (the optimized graph and the packed weights, in one file); later ones, in any
            process, map that file and start in milliseconds, sharing its memory. Only for sessions
            on the CPU alone. What became of the plan is told by `session.explain().plan_cache`; a
            folder that cannot be used is a warning, never an error. See docs/plan_cache.md.
        session.cache_max_bytes: what all plans of the folder may take, by default 16 GiB; the
            least recently used ones go first.
        session.autotune_seconds, session.autotune_file: see docs/autotune.md.
        session.disable_winograd: "1" computes 3x3 convolutions by their definition, without
            Winograd's transformation, whose error is about 1e-5 of the largest result.
        session.float16_sums: "1" lets products of float16 with constant weights add up 32 products
            in float16 before they go to float32, where the processor computes in float16
            (AVX512-FP16): faster, within 2e-3 of the largest result. See docs/half_precision.md.
    """

    _fields: ClassVar[dict[str, tuple[type, Any]]] = {
        "graph_optimization_level": (
            GraphOptimizationLevel,
            GraphOptimizationLevel.ORT_ENABLE_ALL,
        ),
        "intra_op_num_threads": (int, 0),
        "inter_op_num_threads": (int, 0),
        "execution_mode": (ExecutionMode, ExecutionMode.ORT_SEQUENTIAL),
        "execution_order": (ExecutionOrder, ExecutionOrder.DEFAULT),
        "log_severity_level": (int, -1),
        "log_verbosity_level": (int, 0),
        "logid": (str, ""),
        "enable_profiling": (bool, False),
        "profile_file_prefix": (str, "onnxruntime_profile_"),
        "optimized_model_filepath": (str, ""),
        "enable_mem_pattern": (bool, True),
        "enable_mem_reuse": (bool, True),
        "enable_cpu_mem_arena": (bool, True),
        "use_deterministic_compute": (bool, False),
        "use_per_session_threads": (bool, True),
    }

    graph_optimization_level: GraphOptimizationLevel
    intra_op_num_threads: int
    inter_op_num_threads: int
    execution_mode: ExecutionMode
    execution_order: ExecutionOrder
    log_severity_level: int
    log_verbosity_level: int
    logid: str
    enable_profiling: bool
    profile_file_prefix: str
    optimized_model_filepath: str
    enable_mem_pattern: bool
    enable_mem_reuse: bool
    enable_cpu_mem_arena: bool
    use_deterministic_compute: bool
    use_per_session_threads: bool

    _config: dict[str, str]
    _dimensions: dict[str, int]
    _denotations: dict[str, int]
    _initializers: dict[str, OrtValue]
    _files: dict[str, memoryview]

    def __init__(self) -> None:
        super().__init__()
        for name in ("_config", "_dimensions", "_denotations", "_initializers", "_files"):
            object.__setattr__(self, name, {})

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Store a string under a string; the last write wins. Unknown keys are kept unread."""
        _check("key", key, str)
        _check("value", value, str)
        if not key or len(key) > 1024 or len(value) > 1024:
            raise RuntimeError("a config key or value is empty or longer than 1024 characters")
        self._config[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """The string under `key`; RuntimeError when it was never set."""
        if key not in self._config:
            raise RuntimeError(f"SessionOptions does not have configuration with key: {key}")
        return str(self._config[key])

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fix the symbolic size `name` of the inputs before anything is optimized."""
        self._dimensions[_check("name", name, str)] = _check("size", size, int)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Fix the sizes of the inputs that the model file denotes so, such as ``DATA_BATCH``."""
        self._denotations[_check("denotation", denotation, str)] = _check("size", size, int)

    def add_initializer(self, name: str, value: Any) -> None:
        """Replace the initializer `name` by an OrtValue, which is kept alive."""
        if not isinstance(value, OrtValue):
            raise RuntimeError(f"the value for initializer '{name}' must be an OrtValue")
        self._initializers[_check("name", name, str)] = value

    def add_external_initializers(self, names: list[str], values: list[OrtValue]) -> None:
        """Give initializers values, which are kept alive, instead of those of the model.

        Raises:
            RuntimeError: the lists differ in length, or an item is no OrtValue.
        """
        if len(names) != len(values):
            raise RuntimeError(f"{len(names)} names for {len(values)} initializers")
        for name, value in zip(names, values):
            self.add_initializer(name, value)

    def add_external_initializers_from_files_in_memory(
        self, names: list[str], buffers: list[bytes], lengths: list[int]
    ) -> None:
        """Contents of external data files, by the location that is written in the model.

        Raises:
            RuntimeError: the lists differ in length, or a buffer is shorter than its length.
        """
        if not len(names) == len(buffers) == len(lengths):
            raise RuntimeError("names, buffers and lengths must have the same length")
        for name, buffer, length in zip(names, buffers, lengths):
            if len(buffer) < length:
                raise RuntimeError(f"the buffer for '{name}' has {len(buffer)} bytes, not {length}")
            self._files[name] = memoryview(buffer).cast("B")[:length]

    def register_custom_ops_library(self, path: str) -> None:
        """Refused: operators of shared libraries need another runtime's binary interface.

        Raises:
            Fail: always; the message says whether the file exists.
        """
        if not os.path.isfile(_check("path", path, str)):
            raise Fail(f"Failed to load library {path}: the file does not exist")
        raise Fail(
            f"Failed to load library {path}: custom operator libraries are not supported",
            fix="express the operator as an ONNX function in the model",
        )

    def copy(self) -> SessionOptions:
        """An independent copy."""
        duplicate = SessionOptions()
        for key, value in self.__dict__.items():
            duplicate.__dict__[key] = copy.copy(value)
        return duplicate

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle 'SessionOptions' object")


class RunOptions(_Typed):
    """Options of one run. Setting `terminate` stops the runs that were given this object."""

    _fields: ClassVar[dict[str, tuple[type, Any]]] = {
        "log_severity_level": (int, -1),
        "log_verbosity_level": (int, 0),
        "logid": (str, ""),
        "only_execute_path_to_fetches": (bool, False),
    }

    log_severity_level: int
    log_verbosity_level: int
    logid: str
    only_execute_path_to_fetches: bool

    _config: dict[str, str]
    _flag: Any

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_config", {})
        object.__setattr__(self, "_flag", _native.TerminateFlag())

    @property
    def terminate(self) -> bool:
        """Whether runs with this object stop, from any thread; they raise Fail."""
        return bool(self._flag.value)

    @terminate.setter
    def terminate(self, value: bool) -> None:
        self._flag.value = _check("terminate", value, bool)

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Store a string under a string; unknown keys are kept unread."""
        self._config[_check("key", key, str)] = _check("value", value, str)

    def get_run_config_entry(self, key: str) -> str:
        """The string under `key`; RuntimeError when it was never set."""
        if key not in self._config:
            raise RuntimeError(f"RunOptions does not have configuration with key: {key}")
        return str(self._config[key])

    @property
    def _trimmed(self) -> list[str]:
        """The devices whose memory is given back after a run: ``gpu:0``."""
        return self._config.get("memory.enable_memory_arena_shrinkage", "").split(";")

    @property
    def _waits(self) -> bool:
        """Whether a run with outputs on a GPU returns only when they are complete."""
        return self._config.get("disable_synchronize_execution_providers") != "1"
