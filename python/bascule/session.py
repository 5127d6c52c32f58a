# SPDX-License-Identifier: Apache-2.0
"""InferenceSession: a compiled model that can be run, with onnxruntime's interface."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bascule.binding import IOBinding
from bascule.compiled import CompiledModel
from bascule.errors import EPFail, InvalidArgument
from bascule.feeds import Signature
from bascule.load_clock import LoadClock
from bascule.logging import log_of
from bascule.metadata import ModelMetadata, NodeArg
from bascule.options import RunOptions, SessionOptions
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.names import CPU, CUDA, resolve_providers
from bascule.session_devices import SessionDevices
from bascule.session_pickle import Picklable, file_stamp
from bascule.session_profile import Trace, name_apart
from bascule.session_providers import SessionProviders
from bascule.session_run_async import AsyncRuns
from bascule.session_settings import (
    check_options,
    names_cpu,
    reads_config,
    refuse_cpu,
    set_up_cpu,
    set_up_program,
    take_config,
    thread_count,
)
from bascule.session_trace import SessionTrace
from bascule.session_vectors import run_with_vectors
from bascule.tools.explain import Explanation
from bascule.values import OrtValue, run_with_values

if TYPE_CHECKING:
    from bascule.ir.constant import Constant
    from bascule.ir.graph import Model
    from bascule.plans.cache import PlanCache
    from bascule.providers.base import Provider
    from bascule.providers.cpu.provider import CpuProvider


_MOST_PATHS = 4
"""Programs that are kept for some of the outputs alone."""


class InferenceSession(AsyncRuns, SessionProviders, SessionDevices, SessionTrace, Picklable):
    """A model, loaded, optimized and compiled once, to be run many times.

    Args:
        path_or_bytes: the path of an .onnx file, or the bytes of one.
        sess_options: how to make the session; copied.
        providers: execution providers by falling preference, each a name or (name, options).
        provider_options: options per provider when `providers` holds plain names.
        **kwargs: ``disabled_optimizers`` names passes to leave out; ``enable_fallback=0`` makes a
            wrong provider argument an error; ``read_config_from_model`` takes options from the
            model's metadata entry ``ort_config``; unknown ones are ignored.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, InvalidArgument, NotImplemented, Fail: see
            bascule.errors; the message names the node, operator, input and shape.
        TypeError: `path_or_bytes` is neither a path nor bytes.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(path_or_bytes, (str, os.PathLike)):
            self._model_path: str | None = os.fspath(path_or_bytes)
            if not self._model_path:
                raise TypeError("incompatible constructor arguments: the path is empty")
            self._model_bytes = None
        elif isinstance(path_or_bytes, bytes):
            self._model_path = None
            self._model_bytes = path_or_bytes
        else:
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise TypeError(
                "incompatible constructor arguments: sess_options must be SessionOptions, not "
                f"{type(sess_options).__name__}"
            )
        self._options = sess_options.copy() if sess_options is not None else SessionOptions()
        self._sess_options_initial = sess_options
        if reads_config(kwargs):
            take_config(self._options, self._source)
        check_options(self._options)
        self._stamp = file_stamp(self._model_path) if self._model_path is not None else ()
        self._enable_fallback = int(kwargs.get("enable_fallback", 1)) == 1
        self._asked = (providers, provider_options)
        if self._options.has_providers():
            if providers:
                warnings.warn(
                    "Specified 'providers'/'provider_options' when creating InferenceSession but "
                    "SessionOptions has already been configured with providers. InferenceSession "
                    "will only use the providers passed to InferenceSession().",
                    stacklevel=2,
                )
            else:
                providers, provider_options = self._options.chosen_providers(), None
        self._resolved = resolve_providers(
            providers, provider_options, fallback=self._enable_fallback
        )
        self._may_use_cpu = names_cpu(providers)
        self._cuda: Any = None
        disabled = list(kwargs.get("disabled_optimizers") or ())
        disabled += self._config("optimization.disable_specified_optimizers", "").split(";")
        self._disabled = [name for name in disabled if name]
        if self._config("session.disable_cpu_ep_fallback", "0") == "1":
            if names_cpu(providers) or all(name == CPU for name, _ in self._resolved):
                refuse_cpu(providers)
            self._may_use_cpu = False
        self._trace = Trace(self._options.profile_file_prefix, self._options.enable_profiling)
        self._compile()
        self._trace.end_with(self)

    def _config(self, key: str, default: str) -> str:
        return str(self._options._config.get(key, default))

    def _make(
        self, trust_names: bool = True, record: bool = False, outputs: Sequence[str] | None = None
    ) -> tuple[CompiledModel, Model]:
        """Load and compile the model, or what some outputs need of it.

        The Model is what is left of it, optimized.
        """
        # Imported here: onnx is needed only where a model is parsed.
        from bascule.compiler import compile_model, level_of, selection_of, take_defaults
        from bascule.overrides import forget_names, keep_outputs, load_with

        clock = LoadClock(self._trace.is_on)
        model = load_with(self._source, self._options)
        clock.phase("load")
        self._external_files: list[str] | None = list(model.external_files)
        self._options._cancellation.check()
        if outputs is not None:
            keep_outputs(model, outputs)
        if not trust_names:
            forget_names(model)
        metadata = ModelMetadata.of(model)
        defaults = take_defaults(model)
        executors = self._executors(record)
        level = level_of(self._options.graph_optimization_level)
        chosen = selection_of(self._options, self._disabled)
        check = self._options._cancellation.check
        verify = defaults if self._config("session.verify_optimizer", "0") == "1" else None
        compiled = compile_model(model, executors, level, chosen, clock, check, verify)
        compiled.metadata = metadata
        compiled.defaults = defaults
        return compiled, model

    def _executors(self, record: bool) -> list[Provider]:
        """The providers that nodes are offered to, in order."""
        from bascule.providers.cpu.provider import CpuProvider

        cpu = CpuProvider(thread_count(self._options), record)
        set_up_cpu(cpu, self._options)
        cuda = dict(self._resolved).get(CUDA)
        if cuda is None:
            return [self._tuned(cpu)]
        if self._cuda is None:
            # Imported here: only sessions on a GPU need it.
            from bascule.providers.cuda.provider import make

            self._cuda = make(cuda, cpu, self._may_use_cpu)
        return [self._cuda, cpu] if self._may_use_cpu else [self._cuda]

    def _tuned(self, cpu: CpuProvider) -> CpuProvider:
        """The provider, which times the ways of computing a node if that is asked for."""
        seconds = self._config("session.autotune_seconds", "")
        file = self._config("session.autotune_file", "")
        if seconds or file:
            # Imported here: few sessions are tuned.
            from bascule.providers.cpu.tuning import tuner

            try:
                cpu.tuner = tuner(seconds, file, self._config("session.cache_dir", ""))
            except ValueError:
                raise InvalidArgument(
                    f"session.autotune_seconds is '{seconds}', which is no number of seconds"
                ) from None
        return cpu

    def _compile(self) -> None:
        self._external_files = None
        self._general: Any = None
        self._paths: dict[tuple[str, ...], Any] = {}
        self._general_lock = threading.Lock()
        compiled = self._compiled = self._planned() or self._make_first()
        self._trace.note_compiled(compiled)
        self._metadata = compiled.metadata
        self._defaults = compiled.defaults
        named = {d for v in compiled.inputs for d in v.shape or () if isinstance(d, str)}
        arguments = [NodeArg.of(v, named) for v in compiled.inputs]
        self._inputs_meta = [arg for arg in arguments if arg.name not in self._defaults]
        self._overridable = [arg for arg in arguments if arg.name in self._defaults]
        self._outputs_meta = [NodeArg.of(v, named) for v in compiled.outputs]
        self._signature = Signature(
            [(v.name, v.type) for v in compiled.inputs],
            [v.name for v in compiled.outputs],
            {name: constant.numpy() for name, constant in self._defaults.items()},
        )
        set_up_program(compiled.program, self._options)
        self._program: Any = compiled.program
        count, seconds = len(compiled.rows), sum(compiled.seconds.values())
        log_of(self._options, logging.INFO, "session of %d nodes in %.3f s", count, seconds)
        for name, changes in compiled.passes.items():
            log_of(self._options, logging.DEBUG, "pass %s: %d changes", name, changes)

    def _planned(self) -> CompiledModel | None:
        """What the plan cache holds of this session, if one is to be used."""
        self._cache: PlanCache | None = None
        if not self._config("session.cache_dir", ""):
            return None
        # Imported here: only sessions with a cache need it.
        from bascule.plans.cache import PlanCache

        self._cache = PlanCache(self._options, self._disabled, thread_count(self._options))
        if any(name != CPU for name, _ in self._resolved):
            self._cache.refuse("only sessions on the CPU alone are cached")
        if self._options.optimized_model_filepath:
            self._cache.refuse("the optimized model is to be saved")
        return self._cache.load(self._source)

    def _make_first(self) -> CompiledModel:
        """Compile the model, and keep what is asked for."""
        cache = self._cache if self._cache is not None and self._cache.is_used else None
        compiled, model = self._make(record=cache is not None)
        if self._options.optimized_model_filepath:
            self._save(model, compiled.defaults)
        if cache is not None:
            compiled = cache.store(self._source, compiled, model.external_files)
        self._trace.note_graph(model.graph, is_read=self._cuda is not None)
        return compiled

    @property
    def _source(self) -> str | bytes:
        source = self._model_path if self._model_path is not None else self._model_bytes
        assert source is not None
        return source

    def _save(self, model: Model, defaults: Mapping[str, Constant]) -> None:
        """Write the optimized model, its overridable initializers among the others again."""
        from bascule.ir.save import save_model
        from bascule.optimizer.fused import definition
        from bascule.overrides import with_defaults

        external = self._options._config.get(
            "session.optimized_model_external_initializers_file_name"
        )
        key = "session.optimized_model_external_initializers_min_size_in_bytes"
        threshold = self._config(key, "1024")
        if not threshold.isdecimal():
            raise InvalidArgument(f"{key} must be a number of bytes, not '{threshold}'")
        name_apart(model.graph, unnamed=False)  # runtimes refuse two nodes of one name
        with with_defaults(model, defaults):
            save_model(
                model,
                self._options.optimized_model_filepath,
                external_data=external,
                size_threshold=int(threshold),
                definitions=definition,
            )

    # --- running

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """Run the model once.

        Args:
            output_names: the outputs wanted, in order; None or [] for all in graph order.
            input_feed: by input name: arrays (NumPy, ml_dtypes, anything with ``__dlpack__`` or
                ``__array__``), nested lists, lists for sequences, dicts for maps. Element types
                are not converted.
            run_options: of this run.

        Returns:
            Fresh NumPy arrays that the caller owns (lists, dicts, None for other kinds).

        Raises:
            ValueError: a required input is missing.
            InvalidArgument: an unknown name, or a wrong type or shape.
            RuntimeError: a feed that is no tensor at all.
            Fail: an operator could not go on.
            TypeError: `run_options` is no RunOptions.

        Safe to call from several threads at once.
        """
        flag = None
        if run_options is not None:
            if not isinstance(run_options, RunOptions):
                raise TypeError(
                    "incompatible function arguments: run_options must be RunOptions, not "
                    f"{type(run_options).__name__}"
                )
            flag = run_options._flag
            run_options.check(self._cuda is not None)
            input_feed = run_options._with_adapters(input_feed)
            if run_options.log_severity_level in (0, 1):
                log_of(run_options, logging.INFO, "run of session '%s'", self._options.logid)
            if run_options.only_execute_path_to_fetches and output_names:
                return self._run_path(output_names, input_feed, flag)
        profiler = self._trace.profiler
        try:
            if type(input_feed) is dict:
                results = self._program.run_feeds(output_names, input_feed, flag, profiler)
                if results is not NotImplemented:
                    return results  # type: ignore[no-any-return]
            program, values, wanted = self._prepared(output_names, input_feed)
            results = program.run_values(values, wanted, flag, profiler)
        except EPFail as error:
            self._fall_back(error)
            return self.run(output_names, input_feed, run_options)
        except Exception as error:
            self._explain_error(error)
            raise
        self._trim(run_options)
        return results  # type: ignore[no-any-return]

    def _run_path(
        self, output_names: Sequence[str], feeds: Mapping[str, Any], flag: Any
    ) -> list[Any]:
        """Run only what these outputs need."""
        values, names = self._signature.values(feeds), self._signature.outputs
        numbers = sorted(set(self._signature.output_numbers(output_names)))
        needed = tuple(names[number] for number in numbers)
        wanted = [needed.index(name) for name in output_names]
        program = self._path_program(needed)
        try:
            results: list[Any] = program.run_values(values, wanted, flag, self._trace.profiler)
        except Exception as error:
            self._explain_error(error)
            raise
        return results

    def _explain_error(self, error: Exception) -> None:
        """Add to what a run raised where in the user's program the node comes from."""
        # Imported here: runs seldom fail.
        from bascule.error_sources import explain_run_error

        explain_run_error(error, self._compiled.rows)

    def _prepared(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]
    ) -> tuple[Any, list[Any], list[int]]:
        """The program for these feeds, an object for each of its inputs, and the output numbers."""
        values = self._signature.values(feeds)
        if self._cuda is None and any(isinstance(value, Tensor) for value in values):
            raise InvalidArgument(
                "An input is in GPU memory, but the session has only the CPU provider",
                fix=f"make the session with providers=['{CUDA}', '{CPU}']",
            )
        wanted = self._signature.output_numbers(output_names)
        program = self._program if self._signature.names_hold(values) else self._general_program()
        return program, values, wanted

    def _trim(self, run_options: RunOptions | None) -> None:
        """After a run, give device memory back if the options ask for it."""
        if self._cuda is None or run_options is None:
            return
        if f"gpu:{self._cuda.device.number}" in run_options._trimmed:
            self._cuda.trim()

    def _general_program(self) -> Any:
        """The model compiled without trust in the names of sizes.

        The optimizer takes sizes of one name to be equal. Exported models sometimes give one name
        to sizes that differ; the first such feed brings this second program about.
        """
        with self._general_lock:
            if self._general is None:
                program: Any = self._make(trust_names=False)[0].program
                set_up_program(program, self._options)
                self._general = program
            return self._general

    def _path_program(self, names: tuple[str, ...]) -> Any:
        """What computes these outputs and nothing else; the last few are kept."""
        with self._general_lock:
            program = self._paths.pop(names, None)
            if program is None:
                program = self._make(trust_names=False, outputs=names)[0].program
                set_up_program(program, self._options)
            self._paths[names] = program
            while len(self._paths) > _MOST_PATHS:
                del self._paths[next(iter(self._paths))]
            return program

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """Like `run`, with OrtValues in and out.

        `output_names` and `run_options` are as there, `input_dict_ort_values` is by input name.

        Raises:
            AttributeError: a feed is no OrtValue.
            Others: as `run` raises.
        """
        return run_with_values(self, output_names, input_dict_ort_values, run_options)

    def io_binding(self) -> IOBinding:
        """A new binding of inputs and outputs for run_with_iobinding."""
        return IOBinding(self)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Run with what is bound; the results are in the binding afterwards.

        Raises:
            ValueError: the binding belongs to another session.
            RuntimeError: the run failed, or no output is bound.
            TypeError: `run_options` is no RunOptions.
            AttributeError: `iobinding` is no IOBinding.
        """
        if not isinstance(iobinding, IOBinding):
            raise AttributeError(
                "incompatible function arguments: iobinding must be an IOBinding, not "
                f"{type(iobinding).__name__}"
            )
        if iobinding._session is not self:
            raise ValueError("an IOBinding must be used with the session that created it")
        iobinding._run(run_options)
        self._trim(run_options)

    def run_with_ortvaluevector(
        self,
        run_options: RunOptions,
        feed_names: Sequence[str],
        feeds: Any,
        fetch_names: Sequence[str],
        fetches: Any,
        fetch_devices: Sequence[Any],
    ) -> None:
        """Run, with `run_options`, on vectors of OrtValue: `feeds` for the inputs `feed_names`.

        The outputs `fetch_names` go to `fetches`, into its values if it has any; `fetch_devices`
        are not read.

        Raises:
            InvalidArgument: names and values differ in number, or one in `fetches` does not fit.
            TypeError: `run_options` is no RunOptions, or a value no OrtValue.
            Others: as `run` raises.
        """
        if not isinstance(run_options, RunOptions):
            raise TypeError("incompatible function arguments: run_options must be RunOptions")
        run_with_vectors(self, run_options, feed_names, feeds, fetch_names, fetches)

    # --- what the model is

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that must be fed, in graph order."""
        return [arg.copy() for arg in self._inputs_meta]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in graph order, with inferred shapes."""
        return [arg.copy() for arg in self._outputs_meta]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a default and may be fed by name."""
        return [arg.copy() for arg in self._overridable]

    def get_modelmeta(self) -> ModelMetadata:
        """What the model file says about itself."""
        return self._metadata

    def get_session_options(self) -> SessionOptions:
        """A copy of the options in effect."""
        return self._options.copy()

    # --- what happened

    def explain(self) -> Explanation:
        """Where each node runs, with which kernel, and why; print it or read its rows."""
        compiled = self._compiled
        note = self._cache.note if self._cache is not None else ""
        return Explanation(
            compiled.rows, compiled.seconds, compiled.passes, note, compiled.verification
        )

    def end_profiling(self) -> str:
        """Write the trace file and return its path; '' if profiling is off or has ended.

        A session that is dropped before, or outlives the process, writes it then.
        """
        return self._trace.end()

    def get_profiling_start_time_ns(self) -> int:
        """The clock at the start of profiling, in nanoseconds; 0 with profiling off."""
        return self._trace.started_ns
