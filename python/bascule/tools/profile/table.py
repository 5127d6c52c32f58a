# SPDX-License-Identifier: Apache-2.0
"""A profile in the terminal, and as plain data."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bascule.providers.names import CPU

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bascule.tools.profile.result import GroupProfile, NodeProfile, Profile

_TEXT_WIDTH = 160


def text(profile: Profile, top: int = 15) -> str:
    """The tables as text."""
    # Imported here: it takes long.
    import io

    from rich.console import Console

    stream = io.StringIO()
    show(profile, Console(file=stream, width=_TEXT_WIDTH), top)
    return stream.getvalue().rstrip("\n")


def show(profile: Profile, console: Console, top: int = 15) -> None:
    """Print what a run takes, the slowest nodes, and the sums by operator and source line."""
    for line in heading(profile):
        console.print(line, highlight=False, markup=False)
    console.print(_nodes_table(profile, top))
    console.print(_groups_table("operator", profile.by_operator(), top))
    lines = profile.by_source()
    if lines:
        console.print(_groups_table("source line", lines, top))
    elif any(node.scope for node in profile.nodes):
        console.print(_groups_table("module", profile.by_module(), top))


def heading(profile: Profile) -> list[str]:
    """A few lines about the whole."""
    runs, memory, peaks = profile.run_seconds, profile.memory, profile.peaks
    feeds = ", ".join(f"{name} {kind}" for name, kind in profile.feeds.items())
    rate = sum(node.flops or 0 for node in profile.nodes) / max(profile.seconds, 1e-12) / 1e9
    values = f", values of a run {size(memory.most_live)} (arena {size(memory.arena)})"
    if is_on_cpu(profile):
        limits = f" of {peaks.gflops:.0f}; memory is read at {peaks.gigabytes_s:.1f} GB/s"
    else:
        limits, values = "", values * bool(memory.live)
    lines = [
        f"{profile.model} on {machine(profile)}; {feeds}",
        f"a run takes {duration(profile.seconds)} (median of {len(runs)}, "
        f"{duration(min(runs))} to {duration(max(runs))}); its {len(profile.nodes)} nodes "
        f"{duration(profile.node_seconds)}; {rate:.1f} GFLOP/s{limits}",
        f"memory: weights {size(memory.weights)}{values}; the process had {size(memory.before)} "
        f"before, {size(memory.peak)} at most",
        "loading: " + ", ".join(f"{k} {duration(v)}" for k, v in profile.load_seconds.items()),
    ]
    if profile.overhead is not None:
        lines[1] += f"; profiling adds {profile.overhead:+.1%}"
    return lines


def is_on_cpu(profile: Profile) -> bool:
    """Whether the CPU runs all nodes; what it can do at most says nothing of other devices."""
    return all(node.provider == CPU for node in profile.nodes)


def machine(profile: Profile) -> str:
    """The processor and its threads, behind the providers where not all nodes run on the CPU."""
    threads = profile.peaks.threads
    processor = f"{profile.cpu}, {threads} thread{'s' * (threads > 1)}"
    if is_on_cpu(profile):
        return processor
    counts = Counter(node.provider for node in profile.nodes)
    nodes = ", ".join(f"{name} ({n} node{'s' * (n > 1)})" for name, n in counts.most_common())
    return f"{nodes}, with {processor}"


def provider_text(node: NodeProfile) -> str:
    """``CUDA``."""
    return node.provider.removesuffix("ExecutionProvider")


def _nodes_table(profile: Profile, top: int) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    has_sources = any(node.source for node in profile.nodes)
    has_others = not is_on_cpu(profile)
    for title in ("node", "operator", *["provider"] * has_others, "shape"):
        table.add_column(title, overflow="fold")
    for title in ("time", "%", "GFLOP/s", "GB/s", "of peak"):
        table.add_column(title, justify="right", no_wrap=True)
    if has_sources:
        table.add_column("source", no_wrap=True)
    for node in profile.top(top):
        cells = [
            escape(node.inside + node.name),
            node.op_type,
            *[provider_text(node)] * has_others,
            shape_text(node),
            duration(node.seconds),
            f"{100 * node.share:.1f}",
            *_speed(node.gflops, node.gigabytes_s, node.of_peak),
        ]
        table.add_row(*cells, *([escape(_place(node))] if has_sources else []))
    rest = sorted(profile.nodes, key=lambda node: -node.seconds)[top:]
    if rest:
        seconds, share = sum(n.seconds for n in rest), sum(n.share for n in rest)
        table.add_row(
            f"{len(rest)} more",
            *[""] * (2 + has_others),
            duration(seconds),
            f"{100 * share:.1f}",
            style="dim",
        )
    return table


def _groups_table(title: str, groups: Sequence[GroupProfile], top: int) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column(title, overflow="fold")
    for name in ("nodes", "time", "%", "GFLOP/s", "GB/s", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups[:top]:
        gflops = group.flops / group.seconds / 1e9 if group.flops and group.seconds else None
        gigabytes = group.bytes / group.seconds / 1e9 if group.bytes and group.seconds else None
        table.add_row(
            escape(group.name) or "(none)",
            str(group.nodes),
            duration(group.seconds),
            f"{100 * group.share:.1f}",
            *_speed(gflops, gigabytes, group.of_peak),
        )
    return table


def _place(node: NodeProfile) -> str:
    """``net.py:12 (+1)``: the code is in the table of lines."""
    if not node.sources:
        return ""
    place = node.sources[0].partition(" in ")[0]
    return f"{place} (+{len(node.sources) - 1})" if len(node.sources) > 1 else place


def _speed(gflops: float | None, gigabytes: float | None, share: float | None) -> tuple[str, ...]:
    return (
        "" if gflops is None else f"{gflops:.3g}",
        "" if gigabytes is None else f"{gigabytes:.3g}",
        "" if share is None else f"{share:.0%}",
    )


def shape_text(node: NodeProfile) -> str:
    """``float 1x128x768``."""
    if node.shape is None:
        return node.dtype
    return f"{node.dtype} {'x'.join(map(str, node.shape)) or 'scalar'}"


def duration(seconds: float) -> str:
    """``1.23 ms``."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size(nbytes: float) -> str:
    """``1.23 MB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if nbytes >= factor:
            return f"{nbytes / factor:.3g} {unit}"
    return f"{nbytes:.0f} B"


def records(profile: Profile) -> dict[str, Any]:
    """All figures as plain data, as --json prints them."""
    return {
        "model": profile.model,
        "cpu": profile.cpu,
        "feeds": profile.feeds,
        "seconds": profile.seconds,
        "run_seconds": profile.run_seconds,
        "plain_seconds": profile.plain_seconds,
        "overhead": profile.overhead,
        "load_seconds": profile.load_seconds,
        "peaks": dataclasses.asdict(profile.peaks),
        "memory": dataclasses.asdict(profile.memory),
        "passes": [dataclasses.asdict(each) for each in profile.passes],
        "nodes": [
            {
                **dataclasses.asdict(node),
                "gflops": node.gflops,
                "gigabytes_s": node.gigabytes_s,
            }
            for node in profile.nodes
        ],
        "operators": [dataclasses.asdict(each) for each in profile.by_operator()],
        "source_lines": [dataclasses.asdict(each) for each in profile.by_source()],
        "modules": [dataclasses.asdict(each) for each in profile.by_module()],
    }
