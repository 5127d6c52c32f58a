# SPDX-License-Identifier: Apache-2.0
"""DFT beside numpy.fft: one thread, float32, medians in ms, taking turns.

python bench/fourier.py
"""

from __future__ import annotations

import numpy as np
from measure import medians, table
from onnx import TensorProto, helper

import bascule

SHAPES = ((1000, 1024), (1000, 1000), (2000, 400), (200, 1009), (200, 4096), (8, 65536))


def session(shape: tuple[int, ...], onesided: int) -> bascule.InferenceSession:
    node = helper.make_node("DFT", ["x"], ["y"], onesided=onesided)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "dft", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = bascule.SessionOptions()
    options.intra_op_num_threads = 1
    return bascule.InferenceSession(model.SerializeToString(), options)


def main() -> None:
    rng = np.random.default_rng(0)
    rows = [("lines x length", "input", "bascule", "numpy.fft", "ratio")]
    for shape in SHAPES:
        x = rng.standard_normal(shape).astype(np.float32)
        pairs = rng.standard_normal((*shape, 2)).astype(np.float32)
        z = pairs.view(np.complex64)[..., 0]
        for name, feed, onesided, peer in (
            ("real, one side", x[..., None], 1, lambda x=x: np.fft.rfft(x)),
            ("real", x[..., None], 0, lambda x=x: np.fft.fft(x)),
            ("complex", pairs, 0, lambda z=z: np.fft.fft(z)),
        ):
            run = session(feed.shape, onesided).run
            ours, theirs = medians(lambda run=run, feed=feed: run(None, {"x": feed}), peer)
            lines = " x ".join(str(size) for size in shape)
            numbers = (f"{1e3 * ours:.2f}", f"{1e3 * theirs:.2f}", f"{ours / theirs:.2f}")
            rows.append((lines, name, *numbers))
    print(table(rows))


if __name__ == "__main__":
    main()
