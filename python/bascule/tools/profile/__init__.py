# SPDX-License-Identifier: Apache-2.0
"""Where the time of a model goes: loading, optimizer passes, kernels, copies and memory."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from bascule.errors import InvalidArgument
from bascule.native import _native
from bascule.options import SessionOptions
from bascule.providers.names import CPU, CUDA
from bascule.session import InferenceSession
from bascule.session_settings import thread_count
from bascule.tools.profile.collect import Timings, timings, top_level_runs
from bascule.tools.profile.costs import VIEWS, Cost, costs_of
from bascule.tools.profile.peaks import Peaks, measure
from bascule.tools.profile.result import (
    GroupProfile,
    Memory,
    NodeProfile,
    PassProfile,
    Profile,
    median,
)

if TYPE_CHECKING:
    import onnx

    from bascule.compiled import NodeRow
    from bascule.model import Model
    from bascule.session_profile import Loaded, Recording

__all__ = ["GroupProfile", "Memory", "NodeProfile", "PassProfile", "Profile", "profile"]

ModelSource = Union[str, "os.PathLike[str]", bytes, "onnx.ModelProto", InferenceSession, "Model"]

_ENOUGH_SECONDS = 1.0
_FEWEST, _MOST = 5, 400


def profile(
    model: ModelSource,
    feeds: Mapping[str, Any] | None = None,
    runs: int | None = None,
    *,
    warmup: int = 2,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    session_options: SessionOptions | None = None,
    providers: Sequence[Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Profile:
    """Load a model with profiling on, run it, and tell where the time goes.

    Every node has its time (the median over the runs), FLOP/s and GB/s, the part of the machine's
    measured peak that it reaches, and the source line and module that the exporter wrote into it.
    As many runs again are timed without profiling, in turn with the others, to tell what it costs.

    Args:
        model: a path, bytes, an onnx.ModelProto, an InferenceSession or a Model; of the last two a
            new session is made with the same options and providers.
        feeds: by input name; by default seeded random ones.
        runs: how many are profiled; by default as many as fit into a second, 5 to 400.
        warmup: runs that are not counted.
        dims: sizes of symbolic dimensions, for random feeds; 1 where nothing is said.
        seed: of random feeds.
        session_options: of the session.
        providers: of the session.
        progress: is told what is being done.

    Returns:
        A Profile: print it for a table; ``save("report.html")`` writes a report with a flame view,
        memory and a roofline plot, ``save("trace.json")`` a trace for ui.perfetto.dev.

    Raises:
        InvalidArgument: `runs` is no positive number, or a feed is wrong.
        TypeError: `session_options` are no SessionOptions.
        NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented, Fail: as for InferenceSession.

    Examples:
        >>> found = bascule.profile("model.onnx", runs=20)
        >>> print(found)
        >>> found.save("report.html")
    """
    if runs is not None and runs < 1:
        raise InvalidArgument(f"runs is {runs}, expected a positive number")
    tell = progress or (lambda text: None)
    source, options, arguments = _settings(model, session_options, providers)
    before = _resident()
    tell("loading")
    options.enable_profiling = True
    session = InferenceSession(source, options, **arguments)
    session._trace.outlives_session = False
    loaded_bytes = _resident()
    # Imported here: it is a part of the command line otherwise.
    from bascule.cli.inputs import random_feeds

    given = dict(feeds or {})
    missing = [arg for arg in session.get_inputs() if arg.name not in given]
    given.update(random_feeds(missing, dict(dims or {}), seed))
    tell("running")
    bounds, plain = _run(session, given, runs, warmup)
    assert session._trace.profiler is not None
    recording = session._trace.profiler.collect()
    loaded = session._trace.loaded
    memory = _memory(recording, loaded, before, loaded_bytes)
    tell("measuring the machine")
    peaks = measure(thread_count(options))
    found = timings(recording, bounds)
    shapes = {name: np.shape(value) for name, value in given.items()}
    costs: dict[str, Cost] = {}
    if loaded.graph is not None:
        costs = costs_of(loaded.graph, shapes, found.made)
    nodes = _nodes(found, loaded, costs, peaks)
    return Profile(
        os.path.basename(source) if isinstance(source, str) else "model",
        nodes,
        [(end - begin) / 1e9 for begin, end in bounds],
        plain,
        dict(loaded.seconds),
        list(loaded.spans),
        _passes(loaded),
        peaks,
        memory,
        _native.cpu_model() or "CPU",
        {name: _described(value) for name, value in given.items()},
        recording,
        loaded,
        bounds,
        costs,
    )


def _settings(
    model: Any, session_options: SessionOptions | None, providers: Sequence[Any] | None
) -> tuple[str | bytes, SessionOptions, dict[str, Any]]:
    """What the session that is profiled is made of."""
    if not isinstance(session_options, (SessionOptions, type(None))):
        raise TypeError(
            f"session_options must be SessionOptions, not {type(session_options).__name__}"
        )
    model = getattr(model, "session", model)
    options = session_options.copy() if session_options is not None else None
    arguments: dict[str, Any] = {"providers": providers}
    if isinstance(model, InferenceSession):
        options = options or model.get_session_options()
        if not providers:
            arguments = dict(zip(("providers", "provider_options"), model._asked))
        arguments["disabled_optimizers"] = model._disabled
        model = model._source
    elif hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    source: str | bytes = model if isinstance(model, bytes) else os.fspath(model)
    return source, options or SessionOptions(), arguments


def _run(
    session: InferenceSession, feeds: Mapping[str, Any], runs: int | None, warmup: int
) -> tuple[list[tuple[int, int]], list[float]]:
    """The bounds of profiled runs, in ns, and the seconds of others in turn with them."""
    trace = session._trace
    profiler = trace.profiler
    wanted = dict(feeds)
    fastest = 1 << 62
    for _ in range(max(warmup, 1)):
        begin = time.monotonic_ns()
        session.run(None, wanted)
        fastest = min(fastest, time.monotonic_ns() - begin)
    if runs is None:
        runs = min(max(int(_ENOUGH_SECONDS * 1e9 / max(fastest, 1)), _FEWEST), _MOST)
    bounds: list[tuple[int, int]] = []
    plain: list[float] = []
    was_on = gc.isenabled()
    gc.disable()
    try:
        for _ in range(runs):
            begin = time.monotonic_ns()
            session.run(None, wanted)
            bounds.append((begin, time.monotonic_ns()))
            trace.profiler = None
            begin = time.monotonic_ns()
            session.run(None, wanted)
            plain.append((time.monotonic_ns() - begin) / 1e9)
            trace.profiler = profiler
    finally:
        trace.profiler = profiler
        if was_on:
            gc.enable()
    return bounds, plain


def _nodes(
    found: Timings, loaded: Loaded, costs: Mapping[str, Cost], peaks: Peaks
) -> list[NodeProfile]:
    rows = {row.name: row for row in loaded.rows}
    seconds = {
        name: median(times[times >= 0].tolist()) / 1e9 for name, times in found.own_ns.items()
    }
    total = sum(seconds.values()) or 1.0
    return [
        _node(name, found, rows.get(name), costs.get(name), seconds[name], total, peaks)
        for name in found.order
    ]


def _node(
    name: str,
    found: Timings,
    row: NodeRow | None,
    cost: Cost | None,
    seconds: float,
    total: float,
    peaks: Peaks,
) -> NodeProfile:
    op_type, kernel = found.kernels[name]
    calls = found.calls[name]
    flops, nbytes = (cost.flops, cost.bytes) if cost is not None else (None, None)
    flops = None if flops is None else round(flops * calls)
    nbytes = None if nbytes is None else round(nbytes * calls)
    provider = CPU if row is None else row.provider
    of_peak = None
    is_view = op_type.rpartition(".")[2] in VIEWS
    if flops is not None and nbytes is not None and provider != CUDA and not is_view:
        of_peak = peaks.share(flops, nbytes, seconds)
    made = found.made.get(name, ())
    return NodeProfile(
        name,
        op_type,
        provider,
        row.kernel if row is not None else kernel,
        seconds,
        seconds / total,
        calls,
        flops,
        nbytes,
        of_peak,
        made[0][0] if made else "",
        tuple(made[0][1]) if made else None,
        row.source if row is not None else "",
        tuple(row.sources) if row is not None else (),
        tuple(row.scope) if row is not None else (),
        tuple(row.replaced) if row is not None else (),
        row.inside if row is not None else "",
    )


def _passes(loaded: Loaded) -> list[PassProfile]:
    spent: dict[str, int] = {}
    for span in loaded.spans:
        if span.category in ("pass", "rewrite"):
            spent[span.name] = spent.get(span.name, 0) + span.duration_ns
    names = dict.fromkeys([*spent, *loaded.passes])
    found = [
        PassProfile(name, loaded.passes.get(name, 0), spent.get(name, 0) / 1e9) for name in names
    ]
    return sorted(found, key=lambda each: -each.seconds)


def _memory(recording: Recording, loaded: Loaded, before: int, loaded_bytes: int) -> Memory:
    native = recording.native
    memory = Memory(loaded.weight_bytes, before=before, loaded=loaded_bytes, peak=_peak_resident())
    tops = top_level_runs(native["runs"])
    planned = [number for number in tops if native["runs"][number][2] >= 0]
    if planned:
        program, _, plan, _, _, allocations = native["runs"][planned[-1]]
        memory.arena = int(native["arena_bytes"][plan])
        memory.live = [int(each) for each in native["live_bytes"][plan]]
        memory.names = [step[0] for step in native["programs"][program]]
        memory.allocations = [(kind, nbytes) for _, nbytes, _, kind in allocations]
    return memory


def _described(value: Any) -> str:
    if not hasattr(value, "dtype"):
        return type(value).__name__
    return f"{value.dtype}[{','.join(map(str, np.shape(value)))}]"


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _peak_resident() -> int:
    try:
        # Imported here: some systems have none.
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
