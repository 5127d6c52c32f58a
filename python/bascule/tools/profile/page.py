# SPDX-License-Identifier: Apache-2.0
"""A profile as one page that needs nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bascule.tools.profile.collect import top_level_runs
from bascule.tools.profile.result import GroupProfile, NodeProfile, Profile
from bascule.tools.profile.table import (
    duration,
    is_on_cpu,
    machine,
    provider_text,
    shape_text,
    size,
)

_FOLDER = Path(__file__).parent


def page(profile: Profile) -> str:
    """The report: page.html with its style, its script and the figures put in."""
    data = json.dumps(_data(profile), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    parts = {
        "TITLE": html.escape(f"{profile.model}: profile"),
        "STYLE": _text("page.css"),
        "SCRIPT": _text("page.js"),
        # Text of the model must not end the element that it stands in.
        "DATA": data.replace("<", "\\u003c"),
    }
    # In one go: what is put in may hold any text.
    return re.sub(f"@({'|'.join(parts)})@", lambda mark: parts[mark[1]], _text("page.html"))


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8").rstrip("\n")


def _data(profile: Profile) -> dict[str, Any]:
    lines = list(dict.fromkeys(line for node in profile.nodes for line in node.sources))
    numbers = {line: number for number, line in enumerate(lines)}
    about = [
        machine(profile),
        ", ".join(f"{name} {kind}" for name, kind in profile.feeds.items()),
    ]
    return {
        "model": profile.model,
        "about": "  ·  ".join(filter(None, about)),
        "tiles": _tiles(profile),
        "nodes": [_node(node, numbers) for node in profile.nodes],
        "lines": lines,
        "operators": _groups(profile.by_operator()),
        "by_line": _groups(profile.by_source()),
        "by_module": _groups(profile.by_module()),
        "passes": [[each.name, each.changes, each.seconds] for each in profile.passes],
        "load": [[name, seconds] for name, seconds in profile.load_seconds.items()],
        "peaks": {
            "gflops": profile.peaks.gflops,
            "gigabytes_s": profile.peaks.gigabytes_s,
            "cache_gigabytes_s": profile.peaks.cache_gigabytes_s,
        },
        "arena": profile.memory.arena,
        "run": _run(profile),
    }


def _tiles(profile: Profile) -> list[list[str]]:
    runs, memory = profile.run_seconds, profile.memory
    gflops = sum(node.flops or 0 for node in profile.nodes) / max(profile.seconds, 1e-12) / 1e9
    of_peak, values = "in a run", ""
    if is_on_cpu(profile):
        of_peak = f"{gflops / profile.peaks.gflops:.0%} of the float32 peak"
    if is_on_cpu(profile) or memory.live:
        values = f"; values of a run {size(memory.most_live)}"
    tiles = [
        [
            duration(profile.seconds),
            f"a run, median of {len(runs)}; {duration(min(runs))} to {duration(max(runs))}",
        ],
        [f"{gflops:.3g} GFLOP/s", of_peak],
        [str(len(profile.nodes)), f"nodes; together {duration(profile.node_seconds)}"],
        [size(memory.weights), f"weights{values}"],
        [duration(sum(profile.load_seconds.values())), "to load"],
    ]
    if memory.peak:
        tiles.append([size(memory.peak), "the process at most"])
    if profile.overhead is not None:
        tiles.append([f"{profile.overhead:+.1%}", "that profiling adds to a run"])
    return tiles


def _node(node: NodeProfile, numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "name": node.name,
        "inside": node.inside,
        "op": node.op_type,
        "provider": provider_text(node),
        "kernel": node.kernel,
        "shape": shape_text(node),
        "t": round(node.seconds * 1e9),
        "calls": node.calls,
        "flops": node.flops,
        "bytes": node.bytes,
        "peak": None if node.of_peak is None else round(node.of_peak, 4),
        "scope": node.scope,
        "lines": [numbers[line] for line in node.sources],
        "replaced": node.replaced,
    }


def _groups(groups: Sequence[GroupProfile]) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "nodes": group.nodes,
            "t": round(group.seconds * 1e9),
            "flops": group.flops,
            "bytes": group.bytes,
            "peak": group.of_peak,
        }
        for group in groups
    ]


def _run(profile: Profile) -> dict[str, Any]:
    """The run whose length is nearest to the median, of those that every node was timed in:
    threads, their nodes, and memory."""
    native, device = profile.recording.native, profile.recording.device
    numbers = {node.name: number for number, node in enumerate(profile.nodes)}
    full = [int(run[4][0]) for run in native["runs"] if run[4].min(initial=0) >= 0]
    bounds = [(a, b) for a, b in profile.bounds if any(a <= time <= b for time in full)]
    begin, end = min(
        bounds or profile.bounds,
        key=lambda each: abs((each[1] - each[0]) / 1e9 - profile.seconds),
    )

    def inside(time: int) -> bool:
        return begin <= time <= end

    runs = [number for number, run in enumerate(native["runs"]) if inside(int(run[4][0]))]
    tops = {number for number in top_level_runs(native["runs"]) if number in set(runs)}
    lanes: dict[tuple[str, int], list[list[int]]] = {}
    memory: list[list[int]] = []
    for number in runs:
        program, _, plan, thread, times, _ = native["runs"][number]
        steps, points = native["programs"][program], times.tolist()
        lane = lanes.setdefault(("run", thread), [])
        depth = 0 if number in tops else 1
        for step, start, stop in zip(steps, points, points[1:]):
            if start >= 0 and stop >= 0:
                lane.append([numbers[step[0]], start - begin, stop - start, depth])
        if number in tops and plan >= 0:
            live = native["live_bytes"][plan].tolist()
            memory += [
                [start - begin, bytes_, numbers[step[0]]]
                for step, start, bytes_ in zip(steps, points, live)
                if start >= 0
            ]
    for program, step, thread, start, stop in native["work"]:
        if inside(start):
            name = native["programs"][program][step][0]
            lanes.setdefault(("worker", thread), []).append(
                [numbers[name], start - begin, stop - start, 0]
            )
    for span in device:
        if span.kind == "node" and inside(span.start_ns) and span.name in numbers:
            lanes.setdefault(("GPU", 0), []).append(
                [numbers[span.name], span.start_ns - begin, span.duration_ns, 0]
            )
    named: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    for (kind, _), items in sorted(lanes.items(), key=lambda lane: lane[0][0] != "run"):
        counts[kind] = counts.get(kind, 0) + 1
        name = kind if kind == "GPU" else f"{kind} thread {counts[kind]}"
        items.sort(key=lambda item: item[1])
        named.append({"name": name, "items": items})
    return {"length": end - begin, "lanes": named, "memory": memory}
