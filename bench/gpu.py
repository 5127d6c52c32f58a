# SPDX-License-Identifier: Apache-2.0
"""Time bascule on a GPU beside torch, torch.compile and onnxruntime.

    python bench/weights.py strip bench/models/*.onnx --out bench/models/stripped
    python bench/gpu.py bench/models/stripped --minutes 9 --json gpu.json --markdown gpu.md

Needs no network. FOLDER holds NAME.onnx.stripped and NAME_batch32.onnx.stripped, made by
bench/weights.py from what bench/models.py exports. Each model has a process of its own. They make
their sessions, and compile for torch, side by side; then each measures in its turn, while nothing
else runs. What is not compiled in time is left out. A process that dies is started once more,
without the case at fault. With --cache FOLDER torch.compile finds what an earlier run left there.
Without a GPU everything runs on the CPU: a rehearsal, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu_case import Options
from gpu_tables import line, report

HERE = Path(__file__).parent
MODELS = ("resnet50", "mobilenetv2", "vit_b16", "convnext_t", "bert_base", "gpt2")
PEERS = ("eager", "compile", "onnxruntime")
ROWS = {"machine": 12.0, "session": 12.0, "decode": 75.0}
"""What is measured besides the models, and about how many seconds it takes: a session's of each."""
GRACE = 20.0
"""Seconds that a process gets to end a step by itself once the step's time is over."""


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


@dataclass
class Worker:
    """The process of one model."""

    model: str
    process: subprocess.Popen[str]
    log: Path
    skip: list[str] = field(default_factory=list)
    current: str = ""
    """The case it works on."""
    was_killed: bool = False

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """With all that it has started."""
        self.was_killed = True
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


class Benchmark:
    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self._options = options
        self._work = work
        self._begin = time.monotonic()
        self._end = self._begin + options.minutes * 60
        self._events: queue.Queue[tuple[Worker, str, Any]] = queue.Queue()
        self._workers: dict[str, Worker] = {}
        self.records: list[dict[str, Any]] = []

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def run(self) -> None:
        options = self._options
        for model in options.models:
            self._start(model, [])
        pending = list(self._workers.values())
        self._prepare(pending)
        if "machine" in options.rows:
            self._row("machine", {})
        began = time.monotonic()
        self._turns("measure", pending)
        took = time.monotonic() - began
        self._again([worker for worker in pending if not worker.is_alive])
        self.save()
        workers = list(self._workers.values())
        if "compile" in options.peers:
            self._step("compile", workers, min(options.compile_seconds, self._spare(took)))
            self._turns("compare", workers)
            self.save()
        if options.kernels:
            self._turns("profile", workers)
            self.save()
        self.close()
        if "session" in options.rows:
            self._sessions()
            self.save()
        if "decode" in options.rows:
            self._decode()
        self.save()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.kill()

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

    def _start(self, model: str, skip: list[str]) -> Worker:
        options = self._options
        cores = len(os.sched_getaffinity(0))
        threads = max(cores // len(options.models), 1)
        asked = Options(
            model=model,
            stripped=str(options.folder),
            work=str(self._work),
            cache=str(options.cache or self._work / "compiled"),
            types=options.types,
            batches=options.batches,
            peers=options.peers,
            compile_mode=options.compile_mode,
            seconds=options.seconds,
            kernels=options.kernels,
            explain=options.explain,
            threads=threads,
            skip=skip,
        )
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TORCHINDUCTOR_CACHE_DIR": str(self._work / "inductor"),
            "TORCHINDUCTOR_COMPILE_THREADS": str(max(cores // 2, 1)),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
            "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
        }
        log = self._work / f"{model}.log"
        with log.open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "gpu_case.py"), json.dumps(asdict(asked))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                process_group=0,
            )
        worker = Worker(model, process, log, skip)
        self._workers[model] = worker
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        for text in worker.process.stdout:
            kind, _, record = text.partition(" ")
            self._events.put((worker, kind, json.loads(record)))
        worker.process.wait()
        self._events.put((worker, "END", None))

    def _again(self, dead: list[Worker]) -> None:
        """Start once more what died, without the cases at fault."""
        started = [self._start(each.model, [*each.skip, each.current]) for each in dead]
        if started:
            self._prepare(started)
            self._turns("measure", started)

    def _prepare(self, workers: list[Worker]) -> None:
        self._step("prepare", workers, self._options.prepare_seconds)

    def _turns(self, step: str, workers: Iterable[Worker]) -> None:
        for worker in workers:
            self._step(step, [worker], self._options.turn_seconds)

    def _step(self, step: str, workers: Iterable[Worker], seconds: float) -> None:
        """Let processes do something side by side, and wait until all have."""
        seconds = min(seconds, self.left - 5)
        waiting = [worker for worker in workers if worker.is_alive]
        if seconds <= 0 or not waiting:
            return
        for worker in waiting:
            self._tell(worker, f"{step} {seconds}\n")
        limit = min(time.monotonic() + seconds + GRACE, self._end)
        while waiting:
            try:
                worker, kind, record = self._events.get(timeout=max(limit - time.monotonic(), 0.1))
            except queue.Empty:
                for worker in waiting:
                    self._note({"case": worker.current or worker.model, "error": f"{step} hangs"})
                    worker.kill()
                return
            self._take(worker, kind, record)
            if kind in ("DONE", "END") and worker in waiting:
                waiting.remove(worker)

    def _tell(self, worker: Worker, text: str) -> None:
        assert worker.process.stdin is not None
        try:
            worker.process.stdin.write(text)
            worker.process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is reported

    def _take(self, worker: Worker, kind: str, record: Any) -> None:
        if kind == "BEGIN":
            worker.current = record
        elif kind in ("RECORD", "ERROR"):
            self._note(record)
        elif kind == "COMPILED":
            whence = " from the cache" if record["from_cache"] else ""
            self._say(f"{record['case']} compiled{whence} in {record['compile_s']:.1f} s")
        elif kind == "DONE":
            late = ", out of time" if record["late"] else ""
            self._say(f"{worker.model} {record['step']}: {record['s']:.1f} s{late}")
        elif kind == "END" and worker.process.returncode and not worker.was_killed:
            code, tail = worker.process.returncode, worker.log.read_text()[-2000:]
            print(tail, file=sys.stderr)
            self._note({"case": worker.current or worker.model, "error": f"ended with {code}"})

    def _note(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self._say(line(record))

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begin:5.0f}] {text}", flush=True)

    # --- single figures

    def _spare(self, measured: float) -> float:
        """Seconds that compiling may take, if measuring takes as long as it did."""
        turns = 2 * measured if self._options.kernels else measured
        asked, models = self._options.rows, len(self._options.models)
        rows = sum(ROWS[each] * (models if each == "session" else 1) for each in asked)
        return self.left - turns - rows - GRACE

    def _sessions(self) -> None:
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
            subprocess.run(command, check=False, timeout=self.left)
        except subprocess.TimeoutExpired:
            self._note({"case": "decode", "error": "out of time"})
        if found.exists():
            for record in json.loads(found.read_text()):
                self.records.append({"row": "decode", **record})

    def _row(self, name: str, facts: dict[str, Any], *arguments: str) -> None:
        if self.left < ROWS[name]:
            return
        command = [sys.executable, str(HERE / "gpu_rows.py"), name, *arguments]
        try:
            text = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=self.left
            ).stdout
        except subprocess.SubprocessError as error:
            output = getattr(error, "stderr", None) or ""
            self._note({"case": f"{name} {facts}", "error": f"{error}: {output[-500:]}"})
        else:
            self._note({"row": name, **facts, **json.loads(text.splitlines()[-1])})


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
