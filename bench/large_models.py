# SPDX-License-Identifier: Apache-2.0
"""What the tools take for a model of 2 GB, against reading its files.

    python bench/large_models.py --folder DIR [--make] [--cache cold warm] [--data inside external]

`--make` writes the models into the folder first (8.4 GB). Each command is a process of its own, in
turns with the readers; cold means that the system's cache was dropped before (as root, on Linux).
Memory is the largest resident set of the process, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import table

LAYERS, WIDTH = 118, 2048
"""A MatMul, an Add and a Relu each: 1.98 GB of weights together, just under protobuf's limit."""

_READ = """
import sys
block = bytearray(1 << 20)
for path in sys.argv[1:]:
    with open(path, "rb", buffering=0) as file:
        while file.readinto(block):
            pass
"""

_COPY = "copied by cp"
_PYTHON = "read by Python, blocks of 1 MB"
_DD = "read by dd, blocks of 1 MB"


def make(folder: Path) -> None:
    """Write old-external.onnx, old-inside.onnx, and the same with half of the weights changed."""
    import bascule

    folder.mkdir(parents=True, exist_ok=True)
    for name, is_new in (("old", False), ("new", True)):
        path = folder / f"{name}-external.onnx"
        _write(path, is_new)
        # The same names and data, in one file.
        bascule.edit(str(path)).save(str(folder / f"{name}-inside.onnx"), external_data=False)


def _write(path: Path, is_new: bool) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    nodes, weights, offset = [], [], 0
    location = f"{path.name}.data"
    with open(path.with_name(location), "wb") as file:
        for layer in range(LAYERS):
            names = f"w{layer}", f"b{layer}"
            for name, shape in zip(names, ((WIDTH, WIDTH), (WIDTH,))):
                array = random.standard_normal(shape, np.float32) / WIDTH**0.5
                if is_new and layer % 2:
                    array *= 1.001
                tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
                tensor.data_location = TensorProto.EXTERNAL
                entries = {"location": location, "offset": offset, "length": array.nbytes}
                for key, value in entries.items():
                    tensor.external_data.add(key=key, value=str(value))
                weights.append(tensor)
                file.write(array.tobytes())
                offset += array.nbytes
            nodes += [
                helper.make_node("MatMul", [f"h{layer}", names[0]], [f"m{layer}"]),
                helper.make_node("Add", [f"m{layer}", names[1]], [f"a{layer}"]),
                helper.make_node("Relu", [f"a{layer}"], [f"h{layer + 1}"]),
            ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH])
        for name in ("h0", f"h{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    opset = helper.make_opsetid("", 21)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


def commands(folder: Path, data: str) -> dict[str, tuple[list[str], int]]:
    """What is measured, each with the number of models that it has to read."""
    bascule = [sys.executable, "-m", "bascule.cli"]
    old, new = (str(folder / f"{name}-{data}.onnx") for name in ("old", "new"))
    files = [old + (".data" if data == "external" else "")]
    cut = ["edit", "cut", old, "--inputs", "h1", "--outputs", f"h{LAYERS - 1}"]
    out = str(folder / "out.onnx")
    found = {
        _DD: (["dd", f"if={files[0]}", "of=/dev/null", "bs=1M", "status=none"], 1),
        _PYTHON: ([sys.executable, "-S", "-c", _READ, *files], 1),
        "info": ([*bascule, "info", old], 1),
        "digest": ([*bascule, "digest", old], 1),
        "diff": ([*bascule, "diff", old, new], 2),
        _COPY: (["cp", files[0], out], 1),
        "edit cut": ([*bascule, *cut, "-o", out], 1),
    }
    if data == "external":
        found["edit cut --share-data"] = ([*bascule, *cut, "-o", out, "--share-data"], 1)
    return found


def drop_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def measure(command: list[str], space: str) -> tuple[float, float]:
    """Seconds, and MB of memory at most; byte code is kept in `space`."""
    variables = {**os.environ, "PYTHONPYCACHEPREFIX": space, "PYTHONDONTWRITEBYTECODE": ""}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=variables)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):  # 1: models differ
        raise RuntimeError(f"{' '.join(command)}: exit status {code}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def run(folder: Path, data: str, cache: str, repeats: int) -> list[list[str]]:
    todo = commands(folder, data)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
    with tempfile.TemporaryDirectory() as space:
        for turn in range(repeats + 1):  # the first writes byte code and fills the system's cache
            for name, (command, _) in todo.items():
                for file in folder.glob("out.onnx*"):
                    file.unlink()
                drop_cache() if cache == "cold" else os.sync()
                taken = measure(command, space)
                if turn:
                    found[name].append(taken)
    seconds = {name: statistics.median(s for s, _ in each) for name, each in found.items()}
    fastest = min(seconds[_DD], seconds[_PYTHON])
    rows = []
    for name, (_, models) in todo.items():
        times = [s for s, _ in found[name]]
        rows.append([
            data, cache, name, f"{seconds[name]:.2f}", f"{min(times):.2f} to {max(times):.2f}",
            f"{seconds[name] / fastest / models:.2f}", f"{max(m for _, m in found[name]):.0f}",
        ])  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--make", action="store_true", help="write the models first")
    parser.add_argument("--cache", nargs="+", default=["cold", "warm"], choices=["cold", "warm"])
    kinds = ["inside", "external"]
    parser.add_argument("--data", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.make:  # in a process of its own: a child's peak memory is its parent's at least
        code = "import sys; from pathlib import Path; import large_models"
        code += "; large_models.make(Path(sys.argv[1]))"
        folder = str(options.folder.resolve())
        subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=Path(__file__).parent)
    rows = [["data", "cache", "what", "s", "spread", "times reading", "MB"]]
    for data in options.data:
        for cache in options.cache:
            rows += run(options.folder, data, cache, options.repeats)
    print(table(rows))


if __name__ == "__main__":
    main()
