# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from unittest import mock

import numpy as np
import onnx
import pytest

from bascule.errors import Fail, InvalidGraph
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Function, Graph, Model, Node, Value
from bascule.ir.infer import infer_types
from bascule.ir.symbols import is_invented
from bascule.ir.text import parse_graph
from bascule.ir.types import Shape, TensorType


def inferred(text: str) -> dict[str, Shape | None]:
    model = parse_graph(text)
    infer_types(model)
    return {v.name: v.shape for node in model.graph.walk_nodes() for v in node.outputs}


def test_shapes_follow_from_inputs() -> None:
    shapes = inferred(
        "g (float[N,3] a, float[3,5] b) => (float[M,5] y) { t = MatMul(a, b) y = Neg(t) }"
    )
    assert shapes == {"t": ("N", 5), "y": ("M", 5)}


def test_nested_graphs() -> None:
    shapes = inferred(
        "g (float[2,3] a, bool c) => (float y) { y = If(c) <then_branch = p () => (z) "
        "{ u = Exp(a) z = Neg(u) }, else_branch = q () => (w) { w = Abs(a) }> }"
    )
    assert shapes["u"] == shapes["z"] == shapes["w"] == shapes["y"] == (2, 3)


def test_computed_shapes() -> None:
    shapes = inferred(
        "g (float[2,3,4] a) => (float y) { s = Shape<start = 0, end = 2>(a) "
        "m = Constant<value_ints = [-1]>() t = Concat<axis = 0>(s, m) y = Reshape(a, t) }"
    )
    assert shapes["y"] == (2, 3, 4)


def test_rank_from_a_computed_shape() -> None:
    shapes = inferred(
        "g (float[N,3] a) => (float y) { s = Shape(a) t = ConstantOfShape(s) "
        "u = Exp(t) y = Add(u, a) }"
    )
    assert len(shapes["u"] or ()) == 2
    assert (shapes["u"] or ())[1] == 3


def test_what_onnx_does_not_infer() -> None:
    """And what follows from it."""
    shapes = inferred(
        "g (float[N,4,3] x, float[4] s, int64[2] parts) => (float[A,B,C] y, float[D,E,F] z) {"
        "  g = GroupNormalization<num_groups = 2>(x, s, s) r = Relu(g) y = Neg(r)"
        "  m = MeanVarianceNormalization<axes = [0, 2]>(x)"
        "  a, b = Split<axis = -2>(x, parts) t = Transpose(b) z = Neg(t) }"
    )
    assert shapes["g"] == shapes["r"] == shapes["m"] == ("N", 4, 3)
    for name, places in (("a", (0, 2)), ("t", (2, 0))):
        shape = shapes[name]
        assert shape is not None and [shape[place] for place in places] == ["N", 3]


def test_big_constants_are_not_needed() -> None:
    model = parse_graph("g (float[N,1000] a) => (float[N,500] y) { y = Neg(a) }")
    weight = model.graph.constant(np.zeros((1000, 500), np.float32), "w")
    product = Node("MatMul", [model.graph.inputs[0], weight])
    model.graph.nodes[0].set_input(0, product.output)
    model.graph.insert_before(model.graph.nodes[0], product)
    infer_types(model)
    assert product.output.shape == ("N", 500)


def test_long_vectors_keep_their_size() -> None:
    shapes = inferred(
        "g (float[70000] a) => (float y) { t = Exp(a) z = Constant<value_ints = [0]>() "
        "y = Unsqueeze(t, z) }"
    )
    assert shapes["t"] == (70000,)
    assert shapes["y"] == (1, 70000)


def test_long_ranges_are_not_written_down() -> None:
    shapes = inferred(
        "g (int64 a) => (int64[N] y) <int64 b = {0}, int64 e = {1000000000}, int64 d = {1}> "
        "{ r = Range(b, e, d) t = Add(r, a) y = Mul(t, r) }"
    )
    assert shapes["y"] == (1_000_000_000,)


def test_a_node_of_another_opset_is_not_misread() -> None:
    model = parse_graph("g (float[1,2,1] a) => (float[M,K] y) { y = Squeeze(a) }")
    node = model.graph.nodes[0]
    node.opset, node.attributes["axes"] = 11, [0]
    node.output.type = None
    infer_types(model)
    assert node.output.shape is None


def test_attention_of_unknown_width() -> None:
    shapes = inferred(
        "g (float[B,S,D] q, float[B,L,D] k, float[B,L,E] v, float[E,6] w) => (float y) "
        "{ a = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v) y = MatMul(a, w) }"
    )
    assert shapes["a"] is not None and shapes["a"][:2] == ("B", "S")
    assert not isinstance(shapes["a"][2], int)
    assert shapes["y"] == ("B", "S", 6)


def test_slice_by_steps_of_unknown_shape() -> None:
    shapes = inferred(
        "g (float[1] x, int64[N] s, int64[R] r) => (float[M] y, float[K] z) "
        "<int64[1] b = {0}, int64[1] e = {-2}, int64[1] a = {0}> "
        "{ t = Reshape(s, r) y = Slice(x, b, e, a, t) z = Slice(x, b, e, a) }"
    )
    assert shapes["y"] == ("M",)
    assert shapes["z"] == (0,)


def test_lengths_by_scales_are_float32_products() -> None:
    """Not those of float64, which onnx gives: 10 * 0.7 is 7."""
    shapes = inferred(
        "g (float[N,3,10,20] x, float[4] fed) => (float y) <float[4] s = {1, 1, 0.7, 0.9}> {"
        "  a = Resize(x, , s) y = Neg(a) b = Resize<axes = [-1, 2]>(x, , t)"
        "  t = Constant<value = float[2] {0.9, 2}>() c = Resize(x, , fed) }"
    )
    assert shapes["a"] == shapes["y"] == ("N", 3, 7, 18)
    assert shapes["b"] == ("N", 3, 20, 18)
    assert not any(isinstance(dim, int) for dim in shapes["c"] or ())


def test_lengths_by_scales_win_over_what_is_declared() -> None:
    shapes = inferred(
        "g (float[1,10] x, float[1,7] z) => (float[1,6] y) "
        "<float[2] s = {1, 0.7}, float[1,6] a> { a = Resize(x, , s) y = Add(a, z) }"
    )
    assert shapes == {"a": (1, 7), "y": (1, 7)}


def test_resize_to_an_unknown_number_of_sizes() -> None:
    shapes = inferred(
        "g (float[5,6] x, int64[K] s) => (float[A,B] z) { y = Resize(x, , , s) z = Neg(y) }"
    )
    assert shapes["y"] == (None, None) and shapes["z"] == ("A", "B")


def test_sizes_that_a_transposed_convolution_keeps() -> None:
    """Also of kernels that are smaller than the strides, for which onnx infers less."""
    shapes = inferred(
        "g (float[N,2,5,6] x, float[2,3,1,4] w) => (float y, float z) {"
        '  y = ConvTranspose<auto_pad = "SAME_UPPER", strides = [3, 2], group = 2>(x, w)'
        "  z = ConvTranspose<strides = [3, 2]>(x, w) }"
    )
    assert shapes == {"y": ("N", 6, 15, 12), "z": ("N", 3, 13, 14)}


def test_declared_types_fill_gaps() -> None:
    model = parse_graph(
        "g (float[2,3] a) => (float[M,K] y) <float[2,3] t> "
        "{ t = com.microsoft.Odd(a) u = Neg(t) y = Exp(u) }"
    )
    infer_types(model)
    assert model.graph.nodes[1].output.shape == (2, 3)
    assert model.graph.outputs[0].shape == (2, 3)


def test_what_is_inferred_wins_over_what_is_declared() -> None:
    shapes = inferred("g (float[2,3] a) => (float[7,7] y) <float[9,9] t> { t = Neg(a) y = Exp(t) }")
    assert shapes == {"t": (2, 3), "y": (2, 3)}


def fused_model() -> tuple[Model, Function]:
    model = parse_graph("g (float[2,3] a) => (float y) { t = bascule.Twice(a) y = Neg(t) }")
    body = Graph("Twice")
    value = body.add_input(Value("x"))
    body.add_output(body.append(Node("Concat", [value, value], 1, {"axis": 0})).output)
    return model, Function("bascule", "Twice", "", body, opset_imports={"": 21})


def test_fused_operators_by_their_definition() -> None:
    model, function = fused_model()
    infer_types(model, lambda node: function if node.op_type == "Twice" else None)
    assert model.graph.outputs[0].shape == (4, 3)


def test_body_graphs_define_their_node() -> None:
    model, function = fused_model()
    model.graph.nodes[0].attributes["body"] = function.body
    function.body.parent = model.graph.nodes[0]
    infer_types(model)
    assert model.graph.outputs[0].shape == (4, 3)


def test_inference_twice_changes_nothing() -> None:
    model = parse_graph(
        "g (float[N,4] a, int64[2] s) => (float y) { t = Reshape(a, s) u = Exp(t) y = Add(u, u) }"
    )
    infer_types(model)
    first = [v.type for node in model.graph for v in node.outputs]
    infer_types(model, check=False)
    assert [v.type for node in model.graph for v in node.outputs] == first


def open_model() -> Model:
    """The rank of y, by the elements of s, and the sizes of r, by those of t, are not known."""
    return parse_graph(
        """g (float[2,3] a, int64[k] s, int64[2] t, float[1,1] one) => (float[] y, float[p,q] z) {
            u = ConstantOfShape(s) y = Abs(u)
            r = Reshape(a, t) w = Shape(r) z = Expand(one, w)
        }"""
    )


def test_computed_shapes_are_followed_again_only_where_something_is_new() -> None:
    model = open_model()
    infer_types(model)
    with mock.patch(
        "bascule.ir.infer.infer_shapes", wraps=onnx.shape_inference.infer_shapes
    ) as run:
        infer_types(model, check=False, settled=True)
    assert [call.kwargs["data_prop"] for call in run.call_args_list] == [False, False]

    sizes = Value("sizes")
    sizes.constant = Constant.from_numpy(np.array([3, 2]))
    sizes.type = TensorType(DataType.INT64, (2,))
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    reshape.set_input(1, model.graph.add_initializer(sizes))
    infer_types(model, check=False, settled=True)
    assert reshape.output.shape == model.graph.outputs[1].shape == (3, 2)


@pytest.mark.parametrize(
    ("equation", "a", "b", "shape"),
    [
        ("ij,ij->ij", "p,q", "r,q", (None, "q")),
        ("ij,ij->ji", "p,1", "1,q", ("q", "p")),
        ("ij,jk->ik", "p,q", "q,r", ("p", "r")),
        ("i...,k...->ik...", "p,q,3", "r,2,t", ("p", "r", 2, 3)),
    ],
)
def test_axes_that_einsum_repeats(equation: str, a: str, b: str, shape: Shape) -> None:
    """onnx gives an axis the size of the first operand that has it, though that may be 1."""
    model = parse_graph(
        f"g (float[{a}] a, float[{b}] b) => (float y)"
        f' {{ t = Einsum<equation = "{equation}">(a, b) y = Exp(t) }}'
    )
    infer_types(model)
    found = next(node.output.shape for node in model.graph if node.op_type == "Einsum")
    assert tuple(None if is_invented(dim) else dim for dim in found or ()) == shape


def test_rewritten_types_are_not_checked_again() -> None:
    model = parse_graph("g (float[2] a) => (float[2] y) { t = Neg(a) y = Exp(t) }")
    model.graph.inputs[0].type = TensorType(DataType.DOUBLE, (2,))
    infer_types(model, check=False)
    assert model.graph.outputs[0].dtype is DataType.DOUBLE


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            Fail,
            "g (float[2,3] a, float[4,5] b) => (float y) { y = MatMul(a, b) }",
            r"Node \(MatMul_0\) Op \(MatMul\) \[ShapeInferenceError\] Incompatible dimensions for "
            r"matrix multiplication.*a \[2, 3\], b \[4, 5\]",
        ),
        (
            InvalidGraph,
            "g (string[2] a) => (string[2] y) { y = Relu(a) }",
            r"Type Error: Type 'tensor\(string\)' of input parameter \(a\) of operator \(Relu\)",
        ),
        (
            Fail,
            "g (float[2] a, int64[2] b) => (float[2] y) { y = Add(a, b) }",
            r"Type parameter \(T\) of Optype \(Add\) bound to different types",
        ),
        (
            Fail,
            "g (float[2] a) => (int64[2] y) { y = Neg(a) }",
            "does not match expected type",
        ),
        (
            Fail,
            "g (float[N,M] a) => (float y) { y = Transpose<perm = [0, 0]>(a) }",
            r"Node \(Transpose_0\) Op \(Transpose\) .*repeated value: 0.*a \['N', 'M'\]",
        ),
        (
            Fail,
            "g (float[N,M] a) => (float y) { y = Split<axis = 3, num_outputs = 1>(a) }",
            "Invalid value of attribute 'axis'. Rank=2 Value=3",
        ),
        (
            Fail,
            'g (float[N,M] a) => (float y) { y = Einsum<equation = "i->i">(a) }',
            r"Rank of input 0 \(2\) does not match the equation",
        ),
    ],
)
def test_contradictions_are_refused(kind: type[Exception], text: str, message: str) -> None:
    with pytest.raises(kind, match=message):
        infer_types(parse_graph(text))


def test_sizes_that_a_feed_could_make_good_are_not() -> None:
    infer_types(parse_graph("g (float[N,3] a, float[4,5] b) => (float y) { y = MatMul(a, b) }"))


@pytest.mark.parametrize("attributes", ["", "<axis = 1>", "<axis = -3, stash_type = 1>"])
def test_mean_and_deviation_of_layer_normalization(attributes: str) -> None:
    text = f"""
        <ir_version: 9, opset_import: ["": 17]>
        g (float16[2, 3, n] x) => (double m) <float16[1] w = {{15360}}> {{
            y, mean, deviation = LayerNormalization {attributes} (x, w)
            m = Cast <to = 11> (mean)
        }}
    """
    model = parse_graph(text)
    infer_types(model)
    node = model.graph.nodes[0]
    shape = {"": (2, 3, 1), "<axis = 1>": (2, 1, 1)}.get(attributes, (1, 1, 1))
    assert [value.type for value in node.outputs[1:]] == [TensorType(DataType.FLOAT, shape)] * 2
