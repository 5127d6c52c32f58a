# SPDX-License-Identifier: Apache-2.0
"""Time bascule on a GPU beside torch, torch.compile and onnxruntime.

    python bench/models.py && python bench/workloads.py resnet50_batch32 ...
    python bench/weights.py strip bench/models/*.onnx --out bench/models/stripped
    python bench/gpu.py bench/models/stripped --minutes 9 --json gpu.json --markdown gpu.md

Needs no network. FOLDER holds NAME.onnx.stripped and NAME_batch32.onnx.stripped, made by
bench/weights.py from what bench/models.py and bench/workloads.py export. Each model has a process
of its own. They make their sessions, and compile for torch, side by side; then each measures in its
turn, while nothing else runs. What is not compiled in time is left out. A process that dies is
started once more, without the case at fault. With --cache FOLDER torch.compile finds what an
earlier run left there.
Without a GPU everything runs on the CPU: a rehearsal, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpu_cache import pack, unpack
from gpu_case import Options
from gpu_tables import line, report
from gpu_workers import GRACE, Worker, Workers, stopped

HERE = Path(__file__).parent
MODELS = ("resnet50", "mobilenetv2", "vit_b16", "convnext_t", "bert_base", "gpt2")
PEERS = ("eager", "compile", "onnxruntime")
ROWS = {"machine": 12.0, "session": 8.0, "replay": 15.0, "decode": 75.0}
"""What is measured besides the models, and about how many seconds it takes: a session's of each."""
LOAD_SECONDS = 12.0
"""What a process may take to load what was compiled for a case."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    types = ("float16", "tf32", "float32")
    parser.add_argument("--types", nargs="+", default=list(types[:2]), choices=types)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--compile-mode", default="max-autotune", help="of torch.compile")
    parser.add_argument("--cache", type=Path, help="what torch.compile made, from run to run")
    parser.add_argument("--seconds", type=float, default=1.5, help="of measuring each case")
    parser.add_argument("--prepare-seconds", type=float, default=150.0)
    parser.add_argument("--compile-seconds", type=float, default=240.0)
    parser.add_argument("--turn-seconds", type=float, default=60.0, help="a model's turn at most")
    parser.add_argument("--kernels", type=int, default=0, help="show the N costliest GPU kernels")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS, help="what else")
    parser.add_argument("--explain", action="store_true", help="show nodes that run on the CPU")
    return parser.parse_args()


class Benchmark:
    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self._options = options
        self._work = work
        self._kept = work / "kept"
        self._begin = time.monotonic()
        self._end = self._begin + options.minutes * 60
        self.records: list[dict[str, Any]] = []
        self._workers = Workers(self._note, self._say, self._end)
        self._environment = {
            **os.environ,
            "BASCULE_CACHE_DIR": str(self._kept / "bascule"),
            "OMP_NUM_THREADS": str(self._threads),
            "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
            "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
        }
        # Tuning torch's own convolutions takes long, and cuDNN's are the faster ones.
        self._environment.setdefault("TORCHINDUCTOR_MAX_AUTOTUNE_CONV_BACKENDS", "ATEN")

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    @property
    def _threads(self) -> int:
        return max(len(os.sched_getaffinity(0)) // len(self._options.models), 1)

    @property
    def _cases_each(self) -> int:
        """How many cases a model has."""
        return len(self._options.types) * len(self._options.batches)

    def run(self) -> None:
        options = self._options
        unpack(options.cache or self._kept, self._kept)
        wants_compiled = "compile" in options.peers
        cases = [self._start(model) for model in options.models]
        ahead = [self._start_ahead(model) for model in options.models] if wants_compiled else []
        self._prepare(cases)
        with stopped(ahead):
            if "machine" in options.rows:
                self._row("machine", {})
            self._turns("measure", cases)
        cases = self._again(cases, ahead)
        self.save()
        if ahead:
            self._compile(cases, ahead)
        if options.kernels:
            self._turns("profile", cases)
            self.save()
        self._workers.close()
        if "session" in options.rows:
            self._sessions()
            self.save()
        if "replay" in options.rows:
            self._replay()
        if "decode" in options.rows:
            self._decode()
        self.save()

    def close(self) -> None:
        self._workers.close()

    def save(self) -> None:
        if self._options.json:
            self._options.json.write_text(json.dumps(self.records, indent=1))
        if self._options.markdown:
            self._options.markdown.write_text(self.report())

    def report(self) -> str:
        options = self._options
        names = ["bascule", "torch"] if "eager" in options.peers else ["bascule"]
        names += ["torch.compile"] if "compile" in options.peers else []
        wanted = [
            ((model, kind, batch), name)
            for model in options.models
            for kind in options.types
            for batch in options.batches
            for name in names
        ]
        return report(self.records, wanted)

    # --- the processes

    def _asked(self, model: str, skip: list[str]) -> Options:
        options = self._options
        return Options(
            model=model,
            stripped=str(options.folder),
            work=str(self._work),
            cache=str(self._kept / "torch"),
            types=options.types,
            batches=options.batches,
            peers=options.peers,
            compile_mode=options.compile_mode,
            seconds=options.seconds,
            kernels=options.kernels,
            explain=options.explain,
            threads=self._threads,
            skip=skip,
        )

    def _start(self, model: str, skip: Iterable[str] = ()) -> Worker:
        # What it compiles has been compiled: no processes are needed for that.
        environment = {**self._environment, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        return self._workers.start(
            HERE / "gpu_case.py", self._asked(model, list(skip)), environment
        )

    def _start_ahead(self, model: str) -> Worker:
        threads = str(max(len(os.sched_getaffinity(0)) // 2, 1))
        environment = {**self._environment, "TORCHINDUCTOR_COMPILE_THREADS": threads}
        return self._workers.start(HERE / "gpu_ahead.py", self._asked(model, []), environment)

    def _prepare(self, workers: list[Worker]) -> None:
        self._workers.step("prepare", workers, self._options.prepare_seconds)

    def _turns(self, step: str, workers: Iterable[Worker]) -> None:
        for worker in workers:
            self._workers.step(step, [worker], self._options.turn_seconds)

    def _again(self, cases: list[Worker], ahead: list[Worker]) -> list[Worker]:
        """Start once more what died, without the cases at fault; those that live, and the new."""
        dead = [worker for worker in cases if not worker.is_alive]
        started = [self._start(w.model, [*w.options.skip, w.current]) for w in dead]
        if started:
            self._prepare(started)
            with stopped(ahead):
                self._turns("measure", started)
        return [*(worker for worker in cases if worker.is_alive), *started]

    def _compile(self, cases: list[Worker], ahead: list[Worker]) -> None:
        """Wait for what is compiled, and measure it."""
        seconds = min(self._options.compile_seconds, self._spare())
        living = [worker for worker in ahead if worker.is_alive]
        self._say(f"compiling for {seconds:.0f} s more")
        for worker in self._workers.wait(living, seconds):
            self._say(f"{worker.current or worker.model}: not compiled in time")
        for worker in ahead:
            worker.kill()
        self._workers.step("compile", cases, LOAD_SECONDS * self._cases_each)
        self._turns("compare", cases)
        if self._options.cache:
            size = pack(self._kept, self._options.cache)
            self._say(f"{self._options.cache}: {size / 1e6:.0f} MB")
        self.save()

    def _note(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self._say(line(record))

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begin:5.0f}] {text}", flush=True)

    # --- single figures

    def _spare(self) -> float:
        """Seconds that compiling may take."""
        options = self._options
        models, load = len(options.models), LOAD_SECONDS * self._cases_each
        turns = models * self._cases_each * (options.seconds + 1) + (
            3 * models if options.kernels else 0
        )
        rows = sum(ROWS[each] * (models if each == "session" else 1) for each in options.rows)
        return max(self.left - load - turns - rows - 5, 1)

    def _sessions(self) -> None:
        self._row("start", {})
        kind = self._options.types[0]
        dtype = "float16" if kind == "float16" else "float32"
        for model in self._options.models:
            path = self._work / f"{model}-1-{dtype}.onnx"
            if path.exists():
                self._row("session", {"model": model, "type": kind}, str(path), kind)

    def _decode(self) -> None:
        """The table of bench/gpu_decode.py, which shows its own progress."""
        found = self._work / "decode.json"
        command = [sys.executable, str(HERE / "gpu_decode.py"), "--json", str(found)]
        limit = self.left - GRACE
        if limit < GRACE:
            return
        command += ["--limit", str(limit), "--kernels", str(self._options.kernels)]
        try:
            subprocess.run(command, check=False, timeout=self.left, env=self._environment)
        except subprocess.TimeoutExpired:
            self._note({"case": "decode", "error": "out of time"})
        if found.exists():
            for record in json.loads(found.read_text()):
                self.records.append({"row": "decode", **record})

    def _replay(self) -> None:
        """The table of bench/replay.py."""
        text = self._output("replay", "replay.py", "--gpu")
        if text:
            self._note({"row": "replay", "text": text})

    def _row(self, name: str, facts: dict[str, Any], *arguments: str) -> None:
        text = self._output(f"{name} {facts}", "gpu_rows.py", name, *arguments)
        if text:
            self._note({"row": name, **facts, **json.loads(text.splitlines()[-1])})

    def _output(self, title: str, script: str, *arguments: str) -> str:
        """What a script prints; nothing, and a record, if it fails."""
        command = [sys.executable, str(HERE / script), *arguments]
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=True,
                timeout=max(self.left, 1),
                env=self._environment,
            ).stdout
        except subprocess.SubprocessError as error:
            output = getattr(error, "stderr", None) or ""
            self._note({"case": title, "error": f"{error}: {output[-500:]}"})
            return ""


def main() -> int:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(options, Path(folder))
        try:
            benchmark.run()
        finally:
            benchmark.close()
            benchmark.save()
        print(benchmark.report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
