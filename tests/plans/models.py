# SPDX-License-Identifier: Apache-2.0
"""Small models that cover every kind of constant that a plan holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

Feeds = dict[str, Any]
_HEADER = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1, "ai.onnx.ml": 3]>'


def parsed(text: str, **weights: Any) -> onnx.ModelProto:
    """A model whose inputs named in `weights` are initializers."""
    model = onnx.parser.parse_model(f"{_HEADER} {text}")
    model.producer_name = "a producer"
    model.metadata_props.add(key="key", value="välue")
    for value in list(model.graph.input):
        if value.name in weights:
            model.graph.input.remove(value)
            model.graph.initializer.append(numpy_helper.from_array(weights[value.name], value.name))
    return model


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def small_ints(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).integers(1, 100, size=shape).astype(dtype)


def _products(type_: str, dtype: Any) -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        f"""g ({type_}[5,40] x, {type_}[40,50] a, {type_}[60,50] b, {type_}[60] c) => ({type_} y) {{
            t = MatMul(x, a)
            y = Gemm<transB=1>(t, b, c)
        }}""",
        a=normal(40, 50, dtype=dtype),
        b=normal(60, 50, dtype=dtype),
        c=normal(60, dtype=dtype),
    )
    return model, {"x": normal(5, 40, dtype=dtype, seed=1)}


def _convolutions(type_: str, dtype: Any) -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        f"""g ({type_}[1,32,28,28] x, {type_}[64,32,3,3] a, {type_}[64,1,3,3] b,
               {type_}[64,32,1,1] c, {type_}[64,8,2,2] d) => ({type_} y) {{
            s = Conv<pads=[1,1,1,1]>(x, a)
            t = Conv<group=64>(s, b)
            u = Conv<group=2>(t, c)
            y = ConvTranspose<strides=[2,2]>(u, d)
        }}""",
        a=normal(64, 32, 3, 3, dtype=dtype),
        b=normal(64, 1, 3, 3, dtype=dtype),
        c=normal(64, 32, 1, 1, dtype=dtype),
        d=normal(64, 8, 2, 2, dtype=dtype),
    )
    return model, {"x": normal(1, 32, 28, 28, dtype=dtype, seed=1)}


def _recurrent(type_: str, dtype: Any) -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        f"""g ({type_}[3,2,20] x, {type_}[2,64,20] w, {type_}[2,64,16] r, {type_}[2,128] b,
               {type_}[1,48,20] v, {type_}[1,48,16] q) => ({type_} y, {type_} z) {{
            y = LSTM<hidden_size=16, direction="bidirectional">(x, w, r, b)
            z = GRU<hidden_size=16>(x, v, q)
        }}""",
        w=normal(2, 64, 20, dtype=dtype),
        r=normal(2, 64, 16, dtype=dtype),
        b=normal(2, 128, dtype=dtype),
        v=normal(1, 48, 20, dtype=dtype),
        q=normal(1, 48, 16, dtype=dtype),
    )
    return model, {"x": normal(3, 2, 20, dtype=dtype, seed=1)}


def _integers() -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        """g (uint8[2,70] x, int8[70,90] a, uint8[1,16,9,9] i, int8[32,16,3,3] b, float s,
              uint8 z, int8 n, uint8[70,80] d) => (int32 y, int32 v, uint8 q) {
            y = MatMulInteger(x, a)
            v = ConvInteger(i, b)
            q = QLinearMatMul(x, s, z, d, s, z, s, z)
        }""",
        a=small_ints(70, 90, dtype=np.int8),
        b=small_ints(32, 16, 3, 3, dtype=np.int8),
        d=small_ints(70, 80),
        s=np.array(0.05, np.float32),
        z=np.array(3, np.uint8),
        n=np.array(2, np.int8),
    )
    return model, {"x": small_ints(2, 70, seed=1), "i": small_ints(1, 16, 9, 9, seed=1)}


def _few_bits() -> tuple[onnx.ModelProto, Feeds]:
    order = np.random.default_rng(0).permutation(np.arange(64, dtype=np.int32) // 32)
    model = parsed(
        """g (float[3,64] x, uint8[80,2,16] b, float[160] s, uint8[80] z, int32[64] g)
             => (float y, float q) {
            y = com.microsoft.MatMulNBits<K=64, N=80, bits=4, block_size=32>(x, b, s, z)
            q = com.microsoft.MatMulNBits<K=64, N=80, bits=4, block_size=32>(x, b, s, z, g)
        }""",
        b=small_ints(80, 2, 16) * 2,
        s=normal(160),
        z=small_ints(80),
        g=order,
    )
    return model, {"x": normal(3, 64, seed=1)}


def _control_flow() -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        """g (bool c, float[4,32] x, float[32,32] a, int64 n) => (float[4,32] y, float t) {
            y = If(c) <then_branch = yes () => (float[4,32] p) { p = MatMul(x, a) },
                       else_branch = no () => (float[4,32] q) {
                           d = Constant<value_float=2.5>() q = Mul(x, d) }>
            k = Constant<value=bool {1}>()
            t, s = Loop(n, k, x) <body = body (int64 i, bool j, float[4,32] u)
                     => (bool j2, float[4,32] u2, float[4,32] s) {
                           j2 = Identity(j) v = MatMul(u, a) u2 = Tanh(v) s = Add(u2, y) }>
        }""",
        a=normal(32, 32),
    )
    return model, {"c": np.array(True), "x": normal(4, 32, seed=1), "n": np.array(3)}


def _texts() -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        """g (string[n] x, string[3] s) => (string y, int64 l) {
            y = StringConcat(x, s)
            l = ai.onnx.ml.LabelEncoder<keys_strings=["a","ü"], values_int64s=[7,8]>(x)
        }""",
        s=np.array(["x", "", "ö" * 40], object),
    )
    return model, {"x": np.array(["a", "ü", "-"], object)}


def _containers() -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        """g (float[3] x, optional(float[3]) o) => (seq(float[3]) s, bool h, float[3] r) {
            c = Constant<value_floats=[1.5,2.5,3.5]>()
            s = SequenceConstruct(x, c)
            h = OptionalHasElement(o)
            r = Add(x, e)
        }"""
    )
    sparse = model.graph.sparse_initializer.add(dims=[3])
    sparse.values.CopyFrom(numpy_helper.from_array(np.array([2], np.float32), "e"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1]), "e_indices"))
    return model, {"x": normal(3), "o": None}


def _classical() -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        """g (float[4,3] x) => (float y, float z) {
            y = ai.onnx.ml.LinearRegressor<coefficients=[1.5,2.5,-1.0], intercepts=[0.5]>(x)
            z = ai.onnx.ml.SVMRegressor<kernel_type="RBF", kernel_params=[0.5,0.0,0.0],
                n_supports=2, coefficients=[1.0,-0.5], rho=[0.25],
                support_vectors=[1.0,2.0,3.0,0.5,0.25,-1.0]>(x)
        }"""
    )
    return model, {"x": normal(4, 3)}


def _defaults() -> tuple[onnx.ModelProto, Feeds]:
    model = parsed(
        """g (float[n,3] x, float[3] d, int4[3] i, string[1] s) => (float[n,3] y, int4[3] j,
                                                                      string[1] t) {
            y = Add(x, d)
            j = Identity(i)
            t = Identity(s)
        }"""
    )
    for name, array in (
        ("d", np.array([1, 2, 3], np.float32)),
        ("i", np.array([1, -2, 3], ml_dtypes.int4)),
        ("s", np.array(["ä"], object)),
    ):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model, {"x": normal(2, 3)}


MODELS: dict[str, Callable[[], tuple[onnx.ModelProto, Feeds]]] = {
    "float products": lambda: _products("float", np.float32),
    "float16 products": lambda: _products("float16", np.float16),
    "double products": lambda: _products("double", np.float64),
    "float convolutions": lambda: _convolutions("float", np.float32),
    "float16 convolutions": lambda: _convolutions("float16", np.float16),
    "double convolutions": lambda: _convolutions("double", np.float64),
    "float recurrent": lambda: _recurrent("float", np.float32),
    "float16 recurrent": lambda: _recurrent("float16", np.float16),
    "integers": _integers,
    "few bits": _few_bits,
    "control flow": _control_flow,
    "texts": _texts,
    "containers": _containers,
    "classical": _classical,
    "defaults": _defaults,
}


def with_external_data(folder: Path) -> Path:
    """A model whose weights lie in a file of their own."""
    model = parsed(
        "g (float[2,64] x, float[64,64] w) => (float[2,64] y) { y = MatMul(x, w) }",
        w=normal(64, 64),
    )
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    return path
