# SPDX-License-Identifier: Apache-2.0
"""The processes of bench/gpu.py: told what to do by lines, stopped, continued and ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_case import Options

GRACE = 20.0
"""Seconds that a process gets to end a step by itself once the step's time is over."""


@dataclass
class Worker:
    """A process that works on a model."""

    options: Options
    process: subprocess.Popen[str]
    log: Path
    current: str = ""
    """The case it works on."""
    was_killed: bool = False

    @property
    def model(self) -> str:
        return self.options.model

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is reported
            self.process.stdin.write(text)
            self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """A signal to the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.was_killed = True
        self.send(signal.SIGKILL)
        self.process.wait()


class Workers:
    """All processes, and what they report.

    Args:
        note: takes a record.
        say: takes a line of progress.
        end: when all must be over, by time.monotonic().
    """

    def __init__(
        self, note: Callable[[dict[str, Any]], None], say: Callable[[str], None], end: float
    ) -> None:
        self._note = note
        self._say = say
        self._end = end
        self._events: queue.Queue[tuple[Worker, str, Any]] = queue.Queue()
        self._all: list[Worker] = []

    def start(self, script: Path, options: Options, environment: Mapping[str, str]) -> Worker:
        log = Path(options.work) / f"{options.model}.{script.stem}.log"
        with log.open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, str(script), json.dumps(asdict(options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                process_group=0,
            )
        worker = Worker(options, process, log)
        self._all.append(worker)
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def step(self, step: str, workers: Iterable[Worker], seconds: float) -> None:
        """Let processes do something side by side, and wait until all have."""
        seconds = min(seconds, self._end - time.monotonic() - 5)
        asked = [worker for worker in workers if worker.is_alive]
        if seconds <= 0:
            return
        for worker in asked:
            worker.tell(f"{step} {seconds}\n")
        for worker in self.wait(asked, seconds + GRACE):
            self._note({"case": worker.current or worker.model, "error": f"{step} hangs"})
            worker.kill()

    def wait(self, workers: Iterable[Worker], seconds: float) -> list[Worker]:
        """Wait until processes have ended their step or themselves; those that have not in time."""
        limit = min(time.monotonic() + seconds, self._end)
        waiting = list(workers)
        while waiting:
            try:
                worker, kind, record = self._events.get(timeout=max(limit - time.monotonic(), 0.1))
            except queue.Empty:
                break
            self._take(worker, kind, record)
            if kind in ("DONE", "END") and worker in waiting:
                waiting.remove(worker)
            if time.monotonic() > limit:
                break
        return waiting

    def close(self) -> None:
        for worker in self._all:
            worker.kill()

    def _read(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        for text in worker.process.stdout:
            kind, _, record = text.partition(" ")
            self._events.put((worker, kind, json.loads(record)))
        worker.process.wait()
        self._events.put((worker, "END", None))

    def _take(self, worker: Worker, kind: str, record: Any) -> None:
        if kind == "BEGIN":
            worker.current = record
        elif kind in ("RECORD", "ERROR"):
            self._note(record)
        elif kind == "DONE":
            late = ", out of time" if record["late"] else ""
            self._say(f"{worker.model} {record['step']}: {record['s']:.1f} s{late}")
        elif kind == "END" and worker.process.returncode and not worker.was_killed:
            code, tail = worker.process.returncode, worker.log.read_text()[-2000:]
            print(tail, file=sys.stderr)
            self._note({"case": worker.current or worker.model, "error": f"ended with {code}"})


@contextlib.contextmanager
def stopped(workers: Iterable[Worker]) -> Iterator[None]:
    """Nothing of these processes runs meanwhile."""
    workers = [worker for worker in workers if worker.is_alive]
    for worker in workers:
        worker.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.send(signal.SIGCONT)
