# SPDX-License-Identifier: Apache-2.0
"""The CPU: its instruction sets, the threads that this process may have, and its speed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from bascule.native import _native, usable_cpus
from bascule.tools.doctor.finding import Finding

_AREA = "cpu"
# fmt: off
_TOLD = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq",
    "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)
# fmt: on
"""Of the flags that a CPU lists, those that matter to a runtime."""

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


def examine() -> Iterator[Finding]:
    """What the CPU has, and what is used of it."""
    yield Finding(_AREA, "model", _native.cpu_model() or platform.processor() or "unknown")
    yield Finding(_AREA, "architecture", platform.machine())
    yield Finding(_AREA, "instruction sets", _flags())
    yield Finding(_AREA, "levels built", list(_native.built_isas()))
    yield _level_in_use()
    yield Finding(_AREA, "float32 by parts of bfloat16 (AMX)", _native.has_bfloat16_tiles())
    yield Finding(_AREA, "CPUs", os.cpu_count())
    if hasattr(os, "sched_getaffinity"):
        yield Finding(_AREA, "CPUs this process may use", len(os.sched_getaffinity(0)))
    quota = cpu_quota()
    yield Finding(_AREA, "quota in CPUs", "none" if quota is None else round(quota, 2))
    if "OMP_NUM_THREADS" in os.environ:
        yield Finding(_AREA, "OMP_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    yield Finding(_AREA, "threads in an operator", usable_cpus())


def measure() -> Iterator[Finding]:
    """What one thread and all threads reach; takes about two seconds."""
    for threads in sorted({1, usable_cpus()}):
        of = f"{threads} thread{'s' * (threads > 1)}"
        gflops = _native.peak_gflops(threads, 0.5)
        yield Finding("peaks", f"float32 GFLOP/s, {of}", round(gflops, 1))
        bandwidth = _native.read_bandwidth(threads, 0.5)
        yield Finding("peaks", f"GB/s read from memory, {of}", round(bandwidth, 1))


def _level_in_use() -> Finding:
    used, best = _native.active_isa(), _native.detected_isa()
    asked = os.environ.get("BASCULE_ISA", "")
    if asked and used != {"baseline": "base"}.get(asked, asked):
        return Finding(
            _AREA,
            "level in use",
            used,
            "wrong",
            fix=f"BASCULE_ISA={asked} is no level that this CPU has; the best is {best}",
        )
    fix = "" if used == best else f"unset BASCULE_ISA to use {best}"
    return Finding(_AREA, "level in use", used, fix=fix)


def _flags() -> list[str]:
    """Those of _TOLD that the system lists; none where it has no list."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):
            present = set(flags.split())
            return [flag for flag in _TOLD if flag in present]
    return []


def cpu_quota() -> float | None:
    """The CPUs that the control group of this process may use at a time; None without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            folder = _CGROUP / "cpu"
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        cpus = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return cpus if cpus > 0 else None
