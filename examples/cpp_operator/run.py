# SPDX-License-Identifier: Apache-2.0
"""Run a model that calls the operators of row_operators.cpp: python run.py LIBRARY"""

import sys

import numpy as np
import onnx.parser

import bascule

MODEL = """
<ir_version: 10, opset_import: ["" : 21, "example.rows" : 1]>
similar (float[N,D] x, float[D,M] table) => (float[N,3] score, int64[N,3] place) {
  unit = example.rows.Normalize (x)
  product = MatMul (unit, table)
  score, place = example.rows.Largest <k = 3> (product)
}
"""


def main(library: str) -> None:
    options = bascule.SessionOptions()
    options.register_custom_ops_library(library)
    model = onnx.parser.parse_model(MODEL).SerializeToString()
    session = bascule.InferenceSession(model, options)
    print(session.explain())

    random = np.random.default_rng(0)
    x = random.standard_normal((2, 8), np.float32)
    table = random.standard_normal((8, 100), np.float32)
    score, place = session.run(None, {"x": x, "table": table})
    print(score, place, sep="\n")

    expected = x / np.linalg.norm(x, axis=1, keepdims=True) @ table
    order = np.argsort(-expected, axis=1)[:, :3]
    np.testing.assert_array_equal(place, order)
    np.testing.assert_allclose(score, np.take_along_axis(expected, order, 1), rtol=1e-5)


if __name__ == "__main__":
    main(sys.argv[1])
