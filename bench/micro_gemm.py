# SPDX-License-Identifier: Apache-2.0
"""GFLOP/s of the matrix product and convolution kernels at the shapes of well-known models.

python bench/micro_gemm.py [--threads 1 2] [--seconds 0.3] [substring...]

Best of many runs, weights constant, everything else warm.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "python")]

from tests.support.native import compile_graph, node_graph  # noqa: E402

# rows, columns, depth
PRODUCTS = {
    "bert qkv": (128, 768, 768),
    "bert ffn 1": (128, 3072, 768),
    "bert ffn 2": (128, 768, 3072),
    "vit qkv": (197, 768, 768),
    "vit ffn 1": (197, 3072, 768),
    "vit ffn 2": (197, 768, 3072),
    "resnet 1x1 28": (784, 512, 128),
    "resnet 1x1 14": (196, 1024, 256),
    "resnet 1x1 14 down": (196, 256, 1024),
    "resnet 1x1 7": (49, 2048, 512),
    "resnet 1x1 7 down": (49, 512, 2048),
    "resnet 1x1 56": (3136, 256, 64),
    "resnet 1x1 56 down": (3136, 64, 256),
    "mobilenet expand": (12544, 96, 16),
    "mobilenet project": (12544, 16, 32),
    "gpt2 logits": (1, 50257, 768),
    "gpt2 ffn": (1, 3072, 768),
}

# input [N, H, W, C], output channels, kernel, stride, pad, group
CONVOLUTIONS = {
    "resnet stem": ((1, 224, 224, 3), 64, 7, 2, 3, 1),
    "resnet 3x3 56": ((1, 56, 56, 64), 64, 3, 1, 1, 1),
    "resnet 3x3 28": ((1, 28, 28, 128), 128, 3, 1, 1, 1),
    "resnet 3x3 14": ((1, 14, 14, 256), 256, 3, 1, 1, 1),
    "resnet 3x3 7": ((1, 7, 7, 512), 512, 3, 1, 1, 1),
    "resnet 3x3 stride 2": ((1, 56, 56, 128), 128, 3, 2, 1, 1),
    "resnet 1x1 stride 2": ((1, 56, 56, 256), 512, 1, 2, 0, 1),
    "mobilenet stem": ((1, 224, 224, 3), 32, 3, 2, 1, 1),
    "mobilenet depthwise 112": ((1, 112, 112, 32), 32, 3, 1, 1, 32),
    "mobilenet depthwise 112 stride": ((1, 112, 112, 96), 96, 3, 2, 1, 96),
    "mobilenet depthwise 56": ((1, 56, 56, 144), 144, 3, 1, 1, 144),
    "mobilenet depthwise 14": ((1, 14, 14, 576), 576, 3, 1, 1, 576),
    "convnext depthwise 56": ((1, 56, 56, 96), 96, 7, 1, 3, 96),
    "convnext depthwise 14": ((1, 14, 14, 384), 384, 7, 1, 3, 384),
    "convnext patches": ((1, 224, 224, 3), 96, 4, 4, 0, 1),
    "vit patches": ((1, 224, 224, 3), 768, 16, 16, 0, 1),
}


def best_time(runner: Any, x: np.ndarray, seconds: float) -> float:
    """Seconds of the fastest of the runs that fit into `seconds`."""
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        runner.run_values([x], [])
        best = min(best, time.perf_counter() - start)
    return best


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def cases() -> dict[str, tuple[float, Any, np.ndarray]]:
    """Name -> floating-point operations, graph, input."""
    result: dict[str, tuple[float, Any, np.ndarray]] = {}
    for name, (m, n, k) in PRODUCTS.items():
        inputs = [random(m, k), random(k, n)]
        graph = node_graph("MatMul", inputs, constants=(1,), static=True)
        result[name] = (2.0 * m * n * k, graph, inputs[0])
    for name, (shape, channels, kernel, stride, pad, group) in CONVOLUTIONS.items():
        inputs = [
            random(*shape),
            random(channels, shape[3] // group, kernel, kernel),
            random(channels),
        ]
        attributes = {
            "strides": [stride] * 2,
            "pads": [pad] * 4,
            "group": group,
            "channels_last": 1,
            "activation": "Relu",
        }
        graph = node_graph(
            "Conv", inputs, attributes, domain="bascule", constants=(1, 2), static=True
        )
        size = (shape[1] + 2 * pad - kernel) // stride + 1
        flops = 2.0 * size * size * channels * kernel * kernel * shape[3] / group
        result[name] = (flops, graph, inputs[0])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    for name, (flops, graph, x) in cases().items():
        if options.names and not any(part in name for part in options.names):
            continue
        line = f"{name:32}"
        for threads in options.threads:
            runner = compile_graph(graph, threads)
            runner.run_values([x], [])
            seconds = best_time(runner, x, options.seconds)
            line += f" {threads}t {seconds * 1e6:9.1f} us {flops / seconds / 1e9:6.1f} GFLOP/s"
        print(line, flush=True)


if __name__ == "__main__":
    main()
