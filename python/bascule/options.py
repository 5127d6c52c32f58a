# SPDX-License-Identifier: Apache-2.0
"""Options of sessions and of single runs, with onnxruntime's names."""

from __future__ import annotations

import contextlib
import copy
import enum
import operator
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from bascule.errors import Fail, InvalidArgument
from bascule.load_cancellation import LoadCancellation
from bascule.named_enum import NamedEnum
from bascule.native import _native
from bascule.provider_choice import ProviderChoice
from bascule.values import OrtValue

if TYPE_CHECKING:
    from bascule.operator_libraries import OperatorLibrary


class GraphOptimizationLevel(NamedEnum):
    """How far the graph is rewritten before it is compiled.

    Attributes:
        ORT_DISABLE_ALL: not at all: nodes run as the model says it.
        ORT_ENABLE_BASIC: constants are folded, what has no effect is left out.
        ORT_ENABLE_EXTENDED: and nodes are fused.
        ORT_ENABLE_LAYOUT: and images are computed channels-last; the same as ORT_ENABLE_ALL.
        ORT_ENABLE_ALL: everything, the default.
    """

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(NamedEnum):
    """Whether independent nodes may run at the same time; accepted, nodes run in order in any case.

    Attributes:
        ORT_SEQUENTIAL: one after the other.
        ORT_PARALLEL: at the same time.
    """

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(NamedEnum):
    """The order in which nodes are scheduled; accepted, the order is the graph's in any case.

    Attributes:
        DEFAULT: the graph's.
        PRIORITY_BASED: by priority.
        MEMORY_EFFICIENT: by memory.
    """

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


def _check(name: str, value: Any, kind: type) -> Any:
    """`value` as `kind`, else TypeError. Any integer object is an int, but no enum member."""
    if kind in (int, bool) and not isinstance(value, enum.Enum):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
            if kind is int or number in (0, 1):
                return kind(number)
    wrong_int = kind is int and isinstance(value, enum.Enum)
    if wrong_int or not isinstance(value, kind):
        raise TypeError(
            f"incompatible function arguments: {name} must be {kind.__name__}, "
            f"not {type(value).__name__} {value!r}"
        )
    return value


def _check_entry(key: str, value: str) -> None:
    if not key or len(key) > 1024:
        raise RuntimeError("Config key is empty or longer than maximum length 1024")
    if len(value) > 8192:
        raise RuntimeError("Config value is longer than maximum length: 8192")


class _Typed:
    """A plain attribute holder: known names only, each of one type."""

    _fields: ClassVar[dict[str, tuple[type, Any]]] = {}

    def __init__(self) -> None:
        for name, (_, default) in self._fields.items():
            object.__setattr__(self, name, default)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fields:
            value = _check(name, value, self._fields[name][0])
            if type(value) is int and not -(1 << 31) <= value < 1 << 31:
                raise TypeError(
                    f"incompatible function arguments: {name} must fit 32 bits, not {value}"
                )
        elif name not in self.__dict__ and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        object.__setattr__(self, name, value)


class SessionOptions(_Typed, ProviderChoice):
    """How a session is made. A session copies it, so one may serve many sessions.

    An attribute that does not exist, or is of another type, is an AttributeError or TypeError.

    Attributes:
        graph_optimization_level: how far the graph is rewritten (default ORT_ENABLE_ALL).
        intra_op_num_threads: the threads of a node (default 0: one for each processor that the
            process may use, quotas of containers included).
        inter_op_num_threads: accepted (default 0): nodes run one after the other.
        execution_mode: accepted (default ORT_SEQUENTIAL): nodes run one after the other.
        execution_order: accepted (default DEFAULT): the order is the graph's.
        log_severity_level: of the session's records, 0 verbose to 4 fatal (default -1: that of
            set_default_logger_severity).
        log_verbosity_level: accepted (default 0).
        logid: stands in the session's records (default empty).
        enable_profiling: whether runs are recorded for `end_profiling` (default False).
        profile_file_prefix: what the name of that file begins with (default
            ``onnxruntime_profile_``), before the time and a number.
        optimized_model_filepath: where to write the optimized model (default empty: nowhere).
        enable_mem_pattern: accepted (default True): memory is planned in any case.
        enable_mem_reuse: accepted (default True): memory is planned in any case.
        enable_cpu_mem_arena: accepted (default True): memory is planned in any case.
        use_deterministic_compute: accepted (default False): results are the same every time.
        use_per_session_threads: False takes the number of set_global_thread_pool_sizes, which must
            have been called (default True).

    Config entries of our own, strings under strings (the reference has all that are read):

    - ``session.cache_dir``: a folder for compiled plans (docs/plan_cache.md).
    - ``session.cache_max_bytes``: what they may take, by default 16 GiB.
    - ``session.autotune_seconds``, ``session.autotune_file``: see docs/autotune.md.
    - ``session.verify_optimizer``: ``1`` checks each rewrite of the optimizer as it is applied
      (docs/find_out_why.md).
    - ``session.disable_winograd``: ``1`` computes 3x3 convolutions by their definition.
    - ``session.float16_sums``: ``1`` adds products of float16 in float16 (docs/half_precision.md).
    - ``session.disable_product_parts``: ``1`` multiplies float32 numbers as they are on processors
      with AMX, too (docs/product_parts.md).
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
    _libraries: list[OperatorLibrary]
    _cancellation: LoadCancellation

    def __init__(self) -> None:
        super().__init__()
        for name in ("_config", "_dimensions", "_denotations", "_initializers", "_files"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "_libraries", [])
        object.__setattr__(self, "_providers", {})
        object.__setattr__(self, "_policy", None)
        object.__setattr__(self, "_context_reader", None)
        object.__setattr__(self, "_cancellation", LoadCancellation())

    def set_load_cancellation_flag(self, value: bool) -> None:
        """Whether loads with these options stop, also those under way in other threads.

        They raise ModelLoadCanceled; this raises TypeError for what is no bool.
        """
        self._cancellation.requested = _check("value", value, bool)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Store a string under a string; the last write wins. Unknown keys are kept unread.

        Raises:
            TypeError: one is no str.
            RuntimeError: the key is empty or longer than 1,024 characters, or the value than 8,192.
        """
        _check("key", key, str)
        _check("value", value, str)
        _check_entry(key, value)
        self._config[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """The string under `key`; RuntimeError when it was never set."""
        if key not in self._config:
            raise RuntimeError(f"SessionOptions does not have configuration with key: {key}")
        return str(self._config[key])

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fix the symbolic size `name` of the inputs; TypeError for other types."""
        self._dimensions[_check("name", name, str)] = _check("size", size, int)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Fix sizes that the model denotes so, as ``DATA_BATCH``; TypeError for other types."""
        self._denotations[_check("denotation", denotation, str)] = _check("size", size, int)

    def add_initializer(self, name: str, value: Any) -> None:
        """Replace the initializer `name` by an OrtValue, which is kept alive.

        Raises:
            RuntimeError: `value` is no OrtValue, or the name has one already.
            TypeError: `name` is no str.
        """
        if not isinstance(value, OrtValue):
            raise RuntimeError(f"the value for initializer '{name}' must be an OrtValue")
        if _check("name", name, str) in self._initializers:
            raise RuntimeError(f"An OrtValue for this name has already been added: {name}")
        self._initializers[name] = value

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
        """Contents of external data files, instead of those in the model's folder.

        Args:
            names: of the files: the locations that are written in the model.
            buffers: their contents, kept alive: bytes, or arrays without gaps.
            lengths: bytes of each that count.

        Raises:
            RuntimeError: the lists differ in length, or a buffer is shorter than its length.
        """
        if not len(names) == len(buffers) == len(lengths):
            raise RuntimeError("names, buffers and lengths must have the same length")
        for name, buffer, length in zip(names, buffers, lengths):
            contents = memoryview(buffer)
            if contents.nbytes < length:
                raise RuntimeError(
                    f"the buffer for '{name}' has {contents.nbytes} bytes, not {length}"
                )
            self._files[name] = contents.cast("B")[:length]

    def register_custom_ops_library(self, path: str) -> None:
        """Let the sessions made with these options call the operators of a library.

        Libraries are built with ``bascule/operator.h`` (docs/custom_operators.md), not against
        onnxruntime's C interface for custom operators. Other sessions do not see them; see
        bascule.load_operators for all of the process.

        Raises:
            Fail: the file does not exist or is no such library, or another of the libraries has an
                operator of the same name and version.
            InvalidArgument: the domain of an operator is one of the standard.
            TypeError: `path` is no str.
        """
        # Imported here: few sessions have libraries.
        from bascule.operator_libraries import with_library

        self._libraries = with_library(self._libraries, _check("path", path, str))

    def copy(self) -> SessionOptions:
        """An independent copy."""
        duplicate = SessionOptions()
        for key, value in self.__dict__.items():
            duplicate.__dict__[key] = copy.copy(value)
        return duplicate

    def __copy__(self) -> SessionOptions:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> SessionOptions:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        values = {name: value.numpy() for name, value in self._initializers.items()}
        files = {name: bytes(data) for name, data in self._files.items()}
        return {
            **self.__dict__,
            "_initializers": values,
            "_files": files,
            "_cancellation": self._cancellation.requested,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__["_initializers"] = {k: OrtValue(v) for k, v in state["_initializers"].items()}
        self.__dict__["_files"] = {k: memoryview(v) for k, v in state["_files"].items()}
        self.__dict__["_cancellation"] = LoadCancellation(state["_cancellation"])


class RunOptions(_Typed):
    """Options of one run. Setting `terminate` stops the runs that were given this object.

    Attributes:
        log_severity_level: of the run's records, 0 verbose to 4 fatal (default -1: that of
            set_default_logger_severity).
        log_verbosity_level: accepted (default 0).
        logid: stands in the run's records (default empty).
        only_execute_path_to_fetches: whether nodes that the wanted outputs do not need are left out
            (default False); the first run for some outputs compiles the model for them.
    """

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
    _adapters: list[Any]
    _followers: weakref.WeakSet[RunOptions]
    _lock: threading.Lock

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_config", {})
        object.__setattr__(self, "_flag", _native.TerminateFlag())
        object.__setattr__(self, "_adapters", [])
        object.__setattr__(self, "_followers", weakref.WeakSet())
        object.__setattr__(self, "_lock", threading.Lock())

    @property
    def terminate(self) -> bool:
        """Whether runs with this object stop, from any thread; they raise Fail."""
        return bool(self._flag.value)

    @terminate.setter
    def terminate(self, value: bool) -> None:
        with self._lock:
            self._flag.value = _check("terminate", value, bool)
            for follower in self._followers:
                follower.terminate = value

    def follower(self) -> RunOptions:
        """Equal options with a flag of their own, which is set with that of these, too."""
        made = RunOptions()
        for name in self._fields:
            setattr(made, name, getattr(self, name))
        made._config.update(self._config)
        made._adapters.extend(self._adapters)
        with self._lock:
            self._followers.add(made)
            made._flag.value = self._flag.value
        return made

    def check(self, has_gpu: bool) -> None:
        """Raise what a run with these options raises in a session on a GPU, or on the CPU alone.

        Raises:
            Fail: the severity of logging is none.
            InvalidArgument: a config entry that is read has no meaning there.
        """
        if self.log_severity_level != -1 and not 0 <= self.log_severity_level <= 4:
            raise Fail(f"Invalid logging severity {self.log_severity_level}: expected 0 to 4")
        if not self._config:
            return
        for device in filter(None, self._trimmed):
            kind, _, number = device.partition(":")
            if kind not in ("cpu", "gpu"):
                raise InvalidArgument(
                    f"Unsupported device specified in the memory arena shrink list: {device}"
                )
            if (
                not number.isdigit()
                or (kind == "cpu" and number != "0")
                or (kind == "gpu" and not has_gpu)
            ):
                raise InvalidArgument(
                    "Did not find an arena based allocator registered for device-id combination in "
                    f"the memory arena shrink list: {device}"
                )
        number = self._config.get("gpu_graph_id", "0")
        if not number.removeprefix("-").isdigit():
            raise InvalidArgument(f"Failed to parse the cuda graph annotation id: {number}")

    def add_active_adapter(self, adapter: Any) -> None:
        """Feed the tensors of a LoraAdapter to the inputs of the same name in each run.

        Raises:
            TypeError: `adapter` is no LoraAdapter.
        """
        from bascule.adapters import LoraAdapter  # imported here: few runs have adapters

        if not isinstance(adapter, LoraAdapter):
            raise TypeError(
                "incompatible function arguments: adapter must be a LoraAdapter, not "
                f"{type(adapter).__name__}"
            )
        self._adapters.append(adapter)

    def _with_adapters(self, feeds: Any) -> Any:
        """`feeds`, and what the active adapters feed."""
        if not self._adapters:
            return feeds
        added: dict[str, Any] = {}
        for adapter in self._adapters:
            added.update(adapter._parameters)
        return {**feeds, **added}

    def __copy__(self) -> RunOptions:
        made = self.follower()
        with self._lock:
            self._followers.discard(made)
        return made

    def __deepcopy__(self, memo: Any) -> RunOptions:
        return self.__copy__()

    def __getstate__(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self._fields}
        return {
            "fields": fields,
            "config": dict(self._config),
            "terminate": self.terminate,
            "adapters": list(self._adapters),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.__dict__.update(state["fields"])
        self._config.update(state["config"])
        self._adapters.extend(state["adapters"])
        self.terminate = state["terminate"]

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Store a string under a string; the last write wins. Unknown keys are kept unread.

        Known are ``memory.enable_memory_arena_shrinkage`` (devices whose free memory is given back
        after the run, as ``gpu:0``), ``disable_synchronize_execution_providers`` (``1``: a run with
        outputs on a GPU does not wait for them) and ``gpu_graph_id``, which is only checked.

        Raises:
            TypeError: one is no str.
            RuntimeError: the key is empty or longer than 1,024 characters, or the value than 8,192.
        """
        _check("key", key, str)
        _check("value", value, str)
        _check_entry(key, value)
        self._config[key] = value

    def get_run_config_entry(self, key: str) -> str:
        """The string under `key`; RuntimeError when it was never set."""
        if key not in self._config:
            raise RuntimeError(f"RunOptions does not have configuration with key: {key}")
        return str(self._config[key])

    @property
    def _trimmed(self) -> list[str]:
        """The devices whose memory is given back after a run: ``gpu:0``, in short ``gpu``."""
        devices = self._config.get("memory.enable_memory_arena_shrinkage", "").split(";")
        return [f"{device}:0" if device in ("cpu", "gpu") else device for device in devices]

    @property
    def _waits(self) -> bool:
        """Whether a run with outputs on a GPU returns only when they are complete."""
        return self._config.get("disable_synchronize_execution_providers") != "1"
