# SPDX-License-Identifier: Apache-2.0
"""Choosing among the ways of computing a node by timing them, once for a CPU and kept in a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bascule._version import __version__
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.native import _native
from bascule.providers.cache import folder, write
from bascule.providers.cpu.choice import Choice
from bascule.providers.cpu.lower import GraphLowering

_WORTH = 0.97
"""An alternative replaces what the kernel would do only if it takes at most this of the time."""
_WORTH_ON_ONE = 0.85
"""The same for one thread: in a model half of its inputs may come from another core's cache."""
_ROUNDS = 9
_SMALL_SECONDS = 500e-6
"""What takes longer on all threads is not tried on one."""
_OTHER_WORK_BYTES = 4 << 20
"""What other nodes read between two runs of one: more than a core's own caches hold."""

Measure = Callable[[Sequence[Callable[[], object]]], list[float]]


class Choices:
    """What was chosen before, in a file that several processes may write at once.

    A file that is damaged is as good as none, and one that cannot be written is not. Neither is a
    device, such as ``/dev/null``: writing would put a file in its place.
    """

    def __init__(self, path: Path | None) -> None:
        is_special = path is not None and os.path.exists(path) and not os.path.isfile(path)
        self.path = None if is_special else path
        self._known = self._read()

    def get(self, key: str) -> Choice | None:
        """What was chosen under a key."""
        return self._known.get(key)

    def add(self, chosen: dict[str, Choice]) -> None:
        """Keep what was chosen, beside what others have written meanwhile."""
        if self.path is None or not chosen:
            return
        self._known = self._read() | self._known | chosen
        rows = {key: [each.alternative, each.threads] for key, each in self._known.items()}
        with contextlib.suppress(OSError):
            write(self.path, json.dumps({"choices": rows}, indent=0, sort_keys=True).encode())

    def _read(self) -> dict[str, Choice]:
        if self.path is None:
            return {}
        try:
            rows = json.loads(self.path.read_bytes())["choices"]
            return {
                key: Choice(alternative, threads)
                for key, (alternative, threads) in rows.items()
                if isinstance(alternative, str) and type(threads) is int and threads >= 0
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}


def measure(runs: Sequence[Callable[[], object]]) -> list[float]:
    """The median seconds of each, in turns, so that what disturbs one disturbs all."""
    other = np.zeros(_OTHER_WORK_BYTES, np.uint8)
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(_ROUNDS):
        for run, taken in zip(runs, seconds):
            other += 1
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return [statistics.median(each) for each in seconds]


class Tuner:
    """Gives nodes what is fastest on this machine, as far as the time for it goes."""

    def __init__(
        self,
        seconds: float,
        choices: Choices,
        measure: Measure = measure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._choices = choices
        self._measure = measure
        self._clock = clock

    def tune(self, nodes: Iterable[Node], threads: int) -> None:
        """Choose for every node whose sizes are known, those with most work first."""
        alike: dict[str, list[Node]] = {}
        for node in nodes:
            if _is_timed(node):
                alike.setdefault(_key(node, threads), []).append(node)
        chosen: dict[str, Choice] = {}
        end = self._clock() + self._seconds
        for key, group in sorted(alike.items(), key=lambda item: (-_work(item[1][0]), item[0])):
            choice = self._choices.get(key)
            if choice is None or choice.alternative not in ("", *_alternatives(group[0], threads)):
                if self._clock() >= end:
                    continue
                choice = chosen[key] = self._fastest(group[0], threads)
            for node in group:
                choice.give(node)
        self._choices.add(chosen)

    def _fastest(self, node: Node, threads: int) -> Choice:
        own = Choice()
        others = [Choice(alternative) for alternative in _alternatives(node, threads)]
        runs, candidates = [], []
        for choice in [own, *others, *([Choice(threads=1)] if threads > 1 else [])]:
            try:
                run = _runner(node, choice, threads)
                run()
            except Exception:  # a kernel may refuse random inputs
                if choice == own:
                    return own
                continue
            runs.append(run)
            candidates.append(choice)
        if threads > 1 and len(runs) > 1 and self._measure(runs[:1])[0] > _SMALL_SECONDS:
            runs, candidates = runs[:-1], candidates[:-1]
        if len(runs) < 2:
            return own
        seconds = self._measure(runs)
        worth = [
            (taken, index)
            for index, (taken, choice) in enumerate(zip(seconds, candidates))
            if taken < seconds[0] * (_WORTH_ON_ONE if choice.threads else _WORTH)
        ]
        return candidates[min(worth)[1]] if worth else own


def tuner(seconds: str, file: str, cache_dir: str) -> Tuner | None:
    """The tuner that the entries of a session's options ask for, or None.

    Raises:
        ValueError: `seconds` is no number of seconds.
    """
    budget = float(seconds or "0")
    if not 0 <= budget < math.inf:
        raise ValueError(f"{seconds} is no number of seconds")
    if budget == 0 and not file:
        return None
    if file:
        return Tuner(budget, Choices(Path(file)))
    place = Path(cache_dir) if cache_dir else folder()
    name = hashlib.sha256(cpu_model().encode()).hexdigest()[:16]
    return Tuner(budget, Choices(place / f"autotune-{name}.json" if place else None))


def cpu_model() -> str:
    """The name of the CPU, and the instructions that kernels use on it."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({_native.active_isa()})"


def _is_timed(node: Node) -> bool:
    """Whether random inputs of known sizes can be made for it."""
    if node.subgraphs or not node.outputs:
        return False
    return all(
        value is None or value.constant is not None or _array(value) is not None
        for value in node.inputs
    )


def _array(value: Value) -> tuple[tuple[int, ...], DataType] | None:
    """(sizes, element type) of a value of which arrays can be made."""
    shape = value.static_shape
    if shape is None or not isinstance(value.type, TensorType):
        return None
    dtype = value.type.dtype
    if dtype in (DataType.UNDEFINED, DataType.STRING):
        return None
    return tuple(shape), dtype


def _key(node: Node, threads: int) -> str:
    """All that the time of a node may depend on, but for the elements of its tensors."""
    text = [__version__, cpu_model(), str(threads), node.domain, node.op_type]
    for name in sorted(node.attributes):
        value = node.attributes[name]
        if isinstance(value, Constant):
            value = (int(value.dtype), list(value.shape))
        text.append(f"{name}={list(value) if hasattr(value, 'typecode') else value}")
    for each in node.inputs:
        if each is None:
            text.append("-")
        elif each.constant is None:
            text.append(f"{each.type}{each.static_shape}")
        else:
            constant = each.constant
            whole = constant.dtype in (DataType.INT64, DataType.INT32) and (
                math.prod(constant.shape) <= 64
            )
            elements = constant.numpy().tolist() if whole else ""
            text.append(f"constant {constant.dtype}{list(constant.shape)}{elements}")
    text.extend(f"{value.type}{value.is_unused}" for value in node.outputs)
    return hashlib.sha256("\0".join(text).encode()).hexdigest()[:32]


def _work(node: Node) -> int:
    """About how much there is to do: what is read or made, times the constants that it meets."""
    variables = [*node.outputs, *(v for v in node.inputs if v and not v.constant)]
    sizes = [math.prod(v.static_shape or ()) for v in variables]
    constants = [math.prod(v.constant.shape) for v in node.inputs if v and v.constant]
    return max(sizes) * max([1, *constants])


def _alone(node: Node, choice: Choice) -> tuple[Graph, list[Value]]:
    """A graph of this node, and what its inputs are that are no constants."""
    graph = Graph("tuned")
    inputs: dict[int, Value] = {}
    fed = []
    values: list[Value | None] = []
    for value in node.inputs:
        if value is None or value.constant is not None:
            values.append(value and graph.constant(value.constant, value.name))
            continue
        if id(value) not in inputs:
            inputs[id(value)] = graph.add_input(Value(value.name, value.type))
            fed.append(value)
        values.append(inputs[id(value)])
    copy = Node(node.op_type, values, len(node.outputs), dict(node.attributes), domain=node.domain)
    copy.name, copy.opset, copy.binding = node.name, node.opset, node.binding
    choice.give(copy)
    graph.append(copy)
    for made, original in zip(copy.outputs, node.outputs):
        made.name, made.type = original.name, original.type
        if not original.is_unused:
            graph.add_output(made)
    return graph, fed


def _alternatives(node: Node, threads: int) -> list[str]:
    graph, _ = _alone(node, Choice())
    lowering = GraphLowering(graph)
    found: list[str] = lowering.alternatives_of(next(iter(graph)), threads)
    return found


def _runner(node: Node, choice: Choice, threads: int) -> Callable[[], object]:
    """Runs a node alone, on random inputs."""
    graph, fed = _alone(node, choice)
    runner: Any = _native.Runner(
        GraphLowering(graph).builder,
        [v.name for v in graph.inputs],
        [v.name for v in graph.outputs],
        threads,
    )
    generator = np.random.default_rng(0)
    feeds = []
    for value in fed:
        found = _array(value)
        assert found is not None
        shape, dtype = found
        if dtype.numpy.kind in "biu":
            feeds.append(np.asarray(generator.integers(0, 2, shape)).astype(dtype.numpy))
        else:
            feeds.append(np.asarray(generator.standard_normal(shape)).astype(dtype.numpy))
    return lambda: runner.run_values(feeds, [])
