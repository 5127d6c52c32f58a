# SPDX-License-Identifier: Apache-2.0
"""BERT-base on texts of changing lengths: every call has another length than the one before.

python bench/lengths.py [--threads 2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np

import bascule

HERE = Path(__file__).parent
MODEL = HERE / "models" / "bert_base_lengths.onnx"
VOCABULARY = 30522
Runner = Callable[[dict[str, Any]], Any]


def lengths() -> list[int]:
    """Twenty between 8 and 256, in an order that neither grows nor repeats."""
    generator = np.random.default_rng(3)
    return generator.permutation(np.unique(np.linspace(8, 256, 20).astype(int))).tolist()


def export(path: Path) -> None:
    """BERT-base with axes of any size."""
    import torch
    import transformers

    from models import Adapter, set_random_weights, tokens

    config = transformers.BertConfig(attn_implementation="eager")
    model = transformers.BertModel(config).eval()
    set_random_weights(model, 50)
    module = Adapter(
        model, lambda m, ids, mask: m(input_ids=ids, attention_mask=mask).last_hidden_state
    ).eval()
    ids = tokens((1, 32), VOCABULARY, 50)
    names = ("input_ids", "attention_mask")
    torch.onnx.export(
        module,
        (ids, torch.ones_like(ids)),
        str(path),
        input_names=list(names),
        output_names=["output"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in (*names, "output")},
        opset_version=17,
        dynamo=False,
    )


def runners(path: Path, threads: int) -> dict[str, Runner]:
    """bascule, and the peers that load the model."""
    options = bascule.SessionOptions()
    options.intra_op_num_threads = threads
    session = bascule.InferenceSession(str(path), options)
    found: dict[str, Runner] = {"bascule": lambda feeds: session.run(None, feeds)[0]}
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        peer = onnxruntime.InferenceSession(str(path), settings, ["CPUExecutionProvider"])
        found["onnxruntime"] = lambda feeds: peer.run(None, feeds)[0]
    if importlib.util.find_spec("openvino"):
        import openvino

        exact = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            request = openvino.Core().compile_model(str(path), "CPU", exact).create_infer_request()
        except RuntimeError as error:
            print(f"OpenVINO does not load it: {error}")
        else:
            found["openvino"] = lambda feeds: request.infer(feeds)[0].copy()
    return found


def milliseconds(threads: int = 2, rounds: int = 3, path: Path = MODEL) -> dict[str, float]:
    """Milliseconds a call, averaged over the lengths, each the median of its rounds.

    A runtime has one round over all lengths at a time, so that each call of it follows one of
    another length, and the first round, in which plans are made, does not count.
    """
    order = lengths()
    generator = np.random.default_rng(4)
    feeds = [
        {
            "input_ids": generator.integers(0, VOCABULARY, (1, n)),
            "attention_mask": np.ones((1, n), np.int64),
        }
        for n in order
    ]
    found = runners(path, threads)
    first = {name: [run(each) for each in feeds] for name, run in found.items()}
    for name, results in first.items():
        for ours, other in zip(first["bascule"], results, strict=True):
            if np.abs(ours - other).max() > 1e-3 * np.abs(other).max():
                raise ValueError(f"{name} disagrees at {ours.shape}")
    times: dict[str, list[list[float]]] = {name: [[] for _ in order] for name in found}
    for _ in range(rounds):
        for name, run in found.items():
            time.sleep(measure.SETTLED)
            for taken, each in zip(times[name], feeds, strict=True):
                start = time.perf_counter()
                run(each)
                taken.append(time.perf_counter() - start)
    return {
        name: statistics.mean(statistics.median(taken) for taken in each) * 1e3
        for name, each in times.items()
    }


def _rows(threads: int = 2, rounds: int = 3) -> list[tuple[str, ...]]:
    if not MODEL.exists():
        with tempfile.TemporaryDirectory(dir=MODEL.parent) as folder:
            export(Path(folder) / MODEL.name)
            (Path(folder) / MODEL.name).rename(MODEL)
    found = milliseconds(threads, rounds)
    ours, *others = found.values()
    ratio = f"{ours / min(others):.2f}" if others else ""
    head = (f"{threads} threads, ms a call", *found, "ratio to the best")
    row = ("BERT-base, 20 lengths from 8 to 256", *(f"{x:.2f}" for x in found.values()), ratio)
    return [head, row]


def table(threads: int = 2, rounds: int = 3) -> str:
    return measure.table(_rows(threads, rounds))


def tables() -> list[str]:
    """With two threads and with one."""
    return [table(threads) for threads in (2, 1)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(table(arguments.threads, arguments.rounds))
