# SPDX-License-Identifier: Apache-2.0
"""Time steps of decoders on a GPU against its memory bandwidth.

    python bench/gpu_decode.py --json decode.json

Each model is made here, with random weights (bench/decoders.py); its inputs and its cache stay on
the GPU, and the cache is bound as input and output at once. A step is timed in a stream of steps,
at the position where the cache is nearly full; its gigabytes a second are those of the matrices,
each of which it has to read once, and the fraction is that of what a copy on the device moves.
"launches" counts what the GPU is told to do for a step, copies included. A small model of each kind
is compared with the CPU provider over several steps, whose positions differ from step to step.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from decoders import Decoder, make
from measure import table

CASES = ("gpt2-124m float16", "gpt2-124m float32", "gpt2_growing-124m float16", "llama-1b float16")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), help="NAME TYPE, in one argument")
    parser.add_argument("--seconds", type=float, default=0.5, help="of measuring each case")
    parser.add_argument("--limit", type=float, default=60, help="seconds after which none begins")
    parser.add_argument("--kernels", type=int, default=0, help="show the N costliest GPU kernels")
    parser.add_argument("--no-check", action="store_true", help="do not compare with the CPU")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def wait() -> None:
    if on_gpu():
        import torch

        torch.cuda.synchronize()


def bandwidth() -> float:
    """Bytes read and written a second by a copy on the device."""
    if not on_gpu():
        return float("nan")
    import torch

    source = torch.zeros(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    for _ in range(3):
        target.copy_(source)
    events[0].record()
    for _ in range(20):
        target.copy_(source)
    events[1].record()
    wait()
    return float(20 * 2 * source.nbytes / events[0].elapsed_time(events[1]) * 1e3)


class Stepper:
    """A session whose inputs, cache and outputs are bound on the device."""

    def __init__(self, decoder: Decoder, providers: list[Any]) -> None:
        import bascule

        self._decoder = decoder
        self._device = "cuda" if "CUDAExecutionProvider" in str(providers) else "cpu"
        self.session = bascule.InferenceSession(str(decoder.path), providers=providers)
        self._binding = self.session.io_binding()
        self._inputs = {name: self._bound(x) for name, x in decoder.inputs(0, 0).items()}
        cache = {name: self._value(x) for name, x in decoder.new_cache().items()}
        for name, output in decoder.cache.items():
            self._binding.bind_ortvalue_input(name, cache[name])
            if decoder.kind == "gpt2_growing":
                self._binding.bind_output(output, self._device)
            else:
                self._binding.bind_ortvalue_output(output, cache[name])
        self._binding.bind_output("logits", self._device)
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)

    def _value(self, array: Any) -> Any:
        import bascule

        return bascule.OrtValue.ortvalue_from_numpy(array, self._device, 0)

    def _bound(self, array: Any) -> Any:
        return self._value(array)

    def move_to(self, token: int, position: int) -> None:
        """The next steps make the token at `position`."""
        for name, array in self._decoder.inputs(token, position).items():
            self._inputs[name].update_inplace(array)

    def step(self) -> None:
        self.session.run_with_iobinding(self._binding)

    def logits(self) -> np.ndarray[Any, Any]:
        values = dict(zip(self._names(), self._binding.get_outputs()))
        return np.asarray(values["logits"].numpy(), np.float32)

    def _names(self) -> list[str]:
        return [*self._decoder.cache.values(), "logits"]


def compare(name: str, dtype: str, folder: Path) -> float:
    """The largest difference of logits from the CPU provider's in float32, over several steps."""
    length, decoders = 96, {}
    for each in (dtype, "float32"):
        decoders[each] = make(name, folder, np.dtype(each), length=length)
    cuda = ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_gpu() else []
    ours = Stepper(decoders[dtype], cuda or ["CPUExecutionProvider"])
    exact = Stepper(decoders["float32"], ["CPUExecutionProvider"])
    worst = 0.0
    for position in range(40, 46):
        if ours._decoder.kind == "gpt2_growing":
            position = length - 1
        for stepper in (ours, exact):
            stepper.move_to(position % 7, position)
            stepper.step()
        want, got = exact.logits(), ours.logits()
        worst = max(worst, float(np.abs(want - got).max() / np.abs(want).max()))
    return worst


def timed(step: Callable[[], None], seconds: float) -> float:
    """Seconds of a step in a stream of steps: the median of several streams."""
    for _ in range(5):
        step()
    wait()
    begin = time.perf_counter()
    step()
    wait()
    count = max(int(seconds / 7 / (time.perf_counter() - begin)), 1)
    found = []
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        found.append((time.perf_counter() - begin) / count)
    return sorted(found)[3]


def kernels(step: Callable[[], None]) -> list[tuple[str, float, float]]:
    """(name, microseconds, launches) of what a step does on the GPU, costliest first."""
    import torch

    calls = 5
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(calls):
            step()
        wait()
    events = [event for event in profile.key_averages() if event.self_device_time_total]
    events.sort(key=lambda event: -event.self_device_time_total)
    return [
        (event.key, event.self_device_time_total / calls, event.count / calls) for event in events
    ]


def measure(case: str, copied: float, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What there is to say of a case."""
    name, dtype = case.split()
    record: dict[str, Any] = {"case": case}
    if not options.no_check:
        try:
            record["difference"] = compare(name.split("-")[0] + "-tiny", dtype, folder)
        except Exception:
            print(traceback.format_exc(), flush=True)
    begin = time.perf_counter()
    decoder = make(name, folder, np.dtype(dtype))
    record["make_s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    cuda = ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_gpu() else []
    stepper = Stepper(decoder, cuda or ["CPUExecutionProvider"])
    record["load_s"] = time.perf_counter() - begin
    rows = stepper.session.explain().rows
    record["nodes"] = len(rows)
    record["not_on_gpu"] = sum(row.provider != "CUDAExecutionProvider" for row in rows)
    stepper.move_to(1, decoder.length - 2)
    begin = time.perf_counter()
    stepper.step()
    record["first_step_s"] = time.perf_counter() - begin
    seconds = timed(stepper.step, options.seconds)
    record["ms"] = seconds * 1e3
    record["weights_mb"] = decoder.weight_bytes / 1e6
    record["gb_per_s"] = decoder.weight_bytes / seconds / 1e9
    record["fraction"] = decoder.weight_bytes / seconds / copied
    # A step at another position each time, its inputs written by the host.
    turns = 20
    begin = time.perf_counter()
    for turn in range(turns):
        stepper.move_to(turn % 5, decoder.length - 2 - turn % 5)
        stepper.step()
    wait()
    record["moving_ms"] = (time.perf_counter() - begin) / turns * 1e3
    if on_gpu():
        found = kernels(stepper.step)
        record["launches"] = sum(launches for _, _, launches in found)
        record["busy_ms"] = sum(spent for _, spent, _ in found) / 1e3
        record["kernels"] = found[: options.kernels]
    decoder.path.with_suffix(".weights").unlink()
    return record


def run(cases: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the cases, printing each as it is done; one that fails leaves its error."""
    copied = bandwidth()
    print(f"a copy on the device moves {copied / 1e9:.0f} GB/s", flush=True)
    records: list[dict[str, Any]] = []
    begin = time.perf_counter()
    for case in cases:
        if time.perf_counter() - begin > options.limit:
            print(f"no time for {case}")
            break
        with tempfile.TemporaryDirectory() as folder:
            try:
                record = measure(case, copied, Path(folder), options)
            except Exception as error:
                print(traceback.format_exc(), flush=True)
                record = {"case": case, "error": f"{type(error).__name__}: {error}"[:1000]}
        records.append(record)
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in record.items()}
        print(" ".join(f"{k}={v}" for k, v in shown.items() if k != "kernels"), flush=True)
        for kernel, spent, launches in record.get("kernels", ()):
            print(f"    {spent:9.1f} us {launches:6.0f}x  {kernel[:100]}", flush=True)
    return records


def summary(records: list[dict[str, Any]]) -> str:
    """One table."""
    rows = [("case", "ms a step", "GB/s", "of a copy", "launches", "GPU busy ms", "difference")]
    for record in records:
        if "error" not in record:
            rows.append(
                (
                    record["case"],
                    f"{record['ms']:.3f}",
                    f"{record['gb_per_s']:.0f}",
                    f"{record['fraction']:.2f}",
                    f"{record.get('launches', float('nan')):.0f}",
                    f"{record.get('busy_ms', float('nan')):.3f}",
                    f"{record.get('difference', float('nan')):.1e}",
                )
            )
    return table(rows)


def main() -> int:
    options = parse_arguments()
    records = run(options.cases, options)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))
    print(summary(records))
    return 0 if all("error" not in record for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
