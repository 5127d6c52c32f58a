# SPDX-License-Identifier: Apache-2.0
"""Export the small models that test_models.py runs.

    python -m tests.models.make [NAME ...]

Each is a tiny configuration of a real architecture with random weights, exported by torch in one of
its two ways, and is written as data/NAME.onnx with data/NAME.npz: the inputs and torch's outputs of
every run, under "RUN/input/NAME" and "RUN/output/NAME". Needs torch and transformers; where
onnxruntime is installed the models are checked with it.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from tests.models.zoo import ZOO
from tests.models.zoo.case import Case

DATA = Path(__file__).parent / "data"
LARGEST = 1_000_000


def export(case: Case) -> onnx.ModelProto:
    """The case's module as torch exports it, without the stack traces of this machine."""
    names = list(case.runs[0])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        axes = {name: dict(case.axes[name]) for name in case.axes}
        if case.dynamo:
            dynamic = {"dynamic_shapes": (tuple(axes.get(name, {}) for name in names),)}
        else:
            dynamic = {"dynamic_axes": axes}
        torch.onnx.export(
            case.module,
            tuple(case.runs[0].values()),
            path,
            input_names=names,
            output_names=list(case.outputs),
            opset_version=case.opset,
            dynamo=case.dynamo,
            external_data=False,
            **(dynamic if axes else {}),
        )
        model = onnx.load(path)
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        graph.ClearField("metadata_props")
        for part in (*graph.node, *graph.value_info, *graph.input, *graph.output):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
        for initializer in graph.initializer:
            initializer.ClearField("metadata_props")
        graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return model


@torch.no_grad()
def expected(case: Case) -> dict[str, np.ndarray]:
    """The inputs and torch's outputs of every run."""
    arrays: dict[str, np.ndarray] = {}
    for number, run in enumerate(case.runs):
        result = case.module(*run.values())
        outputs = result if isinstance(result, tuple) else (result,)
        for name, tensor in run.items():
            arrays[f"{number}/input/{name}"] = tensor.numpy()
        for name, tensor in zip(case.outputs, outputs, strict=True):
            arrays[f"{number}/output/{name}"] = tensor.numpy()
    return arrays


def check_alive(name: str, arrays: dict[str, np.ndarray]) -> None:
    for key, array in arrays.items():
        if "/output/" not in key or array.dtype.kind != "f":
            continue
        if not np.isfinite(array).all() or not 0.01 < array.std() < 30:
            raise ValueError(f"{name}: {key}: deviation {array.std()}")


def check_with_onnxruntime(path: Path, arrays: dict[str, np.ndarray]) -> float:
    """The largest error of any output, relative to its largest value; -1 without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        return -1.0
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for number in sorted({key.split("/")[0] for key in arrays}):
        feeds = {
            key.split("/")[2]: array
            for key, array in arrays.items()
            if key.startswith(f"{number}/input/")
        }
        names = [key for key in arrays if key.startswith(f"{number}/output/")]
        actual = session.run([key.split("/")[2] for key in names], feeds)
        for key, got in zip(names, actual, strict=True):
            want = arrays[key]
            if got.shape != want.shape or got.dtype != want.dtype:
                raise ValueError(f"{path.stem}: {key}: {got.dtype}{got.shape}")
            if want.size:
                difference = np.abs(want.astype(np.float64) - got.astype(np.float64)).max()
                worst = max(worst, float(difference / (np.abs(want).max() or 1)))
    if worst > (1e-2 if any(array.dtype == np.float16 for array in arrays.values()) else 1e-4):
        raise ValueError(f"{path.stem}: relative error {worst}")
    return worst


def make(name: str) -> str:
    """Write one model, and say how large it is and how far onnxruntime is from torch."""
    torch.manual_seed(0)
    case = ZOO[name]()
    arrays = expected(case)
    check_alive(name, arrays)
    model = export(case)
    onnx.checker.check_model(model)
    path = DATA / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{path}: {size} bytes")
    error = check_with_onnxruntime(path, arrays)
    return f"{name}: {size / 1000:.0f} kB, {len(model.graph.node)} nodes, error {error:.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Export the small test models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ZOO))
    arguments = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")  # the exporters warn of their own internals
    failed = []
    for name in arguments.names or ZOO:
        try:
            print(make(name), flush=True)
        except Exception as error:  # the others are still worth making
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "all made")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
