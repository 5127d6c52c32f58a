# SPDX-License-Identifier: Apache-2.0
"""Sessions of files that declare sizes which do not hold for every feed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.api.models import FLOAT, model, session, tensor
from tests.api.test_rows_options import BOTH, make


@pytest.mark.parametrize("runtime", BOTH)
@pytest.mark.parametrize("declared", [None, [3, 4], ["k", 4]])
@pytest.mark.parametrize("first", ["Cast", "Identity", "Dropout"])
def test_an_input_keeps_its_sizes(runtime: str, declared: Any, first: str) -> None:
    """Also where the node after it goes, and the file says more of what that makes."""
    to = {"to": FLOAT} if first == "Cast" else {}
    nodes = [
        helper.make_node(first, ["x"], ["t"], **to),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    proto = model(nodes, [tensor("x", FLOAT, [None, 4])], [tensor("y", FLOAT, [None, 4])])
    if declared:
        proto.graph.value_info.append(tensor("t", FLOAT, declared))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make(None, runtime, proto)
        assert made.get_inputs()[0].shape == [None, 4]
        for rows in (3, 5):
            (y,) = made.run(None, {"x": np.ones((rows, 4), np.float32)})
            np.testing.assert_array_equal(y, np.ones((rows, 4)))


@pytest.mark.parametrize(
    ("first", "given"),
    [
        ("Relu", ["n", 4]),
        ("Identity", ["n", 4]),
        ("Identity", [None, 4]),
        ("Identity", None),
    ],
)
def test_sizes_left_over_in_the_file(first: str, given: Any) -> None:
    """Inner values that still have the sizes from before the input was given symbolic ones."""
    nodes = [
        helper.make_node(first, ["x"], ["t"]),
        helper.make_node("Shape", ["t"], ["sizes"]),
        helper.make_node("Expand", ["one", "sizes"], ["y"]),
    ]
    one = helper.make_tensor("one", FLOAT, [1], [1.0])
    proto = model(nodes, [tensor("x", FLOAT, given)], [tensor("y", FLOAT, None)], [one])
    proto.graph.value_info.append(tensor("t", FLOAT, [3, 4]))
    made = session(proto)
    for rows in (3, 5, 1):
        (y,) = made.run(None, {"x": np.ones((rows, 4), np.float32)})
        np.testing.assert_array_equal(y, np.ones((rows, 4)))


@pytest.mark.parametrize("end", ["two", "mod"])
@pytest.mark.parametrize("runtime", BOTH)
def test_sizes_that_a_file_declares_for_an_output(runtime: str, end: str) -> None:
    """Exporters write the sizes of their example where they cannot tell, and do not say so."""
    numbers = {"zero": [0], "two": [2], "three": [3], "rows": [-1, 4]}
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Mod", ["two", "two"], ["mod"]),  # with it the rank of y is not known
        helper.make_node("Slice", ["sizes", "zero", end], ["first"]),
        helper.make_node("Slice", ["sizes", end, "three"], ["rest"]),
        helper.make_node("Concat", ["first", "rest"], ["wanted"], axis=0),
        helper.make_node("Flatten", ["x"], ["flat"], axis=2),
        helper.make_node("Reshape", ["flat", "wanted"], ["y"]),
        helper.make_node("Relu", ["x"], ["t"]),
        helper.make_node("Reshape", ["t", "rows"], ["z"]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        for name, values in numbers.items()
    ]
    outputs = [tensor("y", FLOAT, [2, 5, 4]), tensor("t", FLOAT, [2, 5, 4])]
    outputs.append(tensor("z", FLOAT, [10, 4]))
    made = make(
        None, runtime, model(nodes, [tensor("x", FLOAT, ["n", "m", 4])], outputs, constants)
    )
    assert [output.shape for output in made.get_outputs()] == [[2, 5, 4], [2, 5, 4], [10, 4]]
    for sizes in ((3, 7, 4), (2, 5, 4), (1, 1, 4)):
        x = np.random.default_rng(0).random(sizes, np.float32)
        y, t, z = made.run(None, {"x": x})
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(t, x)
        np.testing.assert_array_equal(z, x.reshape(-1, 4))


@pytest.mark.parametrize(
    ("opset", "nodes", "left"),
    [
        (18, "t = Concat <axis = 0> (x, x)", "float[6,4] t"),
        (12, "t = Softmax <axis = 1> (x)", "float[3,4] t"),
        (12, "u = Relu (x) t = Softmax <axis = 0> (u)", "float[3,4] u, float[3,4] t"),
        (12, "u = com.microsoft.Gelu (x) t = Softmax <axis = 0> (u)", "float[3,4] u, float[3,4] t"),
    ],
)
def test_sizes_left_over_that_follow_from_those_of_inputs(
    opset: int, nodes: str, left: str
) -> None:
    text = f"""
        <ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>
        g (float[n,4] x) => (float[a,b] y) <float[1] one = {{1}}, {left}>
        {{ {nodes} sizes = Shape (t) y = Expand (one, sizes) }}"""
    made = session(onnx.parser.parse_model(text))
    for rows in (3, 5):
        (y,) = made.run(None, {"x": np.ones((rows, 4), np.float32)})
        assert y.shape == (rows * (2 if "Concat" in nodes else 1), 4)


def test_a_size_left_over_of_an_output() -> None:
    """It is told as the model tells it, and nothing follows from it."""
    made = session(
        onnx.parser.parse_model("""
            <ir_version: 8, opset_import: ["" : 18]>
            g (float[n,4] x) => (float[3,4] t, float[a,b] y) <float[1] one = {1}>
            { t = Exp (x) sizes = Shape (t) y = Expand (one, sizes) }""")
    )
    assert made.get_outputs()[0].shape == [3, 4]
    for rows in (3, 5):
        t, y = made.run(None, {"x": np.ones((rows, 4), np.float32)})
        assert t.shape == y.shape == (rows, 4)
