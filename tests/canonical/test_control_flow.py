# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import onnx
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, assert_same, canonical, checked, normal, run

X = normal(2, 4, 3)  # batch, sequence, features
STATE = normal(2, 3) + np.float32(1)


def scan(lengths: bool = False, directions: str = "") -> onnx.ModelProto:
    """Running sums, kept as state and given out twice as much; `bias` is captured."""
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 8]>
        g (int64[2] in0, float[2,3] in1, float[2,4,3] in2, float[3] in3)
            => (float[2,3] last, float[2,4,3] sums)
        {{
            bias = Neg (in3)
            last, sums = Scan <
                num_scan_inputs = 1 {directions},
                body = b (float[3] state, float[3] x) => (float[3] next, float[3] twice) {{
                    moved = Add (state, bias)
                    next = Add (moved, x)
                    twice = Add (next, next)
                }}
            > ({"in0" if lengths else ""}, in1, in2)
        }}""")


def expected(lengths: list[int], bias: Array) -> tuple[Array, Array]:
    last, sums = STATE.copy(), np.zeros_like(X)
    for sample, length in enumerate(lengths):
        for step, x in enumerate(X[sample, :length]):
            last[sample] = last[sample] - bias + x
            sums[sample, step] = last[sample] * 2
    return last, sums


BIAS = normal(3) / np.float32(8)


@pytest.mark.parametrize("lengths", [None, [4, 2], [1, 3]])
def test_scan_over_batch(lengths: list[int] | None) -> None:
    model = canonical(scan(lengths is not None))
    found = run(checked(model), [np.array(lengths or [4, 4]), STATE, X, BIAS])
    assert_same(found, list(expected(lengths or [4, 4], BIAS)))
    names = [value.name for graph in model.graph.walk_graphs() for value in graph.inputs]
    assert len(set(names)) == len(names)


def test_directions() -> None:
    model = canonical(scan(directions=", directions = [1]"))
    outer = next(iter(reversed(model.graph)))
    inner = next(iter(outer.subgraphs[0]))
    assert inner.attributes["scan_input_directions"] == [1]
    assert "scan_input_directions" not in outer.attributes


def test_scan_without_scan_inputs() -> None:
    proto = scan()
    for attribute in proto.graph.node[1].attribute:
        if attribute.name == "num_scan_inputs":
            attribute.i = 3
    with pytest.raises(InvalidGraph, match="cannot hold 3 scan inputs"):
        canonical(proto)


def test_body_is_canonical_too() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 11]>
        g (int64 in0, float[2,3] in1) => (float[2,3] last) {
            last = Loop <
                body = b (int64 i, bool go, float[2,3] x) => (bool on, float[2,3] y) {
                    on = Identity (go)
                    wide = Unsqueeze <axes = [0]> (x)
                    sum = ReduceSum <axes = [0], keepdims = 0> (wide)
                    y = Clip (sum)
                }
            > (in0, , in1)
        }""")
    x = normal(2, 3)
    model = canonical(proto)
    assert_same(run(checked(model), [np.array(3), x]), [x])
