# SPDX-License-Identifier: Apache-2.0
"""BERT-base where every call has another length: the plans of a dynamic network.

python bench/lengths.py [--threads 1 2] [--folder models]
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import SETTLED, table

import bascule

HERE = Path(__file__).parent
LONGEST = 256
CALLS = 40


def export(path: Path) -> None:
    """Write the network with a free length."""
    import torch
    import transformers

    import models

    encoder = transformers.BertModel(transformers.BertConfig(), add_pooling_layer=False).eval()
    models.set_random_weights(encoder, 0)
    module = models.Adapter(
        encoder,
        lambda m, ids, mask: m(input_ids=ids, attention_mask=mask, return_dict=False)[0],
    ).eval()
    ids = torch.randint(0, 30000, (1, 96))
    length = {1: torch.export.Dim("length", min=2, max=512)}
    program = torch.onnx.export(
        module,
        (ids, torch.ones_like(ids)),
        input_names=["input_ids", "attention_mask"],
        dynamic_shapes=((length, length),),
        dynamo=True,
    )
    assert program is not None
    program.save(path, external_data=False)


def runners(path: Path, threads: int) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """By runtime: a function that runs the network."""
    made: dict[str, Callable[[dict[str, Any]], Any]] = {}
    for name in ("bascule", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            continue
        ort: Any = bascule if name == "bascule" else importlib.import_module(name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        made[name] = lambda feeds, session=session: session.run(None, feeds)
    if importlib.util.find_spec("openvino"):
        import openvino

        hints = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        made["openvino"] = openvino.Core().compile_model(path, "CPU", hints)
    return made


def measure(path: Path, threads: int) -> dict[str, float]:
    """By runtime: the mean time of a call, in ms, every call with another length."""
    generator = np.random.default_rng(0)
    made = runners(path, threads)
    lengths = generator.permutation(np.arange(8, LONGEST + 1))[: CALLS + 2]
    seconds = dict.fromkeys(made, 0.0)
    for call, length in enumerate(lengths):
        ids = generator.integers(0, 30000, (1, int(length)))
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for name, run in made.items():
            time.sleep(SETTLED)
            start = time.perf_counter()
            run(feeds)
            if call >= 2:
                seconds[name] += time.perf_counter() - start
    return {name: total / CALLS * 1e3 for name, total in seconds.items()}


def tables(folder: Path = HERE / "models", threads: tuple[int, ...] = (2, 1)) -> list[str]:
    path = folder / "bert_lengths.onnx"
    if not path.exists():
        export(path)
    measured = {count: measure(path, count) for count in threads}
    rows = [("BERT, every call another length, ms", *measured[threads[0]], "ratio to the best")]
    for count, times in measured.items():
        ours, *peers = times.values()
        ratio = f"{ours / min(peers):.2f}" if peers else ""
        rows.append((f"{count} threads", *(f"{ms:.1f}" for ms in times.values()), ratio))
    return [table(rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "models")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    options = parser.parse_args()
    print("\n".join(tables(options.folder, tuple(options.threads))))


if __name__ == "__main__":
    main()
