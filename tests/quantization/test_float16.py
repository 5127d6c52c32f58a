# SPDX-License-Identifier: Apache-2.0
"""convert_float_to_float16: the same results, up to rounding, in every runtime."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser

import bascule.transformers
from bascule.transformers.float16 import convert_float_to_float16
from tests.quantization.models import CPU, attention, network, samples
from tests.quantization.test_quantize import RUNTIMES

MIXED = """
    <ir_version: 9, opset_import: ["": 17, "ai.onnx.ml": 3]>
    g (float[n, 4] x, bool c) => (float[n, 4] y, int64[n, 2] i, float[n, 4] z, float[m, k] w)
    <float[4] weight = {1e-9, 2, 1e6, -0.5}, float[4] shift = {1, 2, 3, 4},
     float[2] scales = {1, 2}, int64[1] two = {2}, int64[2] size = {2, 3}> {
        p = Mul(x, shift)
        t, i = TopK(p, two)
        z = ai.onnx.ml.Scaler <offset = [1.0], scale = [2.0]> (x)
        y = If (c) <then_branch = a () => (float[n, 4] u) { u = Add(p, shift) },
                    else_branch = b () => (float[n, 4] v) {
                        h = Constant <value_float = 0.5> ()
                        v = Mul(p, h)
                    }>
        r = Resize(p, , scales)
        e = ConstantOfShape(size)
        s = ReduceMax <keepdims = 0> (r)
        q = Mul(e, s)
        o = RandomNormal <shape = [2, 3], scale = 0.0001, mean = 2.0> ()
        f = Mul(o, q)
        j = Cast <to = 1> (i)
        l = ReduceSum <keepdims = 0> (j)
        w0 = Add(f, l)
        k0 = ReduceMax <keepdims = 0> (weight)
        m0 = Min(k0, s)
        w = Add(w0, m0)
    }
"""


def mixed() -> onnx.ModelProto:
    proto = parser.parse_model(MIXED)
    onnx.checker.check_model(proto)
    return proto


def run(runtime: str, proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    made = importlib.import_module(runtime).InferenceSession(
        proto.SerializeToString(), providers=CPU
    )
    types = {each.name: each.type for each in made.get_inputs()}
    fed = {
        name: value.astype(np.float16) if types[name] == "tensor(float16)" else value
        for name, value in feeds.items()
    }
    found: list[Any] = made.run(None, fed)
    return found


FEEDS = {
    "mixed": [
        {"x": np.arange(8, dtype=np.float32).reshape(2, 4), "c": np.array(c)} for c in (True, False)
    ],
    "network": samples(network())[:1],
    "attention": samples(attention())[:1],
}
MODELS = {"mixed": mixed, "network": network, "attention": attention}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("blocked", [None, [], ["Mul", "Conv", "MatMul"]], ids=str)
def test_the_results(name: str, kept: bool, blocked: Any) -> None:
    proto = MODELS[name]()
    narrow = convert_float_to_float16(proto, keep_io_types=kept, op_block_list=blocked)
    assert proto == MODELS[name]()
    onnx.checker.check_model(narrow, full_check=True)
    for feeds in FEEDS[name]:
        wanted = run("bascule", proto, feeds)
        # onnxruntime has no RandomNormal in float16.
        for runtime in RUNTIMES[:1] if blocked is not None and name == "mixed" else RUNTIMES:
            found = run(runtime, narrow, feeds)
            for one, other in zip(found, wanted, strict=True):
                is_float = other.dtype == np.float32
                assert one.dtype == (np.float16 if is_float and not kept else other.dtype)
                np.testing.assert_allclose(one, other, rtol=0.01, atol=0.02)


def test_weights_are_clipped() -> None:
    narrow = convert_float_to_float16(mixed())
    weights = {each.name: numpy_helper.to_array(each) for each in narrow.graph.initializer}
    assert weights["weight"].dtype == np.float16 and weights["scales"].dtype == np.float32
    np.testing.assert_array_equal(
        weights["weight"], np.array([5.96e-08, 2, 65504, -0.5], np.float16)
    )


def test_what_stays() -> None:
    narrow = convert_float_to_float16(network(), node_block_list=["conv1"], keep_io_types=["y"])
    weights = {each.name: each.data_type for each in narrow.graph.initializer}
    assert weights["w1"] == TensorProto.FLOAT and weights["w2"] == TensorProto.FLOAT16
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*narrow.graph.input, *narrow.graph.output)
    }
    assert types == {"x": TensorProto.FLOAT16, "y": TensorProto.FLOAT}


def test_other_parts_are_left_out() -> None:
    assert bascule.transformers.float16.convert_float_to_float16 is convert_float_to_float16
    with pytest.raises(ImportError, match="deliberately left out"):
        bascule.transformers.benchmark  # noqa: B018
    with pytest.raises(AttributeError):
        bascule.transformers.__wrapped__  # noqa: B018
