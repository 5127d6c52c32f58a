# SPDX-License-Identifier: Apache-2.0
"""The tables that bench/gpu.py makes of its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from measure import table

Record = dict[str, Any]
Key = tuple[str, str, int]
NOTE = (
    "Times are medians in ms: a run that is waited for / one of a stream of runs. Ratios are of "
    "runs measured in turns, below 1 where bascule is faster. The error is the largest difference "
    "from the CPU provider in float32, relative to the largest value. All models were compiled "
    "for torch at once, its choices timed one by one but beside the compilers, which may disturb "
    "them a little. Nothing else ran while something was measured."
)
TITLES = {"float16": "float16", "tf32": "TF32", "float32": "float32"}


def line(record: Mapping[str, Any]) -> str:
    """A record as progress."""
    if "error" in record:
        return f"{record['case']}: {record['error'][:300]}"
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in record.items()}
    lines = [" ".join(f"{k}={v}" for k, v in shown.items() if k != "kernels")]
    for row in record.get("kernels", ()):
        lines.append(f"    {row['us']:9.1f} us {row['launches']:6.0f}x  {row['kernel']}")
    return "\n".join(lines)


class Results:
    """What was measured, by case."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.rows: dict[str, list[Record]] = {}
        self._times: dict[Key, dict[tuple[str, str], Record]] = {}
        for record in records:
            if "beside" in record:
                key = (record["model"], record["type"], record["batch"])
                found = self._times.setdefault(key, {})
                found[record["beside"], record["runtime"]] = record
            elif "row" in record:
                self.rows.setdefault(record["row"], []).append(record)

    @property
    def keys(self) -> list[Key]:
        return list(self._times)

    def find(self, key: Key, runtime: str) -> Record | None:
        found = self._times.get(key, {})
        return found.get(("eager", runtime)) or found.get(("compile", runtime))

    def ratio(self, key: Key, peer: str, field: str) -> float | None:
        """bascule's time over the peer's, of the measurement in which they took turns."""
        beside = "compile" if peer == "torch.compile" else "eager"
        found = self._times.get(key, {})
        ours, theirs = found.get((beside, "bascule")), found.get((beside, peer))
        return ours[field] / theirs[field] if ours and theirs else None

    def mean_ratio(self, kind: str, batch: int, peer: str, field: str) -> tuple[float, int] | None:
        """The geometric mean over the models, and how many those are."""
        keys = [key for key in self._times if key[1:] == (kind, batch)]
        ratios = [ratio for key in keys if (ratio := self.ratio(key, peer, field))]
        if not ratios:
            return None
        return math.exp(sum(map(math.log, ratios)) / len(ratios)), len(ratios)


def _times(record: Record | None) -> str:
    return f"{record['latency_ms']:.3f} / {record['stream_ms']:.3f}" if record else ""


def _ratios(results: Results, key: Key, peer: str) -> str:
    found = [results.ratio(key, peer, field) for field in ("latency_ms", "stream_ms")]
    return " / ".join(f"{ratio:.2f}" for ratio in found if ratio is not None)


def case_table(results: Results) -> str:
    peers = ["torch", "torch.compile", "onnxruntime"]
    peers = [p for p in peers if any(results.find(key, p) for key in results.keys)]
    titles = [title for peer in peers for title in (peer, f"ratio to {peer}")]
    rows = [("model", "type", "batch", "bascule", "from NumPy", *titles, "error")]
    for key in results.keys:
        ours, host = results.find(key, "bascule"), results.find(key, "bascule, numpy")
        cells = [_times(ours), f"{host['latency_ms']:.3f}" if host else ""]
        for peer in peers:
            cells += [_times(results.find(key, peer)), _ratios(results, key, peer)]
        error = f"{ours['difference']:.1e}" if ours and "difference" in ours else ""
        rows.append((key[0], TITLES[key[1]], str(key[2]), *cells, error))
    return table(rows)


def mean_table(results: Results) -> str:
    rows = [("type", "batch", "ratio to", "models", "latency", "stream")]
    for kind, batch in dict.fromkeys(key[1:] for key in results.keys):
        for peer in ("torch", "torch.compile", "onnxruntime"):
            latency = results.mean_ratio(kind, batch, peer, "latency_ms")
            stream = results.mean_ratio(kind, batch, peer, "stream_ms")
            if latency and stream:
                figures = (str(latency[1]), f"{latency[0]:.3f}", f"{stream[0]:.3f}")
                rows.append((TITLES[kind], str(batch), peer, *figures))
    return table(rows)


def target_table(results: Results) -> str:
    """What is aimed for, what was measured, and whether it holds."""
    rows = [("target", "measured", "holds")]

    def add(target: str, measured: float | None, most: float, shown: str) -> None:
        if measured is not None:
            rows.append((target, shown.format(measured), "yes" if measured <= most else "no"))

    for kind, batch in dict.fromkeys(key[1:] for key in results.keys):
        mean = results.mean_ratio(kind, batch, "torch.compile", "latency_ms")
        title = f"{TITLES[kind]}, batch {batch}: at most 0.85 of torch.compile"
        if mean and kind != "float32":
            add(title, mean[0], 0.85, f"{{:.3f}} ({mean[1]} models)")
    bert = results.find(("bert_base", "float16", 1), "bascule")
    latency = bert["latency_ms"] if bert else None
    add("BERT-base 1x128 in float16: under 0.7 ms a run", latency, 0.7, "{:.3f} ms")
    hosts = [
        found["host_ms"] * 1e3
        for key in results.keys
        if key[2] == 1 and (found := results.find(key, "bascule"))
    ]
    add("Python of a replayed run: at most 30 us", max(hosts, default=None), 30, "{:.0f} us")
    for record in results.rows.get("session", ()):
        if record["model"] == "bert_base":
            title = "a process's first session, of BERT-base, with a warm cache: under 2 s"
            add(title, record["session_s"], 2.0, "{:.2f} s")
    errors = [record["difference"] for record in results.rows.get("strict float32", ())]
    add("strict float32 against the CPU: 1e-4", max(errors, default=None), 1e-4, "{:.1e}")
    for record in results.rows.get("decode", ()):
        if "fraction" in record:
            title = f"{record['case']}, a step: at most 1.33 of the time to copy its weights"
            add(title, 1 / record["fraction"], 1 / 0.75, "{:.2f}")
    return table(rows)


def row_tables(results: Results) -> list[str]:
    """The machine's own rates, strict float32, and what a session costs."""
    tables = []
    titles = {
        "machine": ("gpu", "copy_tb_s", "float16_tflops", "tf32_tflops"),
        "start": ("cupy_s", "cuda_s", "cublas_s", "cudnn_s"),
        "session": (
            *("model", "type", "import_s", "session_s", "first_run_s", "second_session_s"),
            "second_first_run_s",
        ),
        "strict float32": ("model", "difference"),
        "decode": ("case", "ms", "gb_per_s", "fraction", "launches", "busy_ms", "difference"),
    }
    for name, fields in titles.items():
        found = results.rows.get(name, ())
        cells = [
            tuple(f"{v:.3g}" if isinstance(v, float) else str(v) for v in map(r.get, fields))
            for r in found
        ]
        if cells:
            tables.append(f"### {name}\n\n" + table([fields, *cells]))
    for record in results.rows.get("replay", ()):
        tables.append(f"### replay\n\n```\n{record['text']}```\n")
    return tables


def missing(results: Results, wanted: Iterable[tuple[Key, str]]) -> str:
    """A line of what was not measured."""
    lost = [
        f"{' '.join(map(str, key))} {name}" for key, name in wanted if not results.find(key, name)
    ]
    return f"Not measured: {'; '.join(lost)}.\n" if lost else ""


def report(records: Iterable[Record], wanted: Iterable[tuple[Key, str]]) -> str:
    """Everything, as markdown."""
    results = Results(records)
    parts = [NOTE + "\n", case_table(results), mean_table(results), target_table(results)]
    return "\n".join([*parts, *row_tables(results), missing(results, wanted)])
