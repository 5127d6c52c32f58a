# SPDX-License-Identifier: Apache-2.0
"""Which of the sizes that a file declares are believed: the rules of bascule/ir/declared.py."""

from __future__ import annotations

from unittest import mock

import onnx
import pytest

from bascule.ir.declared import sizes_of
from bascule.ir.graph import Model
from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from bascule.ir.types import Dim, Shape


def loaded(graph: str) -> Model:
    return load_model(
        onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["": 18, "some.domain": 1]> g {graph}'
        )
    )


def shapes_of(model: Model) -> dict[str, Shape | None]:
    """By name, of inputs of nested graphs, too; sizes that a feed decides are None."""
    values = [value for graph in model.graph.walk_graphs() for value in graph.inputs]
    values += [value for node in model.graph.walk_nodes() for value in node.outputs]

    def fixed(dim: Dim) -> Dim:
        return dim if isinstance(dim, int) else None

    return {v.name: None if v.shape is None else tuple(map(fixed, v.shape)) for v in values}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("nodes", "given", "left"),
    [
        ("t = Relu(x)", "n,4", "6,4"),
        ("t = Concat<axis = 0>(x, x)", "n,4", "6,4"),
        ("t = MatMul(x, x)", "?,?", "6,6"),
        ("t = MaxPool<kernel_shape = [1], strides = [2]>(x)", "1,4,h", "1,4,6"),
        ("t = Slice(x, zero, six, zero)", "n,4", "6,4"),
        ("n = Shape<end = 1>(x) s = Concat<axis = 0>(n, six) t = Expand(x, s)", "n,1", "4,6"),
    ],
)
def test_sizes_left_over(check: bool, nodes: str, given: str, left: str) -> None:
    """Fixed sizes of an inner value do not hold where they follow from open sizes of the inputs."""
    model = loaded(f"""
        (float[{given}] x) => (float y)
        <int64[1] zero = {{0}}, int64[1] six = {{6}}, float[{left}] t, float[{left}] u>
        {{ {nodes} u = Relu(t) y = Exp(u) }}""")
    infer_types(model, check=check)
    open_axis = 2 if "h" in given else 0
    for value in (node.output for node in model.graph if node.op_type in ("Relu", "Exp")):
        assert value.shape is not None
        assert not isinstance(value.shape[open_axis], int), value.shape


def test_sizes_that_the_file_knows_hold() -> None:
    """A size that comes out, or that nothing speaks against, though onnx does not find it."""
    model = loaded("""
        (float[n,4] x, int64[2] sizes) => (float y) <float[n,8] t>
        { t = Reshape(x, sizes) y = Exp(t) }""")
    infer_types(model)
    assert model.graph.outputs[0].shape == ("n", 8)


BODIES = {
    "Loop": (
        "y, z = Loop(three, , x) <body = b (int64 i, bool c, float[3,4] a) =>"
        " (bool d, float[3,4] e, float[3,4] f)"
        " <float[3,4] r> { d = Identity(c) r = Relu(a) e = Neg(r) f = Exp(r) }>"
    ),
    "Scan": (
        "s = Transpose<perm = [1, 0]>(x) t = Concat<axis = 1>(x, x) z, y = Scan"
        "<num_scan_inputs = 1, scan_input_axes = [1], body = b (float[3,8] k, float[3] a) =>"
        " (float[3,8] e, float[3] f) <float[3] r> { e = Relu(k) r = Relu(a) f = Neg(r) }>(t, x)"
    ),
    "SequenceMap": (
        "q = SequenceConstruct(x) m = SequenceMap<body = b (float[3,4] a) => (float[3,4] e)"
        " <float[3,4] r> { r = Relu(a) e = Neg(r) }>(q) y = SequenceAt(m, none)"
    ),
}


@pytest.mark.parametrize("first", ["n", "3"])
@pytest.mark.parametrize("op_type", BODIES)
def test_inputs_of_bodies(op_type: str, first: str) -> None:
    """They have the fixed sizes that what is handed to them has."""
    model = loaded(f"""
        (float[{first},4] x) => (float[n,m] y) <int64 three = {{3}}, int64 none = {{0}}>
        {{ {BODIES[op_type]} }}""")
    infer_types(model)
    shapes = shapes_of(model)
    size = None if first == "n" else 3
    assert shapes["a"] == shapes["r"] == ((size,) if op_type == "Scan" else (size, 4))
    if op_type == "Scan":
        assert shapes["k"] == shapes["e"] == (size, 8)


def test_a_loop_hands_back_what_grows() -> None:
    """Though the initial value has the size."""
    model = loaded("""
        (float[n,4] x, float[3,4] s) => (float[p,4] y) <int64 three = {3}> {
            y = Loop(three, , s) <body = b (int64 i, bool c, float[3,4] a) =>
                (bool d, float[3,4] e) <float[3,4] r>
                { d = Identity(c) r = Relu(a) e = Concat<axis = 0>(r, x) }>
        }""")
    infer_types(model)
    shapes = shapes_of(model)
    assert shapes["a"] == shapes["r"] == shapes["e"] == (None, 4)


def test_a_size_in_a_body_that_an_unknown_operator_gives() -> None:
    """It holds, until another is left over in the same file."""
    for left, size in (("", 3), ("float[9,4] u,", None)):
        model = loaded(f"""
            (float[n,4] x) => (float[p,q] y, float[n,4] z) <{left} int64 three = {{3}}> {{
                u = Relu(x) z = Exp(u) t = some.domain.Odd(x)
                y = Loop(three, , t) <body = b (int64 i, bool c, float[3,4] a) =>
                    (bool d, float[3,4] e)
                    {{ d = Identity(c) e = Neg(a) }}>
            }}""")
        infer_types(model)
        assert (shapes_of(model)["a"] or (None,))[0] == size


def test_a_source_that_is_an_output() -> None:
    """Its declared size is not believed, though nothing else in the file is in doubt."""
    model = loaded("""
        (float[n,4] x) => (float[6,4] t, float[p,q] y) <float[n,4] u, int64 three = {3}> {
            u = Relu(x) t = Concat<axis = 0>(u, u)
            y = Loop(three, , t) <body = b (int64 i, bool c, float[6,4] a) =>
                (bool d, float[6,4] e) <float[6,4] r> { d = Identity(c) r = Relu(a) e = Neg(r) }>
        }""")
    infer_types(model)
    shapes = shapes_of(model)
    assert shapes["t"] == shapes["a"] == shapes["r"] == (None, 4)


def test_a_source_whose_axes_nobody_knows() -> None:
    """Inference knows the Reshape: its result would have the sizes if they were fixed."""
    model = loaded("""
        (float[n,4] x, int64[2] sizes, int64[1] end) => (float[p,q] y)
        <int64[1] first = {0}, int64 three = {3}> {
            s = Slice(sizes, first, end) t = Reshape(x, s)
            y = Loop(three, , t) <body = b (int64 i, bool c, float[3,4] a) =>
                (bool d, float[3,4] e) <float[3,4] r> { d = Identity(c) r = Relu(a) e = Neg(r) }>
        }""")
    infer_types(model)
    shapes = shapes_of(model)
    assert shapes["a"] == shapes["r"] == (None, None)


def test_a_shape_that_a_feed_decides() -> None:
    """The skeleton leaves the ConstantOfShape out, and then states nothing of what is declared."""
    model = loaded("""
        (float[n,4] x) => (float[p,q] y) <float[3,4] u, float[3,4] t>
        { u = Relu(x) s = Shape(u) t = ConstantOfShape(s) y = Exp(t) }""")
    infer_types(model)
    assert shapes_of(model)["t"] == (None, 4)


def test_loops_in_a_row() -> None:
    count = 8
    loops = " ".join(
        f"y{i} = Loop(three, , {f'y{i - 1}' if i else 'x'}) <body = b{i} (int64 i{i}, bool c{i},"
        f" float[3,4] a{i}) => (bool d{i}, float[3,4] e{i})"
        f" {{ d{i} = Identity(c{i}) e{i} = Neg(a{i}) }}>"
        for i in range(count)
    )
    declared = ", ".join(f"float[3,4] y{i}" for i in range(count))
    model = loaded(f"""
        (float[n,4] x) => (float[p,q] z) <{declared}, int64 three = {{3}}>
        {{ {loops} z = Exp(y{count - 1}) }}""")
    with mock.patch(
        "bascule.ir.infer.infer_shapes", wraps=onnx.shape_inference.infer_shapes
    ) as run:
        infer_types(model)
    assert run.call_count < 16
    shapes = shapes_of(model)
    assert not any((shapes[f"{x}{i}"] or (None,))[0] for i in range(count) for x in "aey")


def test_bodies_take_one_more_inference() -> None:
    counts = []
    for first in "3n":
        model = loaded(f"""
            (float[{first},4] x) => (float[n,m] y) <int64 three = {{3}}> {{ {BODIES["Loop"]} }}""")
        for value in (value for graph in model.graph.walk_graphs() for value in graph.outputs):
            value.type = None  # so that none but inputs of bodies is in doubt
        for node in model.graph.walk_nodes():
            for value in node.outputs:
                value.type = None
        with mock.patch(
            "bascule.ir.infer.infer_shapes", wraps=onnx.shape_inference.infer_shapes
        ) as run:
            infer_types(model)
        counts.append(sum(not call.kwargs["data_prop"] for call in run.call_args_list))
    assert counts[1] == counts[0] + 1


@pytest.mark.parametrize("given", ["n", "3"])
def test_tensors_in_a_sequence(given: str) -> None:
    model = loaded(f"""
        (float[{given},4] x) => (float y)
        <seq(float[3,4]) q, float[3,4] t, int64 zero = {{0}}>
        {{ q = SequenceConstruct(x) t = SequenceAt(q, zero) y = Exp(t) }}""")
    infer_types(model)
    size = None if given == "n" else 3
    assert shapes_of(model)["t"] == (size, 4)
    assert [isinstance(dim, int) for dim in sizes_of(model.graph.nodes[0].output.type)] == [
        given == "3",
        True,
    ]


def test_what_is_handed_on_to_an_output() -> None:
    """It was the output, before a converter to float16 put a Cast behind it."""
    model = loaded("""
        (float16[n,4] x, int64[2] sizes, int64[1] end) => (float[2,8] y)
        <float16[2,8] t, int64[1] first = {0}> {
            wanted = Slice(sizes, first, end) t = Reshape(x, wanted) y = Cast<to = 1>(t)
        }""")
    infer_types(model)
    assert shapes_of(model)["t"] == (None, None)
