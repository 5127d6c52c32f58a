# SPDX-License-Identifier: Apache-2.0
"""Write the models of bascule.datasets: ``python -m bascule.datasets FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, ValueInfoProto, helper


def mul_1() -> onnx.ModelProto:
    """Y = X * [[1, 2], [3, 4], [5, 6]]."""
    weights = helper.make_tensor("W", TensorProto.FLOAT, [3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    node = helper.make_node("Mul", ["X", "W"], ["Y"], name="mul_1")
    graph = helper.make_graph([node], "mul", [_floats("X", 3, 2)], [_floats("Y", 3, 2)], [weights])
    return _model(graph, ("", 7))


def sigmoid() -> onnx.ModelProto:
    """y = 1 / (1 + exp(-x))."""
    node = helper.make_node("Sigmoid", ["x"], ["y"], name="sigmoid")
    graph = helper.make_graph([node], "sigmoid", [_floats("x", 3, 4, 5)], [_floats("y", 3, 4, 5)])
    return _model(graph, ("", 9))


def logreg_iris() -> onnx.ModelProto:
    """The kind of an iris from the length and the width of its sepal.

    The numbers are those of scikit-learn's ``LogisticRegression`` on the first two columns of
    ``load_iris``: 82 % of the flowers are told right.
    """
    classes = [0, 1, 2]
    classify = helper.make_node(
        "LinearClassifier",
        ["float_input"],
        ["label", "scores"],
        name="classify",
        domain="ai.onnx.ml",
        classlabels_ints=classes,
        coefficients=[-2.708584, 2.324026, 0.6126007, -1.5710053, 2.0959833, -0.75302075],
        intercepts=[7.9114, 1.8469778, -9.758378],
        post_transform="SOFTMAX",
    )
    name = helper.make_node(
        "ZipMap",
        ["scores"],
        ["probabilities"],
        name="name",
        domain="ai.onnx.ml",
        classlabels_int64s=classes,
    )
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, number))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [3]),
        helper.make_value_info("probabilities", maps),
    ]
    graph = helper.make_graph([classify, name], "iris", [_floats("float_input", 3, 2)], outputs)
    return _model(graph, ("ai.onnx.ml", 1), ("", 9))


def _floats(name: str, *shape: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(graph: onnx.GraphProto, *opsets: tuple[str, int]) -> onnx.ModelProto:
    imports = [helper.make_opsetid(*pair) for pair in opsets]
    model = helper.make_model(graph, producer_name="bascule", opset_imports=imports, ir_version=4)
    onnx.checker.check_model(model)
    return model


def main(folder: str) -> None:
    """Write the models into `folder`."""
    for make in (mul_1, sigmoid, logreg_iris):
        onnx.save(make(), Path(folder) / f"{make.__name__}.onnx")


if __name__ == "__main__":
    main(sys.argv[1])
