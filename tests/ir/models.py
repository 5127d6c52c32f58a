# SPDX-License-Identifier: Apache-2.0
"""Small models of every kind that the IR tests share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper

HEADER = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>\n'

TEXTS = {
    "chain": "g (float[N,3] a, float[3,5] b) => (float[N,5] y) { t = MatMul(a, b) y = Relu(t) }",
    "if": """g (float[2,3] a, bool c) => (float[2,3] y) {
        y = If(c) <then_branch = p () => (z) { z = Relu(a) },
                   else_branch = q () => (w) { w = Sigmoid(a) }> }""",
    "loop": """g (int64 n, float[2] a) => (float[2] y, float[K,2] s) {
        c = Constant<value = bool {1}>()
        y, s = Loop(n, c, a) <body = b (int64 i, bool k, float[2] x)
            => (bool l, float[2] v, float[2] o)
            { l = Identity(k) v = Add(x, x) o = Mul(v, a) }> }""",
    "scan": """g (float[2] s, float[5,2] x) => (float[2] y, float[5,2] z) {
        y, z = Scan<num_scan_inputs = 1, body = b (float[2] p, float[2] q)
            => (float[2] r, float[2] t) { r = Add(p, q) t = Identity(r) }>(s, x) }""",
    "function": """g (float[2,3] a) => (float[2,3] y) { y = local.f<alpha = 0.5>(a) }
        <opset_import: ["" : 21], domain: "local"> f <alpha> (x) => (y) {
        c = Constant<value_float: float = @alpha>() y = Mul(x, c) }""",
    "strings": 'g (string[2] a) => (bool[2] y) <string[2] b = {"x", "y"}> { y = Equal(a, b) }',
    "sequence": "g (seq(float[2]) a) => (float[M] y) { y = ConcatFromSequence<axis = 0>(a) }",
    "shapes": """g (float[5] a) => (float[n] y) {
        s = Shape(a) t = ConstantOfShape<value = float[1] {2}>(s)
        e = Expand(a, s) y = Add(t, e) }""",
    "weights": "g (float[1,3,8,8] a) => (float[1,256] y) <float[4,3,3,3] w = {"
    + ", ".join(["1"] * 108)
    + "}, int64[2] s = {1, -1}> { t = Conv<pads = [1,1,1,1]>(a, w) y = Reshape(t, s) }",
    "gap": """g (float[1,3,4,4] x) => (float[a,b,c,d] y) {
        s = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()
        y = Resize<mode = "linear">(x, , s) }""",
}


def text_model(name: str) -> bytes:
    return onnx.parser.parse_model(HEADER + TEXTS[name]).SerializeToString()


def identity_model(tensor: TensorProto, dims: Sequence[int] | None = None) -> onnx.ModelProto:
    """A model whose output y is the initializer."""
    output = helper.make_tensor_value_info(
        "y", tensor.data_type, tensor.dims if dims is None else dims
    )
    node = helper.make_node("Identity", [tensor.name], ["y"], name="n")
    graph = helper.make_graph([node], "g", [], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def raw_tensor(array: np.ndarray, name: str = "w") -> TensorProto:
    return TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        raw_data=array.tobytes(),
    )


def hostile_seeds() -> dict[str, bytes]:
    """Valid models to damage."""
    seeds = {name: text_model(name) for name in TEXTS}
    for dtype in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.INT4):
        tensor = helper.make_tensor("w", dtype, [700], [1] * 700)
        seeds[f"typed_{dtype}"] = identity_model(tensor).SerializeToString()
    seeds["raw"] = identity_model(raw_tensor(np.ones(100, np.float32))).SerializeToString()
    external = TensorProto(name="w", data_type=1, dims=[100], data_location=1)
    external.external_data.add(key="location", value="x.bin")
    seeds["external"] = identity_model(external).SerializeToString()
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=4)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [lstm],
        "g",
        [info("x", 1, [5, 2, 3]), info("w", 1, [1, 16, 3]), info("r", 1, [1, 16, 4])],
        [info("h", 1, [1, 2, 4])],
    )
    seeds["lstm"] = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return seeds
