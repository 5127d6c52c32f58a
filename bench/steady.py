# SPDX-License-Identifier: Apache-2.0
"""Resident memory over many runs of a small network, with fixed and with changing shapes.

python bench/steady.py [--runs 100000]
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path

import numpy as np
import onnx
from measure import table
from onnx import TensorProto, helper

import bascule

WIDTH = 32


def network() -> bytes:
    """Rows of changing number through two products, a normalization and a softmax."""
    generator = np.random.default_rng(0)
    weights = {
        "a": (WIDTH, 2 * WIDTH),
        "b": (2 * WIDTH, WIDTH),
        "scale": (WIDTH,),
    }
    tensors = [
        onnx.numpy_helper.from_array(generator.standard_normal(shape, np.float32) / 4, name)
        for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["positive"]),
        helper.make_node("MatMul", ["positive", "b"], ["narrow"]),
        helper.make_node("LayerNormalization", ["narrow", "scale"], ["normal"]),
        helper.make_node("Softmax", ["normal"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", WIDTH]) for name in "xy"
    )
    graph = helper.make_graph(nodes, "steady", [x], [y], tensors)
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth(runs: int, lengths: list[int], warm: int) -> tuple[int, int]:
    """Resident bytes after `warm` runs, and after `runs` more."""
    options = bascule.SessionOptions()
    options.intra_op_num_threads = 1
    session = bascule.InferenceSession(network(), options)
    generator = np.random.default_rng(1)
    feeds = [{"x": generator.standard_normal((n, WIDTH), np.float32)} for n in lengths]

    def run(count: int) -> None:
        for each in itertools.islice(itertools.cycle(feeds), count):
            session.run(None, each)

    run(warm)
    before = resident()
    run(runs)
    return before, resident()


def measure(runs: int = 100_000) -> str:
    """A Markdown table."""
    shuffled = np.random.default_rng(2).permutation(np.arange(1, 201)).tolist()
    rows = [("shapes", "runs", "before, MB", "after, MB", "growth, KB")]
    for name, lengths in (("one", [64]), (f"{len(shuffled)} in turn", shuffled)):
        before, after = growth(runs, lengths, max(2000, runs // 50))
        figures = f"{before / 1e6:.1f}", f"{after / 1e6:.1f}", f"{(after - before) / 1e3:.0f}"
        rows.append((name, f"{runs:,}", *figures))
    return table(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000)
    print(measure(parser.parse_args().runs))
