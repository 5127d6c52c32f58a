# SPDX-License-Identifier: Apache-2.0
"""bench/RESULTS.md from bench/results.json."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from measure import table

MODELS = ("resnet50", "mobilenetv2", "vit_b16", "convnext_t", "bert_base", "gpt2")
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("the six", MODELS),
    ("batch 8", tuple(f"{name}_batch8" for name in MODELS)),
    (
        "others",
        tuple(
            [
                "gpt2_decode",
                "llama_decode_int4",
                "whisper_tiny_encoder",
                "segformer_b0",
                "swin_t",
                "efficientnet_b0",
                "unet",
                "bilstm",
            ]
        ),
    ),
    (
        "int8",
        tuple(
            f"{name}-QDQ_{how}"
            for name in ("resnet50", "bert_base")
            for how in ("U8S8_by_channel", "S8S8")
        ),
    ),
)

_LEGEND = """Medians in ms, the runtimes taking turns in one process. Ratio: bascule / the fastest
peer, lower is better. GFLOP/s: multiply-adds of the model's own products, convolutions, attention
and recurrences (each counts 2), whatever the runtime saves of them, per second of bascule's median;
beside it that as a part of the float32 peak measured with as many threads (so int8 can be above
100 %). GB/s, for decode steps: weights read a second, as a part of what nothing but
reading so many bytes reaches right after.
Difference: largest of any output from any peer's, relative to its largest value.
"""


def section_key(isa: str, threads: int) -> str:
    return f"{isa} {threads}".strip()


def sections(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(title, section): the CPU's own instruction set first, most threads first."""

    def split(key: str) -> tuple[str, int]:
        isa, _, threads = key.rpartition(" ")
        return isa, int(threads)

    ordered = sorted(results["sections"], key=lambda key: (split(key)[0], -split(key)[1]))
    titled = []
    for key in ordered:
        isa, threads = split(key)
        title = f"{threads} thread{'s' if threads > 1 else ''}"
        titled.append((f"{isa.upper()}, {title}" if isa else title, results["sections"][key]))
    return titled


def ratio_of(row: dict[str, Any], peers: Sequence[str]) -> float | None:
    """bascule's time by the fastest peer's; None if either is missing."""
    runtimes = row["runtimes"]
    others = [runtimes[peer]["median_ms"] for peer in peers if peer in runtimes]
    if not others or "bascule" not in runtimes:
        return None
    return float(runtimes["bascule"]["median_ms"] / min(others))


def write(results: dict[str, Any], peers: Sequence[str]) -> str:
    commits = {row["commit"] for _, s in sections(results) for row in s["rows"].values()}
    text = [
        "# Results\n",
        f"Machine: {results['machine']}. {', '.join(results['versions'])}. "
        f"Commit {', '.join(sorted(commits | {results['commit']}))}.\n",
        "Made by `python bench/models.py && python bench/workloads.py && python bench/run.py`. "
        + " ".join(_LEGEND.split())
        + "\n",
        "![ratio to the best peer, by workload](RESULTS.svg)\n",
    ]
    for title, section in sections(results):
        peaks = section["peaks"]
        text.append(f"## {title}\n")
        text.append(
            f"Measured peak: {peaks['gflops']:.0f} GFLOP/s, {peaks['gigabytes_s']:.1f} GB/s.\n"
        )
        if title.startswith("AVX2"):
            text.append(
                "All are held to AVX2: their processes are told that the CPU has no more "
                "(`only_avx2.c`).\n"
            )
        for group, names in GROUPS:
            rows = {name: section["rows"][name] for name in names if name in section["rows"]}
            if rows:
                text.append(_group_table(group, rows, peaks, peers))
        text += _summary(section["rows"], peers)
        text += _errors(section["rows"])
    for key, title in (
        ("lengths", "Changing lengths"),
        ("calls", "Cost of a call from Python"),
        ("startup", "Start-up and memory"),
    ):
        if results.get(key):
            text += [f"## {title}\n", *results[key]]
    return "\n".join(text)


def _group_table(
    title: str, rows: dict[str, dict[str, Any]], peaks: dict[str, float], peers: Sequence[str]
) -> str:
    lines = [(title, "bascule", *peers, "ratio", "GFLOP/s", "of peak", "difference")]
    ratios = []
    for name, row in rows.items():
        ratio = ratio_of(row, peers)
        if ratio is not None:
            ratios.append(ratio)
        lines.append(
            (
                name,
                *(_time(row, runtime) for runtime in ("bascule", *peers)),
                "" if ratio is None else f"{ratio:.2f}",
                *_speed(name, row, peaks),
                _difference(row),
            )
        )
    if ratios:
        lines.append(
            ("geometric mean", *[""] * (1 + len(peers)), f"{_mean(ratios):.2f}", "", "", "")
        )
    return table(lines)


def _summary(rows: dict[str, dict[str, Any]], peers: Sequence[str]) -> list[str]:
    """How the workloads besides the six do together."""
    ratios = {
        name: ratio
        for name, row in rows.items()
        if name not in MODELS and (ratio := ratio_of(row, peers)) is not None
    }
    if not ratios:
        return []
    worst = max(ratios, key=lambda name: ratios[name])
    return [
        f"All but the six together: geometric mean {_mean(ratios.values()):.2f}, "
        f"largest {ratios[worst]:.2f} ({worst}).\n"
    ]


def _mean(ratios: Collection[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _time(row: dict[str, Any], runtime: str) -> str:
    if runtime in row["runtimes"]:
        return f"{row['runtimes'][runtime]['median_ms']:.2f}"
    return "fails" if runtime in row["errors"] else ""


def _speed(name: str, row: dict[str, Any], peaks: dict[str, float]) -> tuple[str, str]:
    if "bascule" not in row["runtimes"]:
        return "", ""
    seconds = row["runtimes"]["bascule"]["median_ms"] / 1e3
    if "decode" in name:
        rate = row["streamed_bytes"] / 1e9 / seconds
        return f"{rate:.1f} GB/s", f"{rate / row['gigabytes_s']:.0%}"
    rate = row["product_flops"] / 1e9 / seconds
    return f"{rate:.0f}", f"{rate / peaks['gflops']:.0%}"


def _difference(row: dict[str, Any]) -> str:
    others = [r["difference"] for name, r in row["runtimes"].items() if name != "bascule"]
    return f"{max(others):.1e}" if others else ""


def _errors(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        f"- {name}: {runtime} fails: {message[:200]}"
        for name, row in rows.items()
        for runtime, message in row["errors"].items()
    ]
    return ["\n".join(lines) + "\n"] if lines else []
