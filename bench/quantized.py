# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 and BERT-base as onnxruntime's tools quantize them, beside onnxruntime.

    python bench/models.py resnet50 bert_base
    python bench/quantized.py

Differences are norms relative to that of onnxruntime's optimized result. A rounding that falls the
other way once grows through the layers of a network of random weights: what onnxruntime differs
from itself, with its optimizer off, says how far that goes.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from measure import SETTLED, medians, table

import bascule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnxruntime import quantization as tools

HERE = Path(__file__).parent
UNSIGNED, SIGNED = tools.QuantType.QUInt8, tools.QuantType.QInt8
QDQ, OPERATORS = tools.QuantFormat.QDQ, tools.QuantFormat.QOperator

STATIC: dict[str, dict[str, Any]] = {
    "QDQ S8S8": {"quant_format": QDQ, "activation_type": SIGNED},
    "QDQ U8S8 by channel": {
        "quant_format": QDQ,
        "activation_type": UNSIGNED,
        "per_channel": True,
        "reduce_range": True,
    },
    "operators U8S8": {"quant_format": OPERATORS, "activation_type": UNSIGNED},
}
DYNAMIC: dict[str, dict[str, Any]] = {
    "dynamic S8": {"weight_type": SIGNED},
    "dynamic U8 by channel": {"weight_type": UNSIGNED, "per_channel": True},
}


class Feeds(tools.CalibrationDataReader):
    """The benchmark's inputs, and some like them."""

    def __init__(self, feeds: dict[str, Any], count: int = 4) -> None:
        rng = np.random.default_rng(0)
        self._feeds: Iterator[Any] = iter(
            [feeds]
            + [
                {
                    name: rng.standard_normal(x.shape).astype(x.dtype)
                    if x.dtype.kind == "f"
                    else rng.permuted(x, axis=-1)
                    for name, x in feeds.items()
                }
                for _ in range(count - 1)
            ]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def quantize(source: Path, target: Path, how: str, feeds: dict[str, Any]) -> None:
    if how in DYNAMIC:
        tools.quantize_dynamic(source, target, **DYNAMIC[how])
    else:
        options = {"weight_type": SIGNED, **STATIC[how]}
        tools.quantize_static(source, target, Feeds(feeds), **options)


def session(package: Any, path: Path, level: str) -> Any:
    options = package.SessionOptions()
    options.graph_optimization_level = getattr(package.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    return package.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def difference(a: Any, b: Any) -> str:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return f"{np.linalg.norm(a - b) / np.linalg.norm(b):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["resnet50", "bert_base"])
    parser.add_argument("--folder", type=Path, default=HERE / "models")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    head = ("model", "quantized", "difference", "of onnxruntime to itself", "of it to float32")
    rows = [(*head, "same argmax", "bascule ms", "onnxruntime ms")]
    for name in options.models:
        source = options.folder / f"{name}.onnx"
        with np.load(options.folder / f"{name}.npz") as arrays:
            feeds = dict(arrays)
        plain = session(onnxruntime, source, "ORT_ENABLE_ALL").run(None, feeds)[-1]
        for how in (*STATIC, *DYNAMIC):
            target = options.folder / f"{name}-{how.replace(' ', '_')}.onnx"
            if not target.exists():
                quantize(source, target, how, feeds)
            ours, theirs = (
                session(package, target, "ORT_ENABLE_ALL") for package in (bascule, onnxruntime)
            )
            mine, other = (each.run(None, feeds)[-1] for each in (ours, theirs))
            again = session(onnxruntime, target, "ORT_DISABLE_ALL").run(None, feeds)[-1]
            taken = medians(
                lambda run=ours.run, feeds=feeds: run(None, feeds),
                lambda run=theirs.run, feeds=feeds: run(None, feeds),
                repeats=7,
                pause=SETTLED,
            )
            rows.append(
                (
                    name,
                    how,
                    difference(mine, other),
                    difference(again, other),
                    difference(plain, other),
                    f"{(mine.argmax(-1) == other.argmax(-1)).mean():.2f}",
                    *(f"{1e3 * seconds:.1f}" for seconds in taken),
                )
            )
    print(table(rows))


if __name__ == "__main__":
    main()
