# SPDX-License-Identifier: Apache-2.0
"""What the host needs to start a replayed run, in microseconds a call.

    PYTHONPATH=$PWD/python:$PWD python bench/replay.py [--gpu]

Without --gpu the device is a stub on which nothing is done, so what is left is the Python code
between the caller and the launch of a graph. With --gpu it is a GPU: "started" is the time until a
call returns that does not wait for its result, "done" that of a call which waits.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx.parser

import bascule

COUNTS = (1, 3, 8)
"""How many inputs a model has."""


def model(inputs: int) -> bytes:
    """The sum of `inputs` vectors."""
    names = [f"x{i}" for i in range(inputs)]
    text = ", ".join(f"float[64] {name}" for name in names)
    body = f"y = Sum({', '.join(names)})" if inputs > 1 else "y = Neg(x0)"
    source = f'<ir_version: 10, opset_import: ["" : 21]> g ({text}) => (float[64] y) {{ {body} }}'
    found: bytes = onnx.parser.parse_model(source).SerializeToString()
    return found


class Nothing:
    """A captured graph that does nothing."""

    def launch(self) -> None:
        pass


def stub_session(data: bytes) -> Any:
    from tests.support.cuda_emulation import EmulatedDevice
    from tests.support.cuda_session import EmulatedSession

    class Stub(EmulatedDevice):
        def capture(self, work: Callable[[], None]) -> Any:
            super().capture(work)
            return Nothing()

        def copy(self, target: int, source: int, nbytes: int) -> None:
            pass

    class Session(EmulatedSession):
        device = Stub()

    return Session(data)


def gpu_session(data: bytes) -> Any:
    return bascule.InferenceSession(
        data, providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
    )


def paths(session: Any, options: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The ways to run: (name, call)."""
    feeds = {
        arg.name: np.random.default_rng(i).standard_normal(64, np.float32)
        for i, arg in enumerate(session.get_inputs())
    }
    values = {k: bascule.OrtValue.ortvalue_from_numpy(v, "cuda", 0) for k, v in feeds.items()}
    for bound in (True, False):
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        if bound:
            target = bascule.OrtValue.ortvalue_from_numpy(np.zeros(64, np.float32), "cuda", 0)
            binding.bind_ortvalue_output("y", target)
        else:
            binding.bind_output("y", "cuda")
        name = "bound output" if bound else "output on the GPU"
        yield name, lambda b=binding: session.run_with_iobinding(b, options)  # type: ignore[misc]
        if not bound:

            def rebound(b: Any = binding) -> None:
                b.bind_ortvalue_input("x0", values["x0"])
                session.run_with_iobinding(b, options)

            yield "bound anew each time", rebound
    yield "run_with_ort_values", lambda: session.run_with_ort_values(["y"], values, options)
    yield "run, GPU arrays", lambda: session.run(None, values, options)
    yield "run, NumPy", lambda: session.run(None, feeds, options)


def microseconds(call: Callable[[], Any], synchronize: Callable[[], None]) -> float:
    """Median time of a call, after the plans are made."""
    for _ in range(20):
        call()
    synchronize()
    times = []
    for _ in range(2000):
        begin = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - begin)
        if len(times) % 50 == 0:
            synchronize()
    return statistics.median(times) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", action="store_true")
    on_gpu = parser.parse_args().gpu
    if not on_gpu:
        import pytest
        from tests.support import gpu_arrays

        gpu_arrays.use(pytest.MonkeyPatch())
    started = bascule.RunOptions()
    started.add_run_config_entry("disable_synchronize_execution_providers", "1")
    kinds = (("started", started), ("done", None)) if on_gpu else (("stub", None),)
    print(f"{'us a call':24}" + "".join(f"{k} {n:<10}" for n in COUNTS for k, _ in kinds))
    rows: dict[str, list[float]] = {}
    for count in COUNTS:
        session = (gpu_session if on_gpu else stub_session)(model(count))
        for _, options in kinds:
            for name, call in paths(session, options):
                wait = session._cuda.device.synchronize
                rows.setdefault(name, []).append(microseconds(call, wait))
    for name, found in rows.items():
        print(f"{name:24}" + "".join(f"{us:<12.1f}" for us in found))


if __name__ == "__main__":
    main()
