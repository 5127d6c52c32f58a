# SPDX-License-Identifier: Apache-2.0
"""Regions around convolutions in channels-last layout."""

from __future__ import annotations

import pytest

from bascule.ir.dtype import DataType
from bascule.optimizer.eliminate_dead_code import eliminate_dead_code
from bascule.optimizer.fuse_activation import fuse_activation
from bascule.optimizer.fuse_residual_add import fuse_residual_add
from bascule.optimizer.merge_transposes import merge_transposes
from bascule.optimizer.move_to_channels_last import move_to_channels_last
from tests.optimizer.fusing import assert_kept, fuse, ops

LAYOUT = (move_to_channels_last, eliminate_dead_code, merge_transposes)

_CONSTANTS = """<int64[2] spatial = {2, 3}, int64[1] channel = {1}, int64[1] one = {1},
    int64[1] three = {3}, int64[1] height = {2}, int64[8] pads = {0, 0, 1, 2, 0, 1, 0, 3},
    float[4] scales = {1, 1, 2, 2}, int64[4] sizes = {2, 4, 8, 3}, int64[2] flat = {0, -1},
    int64[3] rows = {0, 4, -1}, float[4] c = {1, 2, 3, 4}, float[4] d = {2, 3, 4, 5},
    float[4,1,1] column = {1, 2, 3, 4}, float[5] width = {1, 2, 3, 4, 5}, float zero = {0},
    int64[5] parted = {2, 2, 2, 5, 5}, int64[3] back = {2, 50, 2}, int64[2] halves = {1, 3},
    int64[2] ones = {1, 1}, int64[2] end = {5, 5},
    int32[2] first = {0, 1}, int32[2] last = {2, 4}>"""


def graph(body: str, y: str = "2,4,5,5", more: str = "") -> str:
    return f"""g (float[2,3,5,5] x, float[4,3,1,1] w{more}) => (float[{y}] y)
    {_CONSTANTS} {{ t = Conv(x, w) {body} }}"""


# After the convolution each of these still reads channels-last values.
@pytest.mark.parametrize(
    ("body", "shape", "transposes"),
    [
        ("y = Relu(t)", "2,4,5,5", 2),
        ("a = Mul(t, column) y = Add(a, width)", "2,4,5,5", 2),
        ("p = PRelu(t, column) y = Max(p, zero, t)", "2,4,5,5", 2),
        ("y = Concat<axis = 1>(t, t)", "2,8,5,5", 2),
        ("y = Concat<axis = -1>(t, t)", "2,4,5,10", 2),
        ("a, b = Split<axis = 1>(t, halves) y = Tanh(b)", "2,3,5,5", 2),
        ("y = Softmax<axis = 1>(t)", "2,4,5,5", 2),
        ("y = Softmax<axis = 3>(t)", "2,4,5,5", 2),
        ("y = Slice(t, one, three, height)", "2,4,2,5", 2),
        ("y = Slice(t, one, three, channel)", "2,2,5,5", 2),
        ("y = Pad(t, pads)", "2,5,6,10", 2),
        ("y = Resize(t, , scales)", "2,4,10,10", 2),
        ("y = Resize(t, , , sizes)", "2,4,8,3", 2),
        ("y = ReduceMean(t, spatial)", "2,4,1,1", 2),
        ("y = ReduceMax<keepdims = 0>(t, spatial)", "2,4", 1),
        ("y = ReduceSum<keepdims = 0>(t, channel)", "2,5,5", 1),
        ("y = ReduceSum<keepdims = 0>(t, height)", "2,4,5", 2),
        ("y = GlobalAveragePool(t)", "2,4,1,1", 2),
        ("a = GlobalAveragePool(t) y = Flatten(a)", "2,4", 1),
        ("a = GlobalAveragePool(t) y = Reshape(a, flat)", "2,4", 1),
        ("a = GlobalMaxPool(t) y = Squeeze(a, spatial)", "2,4", 1),
        ("a = GlobalMaxPool(t) y = Squeeze(a, three)", "2,4,1", 1),
        ("a = GlobalMaxPool(t) b = Squeeze(a, height) y = Relu(b)", "2,4,1", 1),
        ("y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(t)", "2,4,2,2", 2),
        ("y = AveragePool<kernel_shape = [3, 2], pads = [1, 0, 1, 1]>(t)", "2,4,5,5", 2),
        ("y = InstanceNormalization(t, c, d)", "2,4,5,5", 2),
        ("y = GroupNormalization<num_groups = 2>(t, c, d)", "2,4,5,5", 2),
        ("y = BatchNormalization(t, c, d, d, c)", "2,4,5,5", 2),
        ("r = Reshape(t, rows) y = Transpose<perm = [0, 2, 1]>(r)", "2,25,4", 1),
        ("y = Transpose<perm = [0, 2, 3, 1]>(t)", "2,5,5,4", 1),
        ("y = Transpose<perm = [0, 3, 2, 1]>(t)", "2,5,5,4", 2),
        ("r = Reshape(t, parted) y = Transpose<perm = [0, 3, 4, 1, 2]>(r)", "2,5,5,2,2", 1),
        ("r = Reshape(t, back) y = Relu(r)", "2,50,2", 2),
        ("s = Shape(t) y = Reshape(t, s)", "2,4,5,5", 2),
        ("p = ArgMax<axis = 1, keepdims = 0>(t) y = Cast<to = 1>(p)", "2,5,5", 1),
        ("p = ArgMin<axis = 3>(t) y = Cast<to = 1>(p)", "2,4,5,1", 2),
        ("y = DepthToSpace<blocksize = 2>(t)", "2,1,10,10", 3),
        ('y = DepthToSpace<blocksize = 2, mode = "CRD">(t)', "2,1,10,10", 3),
        ("a = Slice(t, ones, end, spatial) y = SpaceToDepth<blocksize = 2>(a)", "2,16,2,2", 3),
    ],
)
def test_what_follows_a_convolution(body: str, shape: str, transposes: int) -> None:
    model = fuse(graph(body, shape), *LAYOUT)
    found = ops(model.graph)
    assert found["bascule.Conv"] == 1 and found["Transpose"] == transposes, found
    moved = [node for node in model.graph if node.is_op("MaxPool", "AveragePool")]
    assert not moved


@pytest.mark.parametrize(
    ("x", "w", "y"),
    [("2,3,9", "4,3,2", "2,4,8"), ("1,3,4,5,6", "2,3,2,2,2", "1,2,3,4,5")],
)
def test_other_ranks(x: str, w: str, y: str) -> None:
    text = f"g (float[{x}] x, float[{w}] w) => (float[{y}] y) {{ t = Conv(x, w) y = Relu(t) }}"
    model = fuse(text, *LAYOUT, fuse_activation)
    assert ops(model.graph) == {"Transpose": 2, "bascule.Conv": 1}


def test_axes_of_a_slice_have_the_type_of_its_positions() -> None:
    model = fuse(graph("y = Slice(t, first, last)", "2,3,5,5"), *LAYOUT)
    (cut,) = (node for node in model.graph if node.is_op("Slice"))
    assert [value.dtype for value in cut.inputs[1:] if value] == [DataType.INT32] * 3


def test_one_pixel_without_channels() -> None:
    text = """g (float[1,3,1,1] x, float[4,3,1,1] w, float[1,0,1,1] none) => (float[1,8,1,1] y)
        { t = Conv(x, w) y = Concat<axis = 1>(t, none, t) }"""
    assert ops(fuse(text, *LAYOUT).graph)["bascule.Conv"] == 1


def test_transposed_convolution() -> None:
    text = """g (float[1,3,4,4] x, float[3,2,2,2] w, float[2] b) => (float[1,2,8,8] y)
        { y = ConvTranspose<strides = [2, 2]>(x, w, b) }"""
    assert ops(fuse(text, *LAYOUT).graph) == {"Transpose": 2, "bascule.ConvTranspose": 1}


def test_residual_and_activation_stay_fused() -> None:
    text = """g (float[1,3,5,5] x, float[3,3,1,1] w) => (float[1,3,5,5] y) {
        a = Conv(x, w) b = Relu(a) c = Conv(b, w) s = Add(c, b) y = Relu(s)
    }"""
    model = fuse(text, fuse_activation, fuse_residual_add, *LAYOUT, fuse_activation)
    assert ops(model.graph) == {"Transpose": 2, "bascule.Conv": 2}


def test_the_models_own_transposes_vanish() -> None:
    text = """g (float[1,5,5,3] x, float[3,3,1,1] w, float[3] s) => (float[1,5,5,3] y) {
        first = Transpose<perm = [0, 3, 1, 2]>(x) a = Conv(first, w)
        last = Transpose<perm = [0, 2, 3, 1]>(a) n = LayerNormalization(last, s)
        again = Transpose<perm = [0, 3, 1, 2]>(n) r = Add(again, first) b = Conv(r, w)
        y = Transpose<perm = [0, 2, 3, 1]>(b)
    }"""
    model = fuse(text, *LAYOUT)
    assert ops(model.graph) == {"bascule.Conv": 2, "LayerNormalization": 1, "Add": 1}


def test_a_gate_of_one_number_per_channel_moves_as_a_view() -> None:
    text = graph("y = Mul(t, gate)", more=", float[2,4,1,1] gate")
    model = fuse(text, *LAYOUT)
    assert ops(model.graph)["Reshape"] == 1 and ops(model.graph)["Transpose"] == 2


def test_a_large_operand_keeps_its_layout() -> None:
    text = graph("s = ReduceMean(t, spatial) y = Mul(s, big)", "2,4,9,9", ", float[2,4,9,9] big")
    model = fuse(text, *LAYOUT)
    node = next(node for node in model.graph if node.is_op("Mul"))
    assert node.input(1) is model.graph.inputs[2]


def test_symbolic_batch() -> None:
    text = graph("a = Sigmoid(t) b = Mul(a, t) y = Concat<axis = 1>(b, t)", "N,8,5,5")
    model = fuse(text.replace("float[2,3,5,5]", "float[N,3,5,5]"), *LAYOUT)
    assert ops(model.graph)["Transpose"] == 2


def test_second_output_of_a_pool_needs_the_standard_layout() -> None:
    text = graph("y, i = MaxPool<kernel_shape = [2, 2]>(t)", "2,4,4,4")
    model = fuse(text.replace("y)", "y, int64[2,4,4,4] i)", 1), *LAYOUT)
    assert ops(model.graph)["MaxPool"] == 1


def test_without_a_convolution_nothing_moves() -> None:
    assert_kept("g (float[1,3,4,4] x) => (float[1,3,1,1] y) { y = GlobalMaxPool(x) }", *LAYOUT)
    assert_kept("g (float[M] x, float w) => (float[M] y) { y = Mul(x, w) }", *LAYOUT)


def test_an_unknown_type_in_between() -> None:
    """The types of some operators are not inferred; their ranks are known all the same."""
    text = """g (float[1,4,3,3] x, float[4,4,1,1] w, float[4] c) => (float[1,4,3,3] y) {
        a = Conv(x, w) n = GroupNormalization<num_groups = 2>(a, c, c) b = Conv(n, w) y = Neg(b)
    }"""
    assert ops(fuse(text, *LAYOUT).graph)["Transpose"] == 2


_QUANTIZED = """<float s = {0.5}, uint8 z = {7}, int8[4,4,1,1] w, int8 wz = {0},
    int32[4] bias = {1, 2, 3, 4}>"""


def test_quantized_convolutions() -> None:
    text = f"""g (uint8[1,4,5,5] x) => (uint8[1,4,5,5] y) {_QUANTIZED} {{
        a = QLinearConv(x, s, z, w, s, wz, s, z, bias)
        b = QLinearConv(a, s, z, w, s, wz, s, z)
        y = bascule.QLinearAdd(b, s, z, a, s, z, s, z)
    }}""".replace("int8[4,4,1,1] w,", "int8[4,4,1,1] w = {" + ", ".join("1" * 16) + "},")
    model = fuse(text, *LAYOUT)
    expected = {"Transpose": 2, "bascule.QLinearConv": 2, "bascule.QLinearAdd": 1}
    assert ops(model.graph) == expected


def test_a_quantized_sum_with_a_larger_tensor_keeps_its_layout() -> None:
    text = """g (uint8[1,4,1,1] x, uint8[1,4,5,5] v, int8[4,4,1,1] w) => (uint8[1,4,5,5] y)
    <float s = {0.5}, uint8 z = {7}, int8 wz = {0}> {
        a = QLinearConv(x, s, z, w, s, wz, s, z)
        y = bascule.QLinearAdd(a, s, z, v, s, z, s, z)
    }"""
    model = fuse(text, *LAYOUT)
    node = next(node for node in model.graph if node.is_op("QLinearAdd", domain="bascule"))
    assert node.input(3) is model.graph.inputs[1]


def test_dynamically_quantized_convolutions() -> None:
    text = """g (float[1,4,5,5] x, int8[4,4,1,1] w) => (float[1,4,5,5] y) {
        q, s, z = DynamicQuantizeLinear(x) a = ConvInteger(q, w, z) f = Cast<to = 1>(a)
        m = Mul(f, s)
        r, t, u = DynamicQuantizeLinear(m) b = ConvInteger(r, w, u) g = Cast<to = 1>(b)
        y = Mul(g, t)
    }"""
    found = ops(fuse(text, *LAYOUT).graph)
    assert found["Transpose"] == 2 and found["bascule.ConvInteger"] == 2, found
