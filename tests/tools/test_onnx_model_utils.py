# SPDX-License-Identifier: Apache-2.0
"""Tools under the names of onnxruntime's: shapes fixed and inferred, opsets, inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

import bascule as ort
from bascule.datasets import get_example
from bascule.tools import (
    make_dynamic_shape_fixed,
    onnx_model_utils,
    optimize_onnx_model,
    remove_initializer_from_input,
    symbolic_shape_infer,
    update_onnx_opset,
)
from bascule.tools.symbolic_shape_infer import SymbolicShapeInference
from tests.api.models import linear, model, scaled, tensor


def shape(value: onnx.ValueInfoProto) -> list[Any]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value if dim.ByteSize() else None for dim in dims]


def saved(proto: onnx.ModelProto, folder: Path) -> str:
    path = str(folder / "in.onnx")
    onnx.save(proto, path)
    return path


def run(source: Any, **feeds: Any) -> Any:
    data = source if isinstance(source, str) else source.SerializeToString()
    return ort.InferenceSession(data).run(None, feeds)


def test_a_named_size_is_fixed(tmp_path: Path) -> None:
    out = str(tmp_path / "out.onnx")
    arguments = ["--dim_param", "n", "--dim_value", "4", saved(linear(), tmp_path), out]
    make_dynamic_shape_fixed.make_dynamic_shape_fixed_helper(arguments)
    fixed = onnx.load(out)
    assert shape(fixed.graph.input[0]) == [4, 3]
    assert [shape(value) for value in fixed.graph.output] == [[4, 2], [4, 2]]


def test_the_shape_of_an_input_is_fixed(tmp_path: Path) -> None:
    out = str(tmp_path / "out.onnx")
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [tensor("x", shape=[-1, 3])], [])
    proto.graph.output.append(tensor("y", shape=["?", 3]))
    arguments = ["--input_name", "x", "--input_shape", "7,3", saved(proto, tmp_path), out]
    make_dynamic_shape_fixed.make_dynamic_shape_fixed_helper(arguments)
    assert shape(onnx.load(out).graph.output[0]) == [7, 3]
    for name, sizes in (("z", [1]), ("x", [1]), ("x", [7, 4])):
        with pytest.raises(ValueError, match=r"z|x"):
            onnx_model_utils.make_input_shape_fixed(proto.graph, name, sizes)


def test_nested_graphs_are_reached() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (bool c, float[n] x) => (float[n] y) {
            y = If (c) <then_branch = t () => (float[n] a) { a = Relu(x) },
                        else_branch = e () => (float[n] b) { b = Neg(x) }>
        }""")
    seen: list[str] = []
    onnx_model_utils.iterate_graph_per_node_func(proto.graph, lambda n: seen.append(n.op_type))
    assert seen == ["If", "Relu", "Neg"]
    onnx_model_utils.make_dim_param_fixed(proto.graph, "n", 5)
    shapes: list[Any] = []
    onnx_model_utils.iterate_graph_per_graph_func(
        proto.graph, lambda graph: shapes.append(shape(graph.output[0]))
    )
    assert shapes == [[5], [5], [5]]


def test_opsets(tmp_path: Path) -> None:
    source, out = saved(linear(), tmp_path), str(tmp_path / "out.onnx")
    update_onnx_opset.update_onnx_opset_helper(["--opset", "22", source, out])
    assert onnx_model_utils.get_opsets_imported(onnx.load(out)) == {"ai.onnx": 22}
    with pytest.raises(ValueError, match="newer"):
        onnx_model_utils.update_onnx_opset(source, 11)


def test_defaults_become_constants(tmp_path: Path) -> None:
    out = str(tmp_path / "out.onnx")
    remove_initializer_from_input.main(["--input", saved(scaled(), tmp_path), "--output", out])
    assert [value.name for value in onnx.load(out).graph.input] == ["x"]
    old = scaled()
    old.ir_version = 3
    assert not onnx_model_utils.remove_initializer_from_input(old)


def test_an_optimized_model_is_written(tmp_path: Path) -> None:
    out = str(tmp_path / "out.onnx")
    source = saved(linear(), tmp_path)
    optimize_onnx_model.optimize_model_helper(["--opt_level", "all", source, out])
    x = np.ones((2, 3), np.float32)
    for found, want in zip(run(out, x=x), run(source, x=x)):
        np.testing.assert_allclose(found, want)
    with pytest.raises(ValueError, match="Invalid optimization level"):
        onnx_model_utils.get_optimization_level("most")


def test_shapes_are_inferred_by_name() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        g (float[batch, rows, 8] x, float[8, 5] w, float[5] b) => (float[batch, k, 5] y) {
            m = MatMul(x, w)
            g = com.microsoft.BiasGelu(m, b)
            r = Relu(g)
            s = Shape(r)
            f = ConstantOfShape(s)
            y = Add(r, f)
        }""")
    found = SymbolicShapeInference.infer_shapes(proto, auto_merge=True, verbose=1)
    assert found is not None
    assert not proto.graph.value_info
    infos = {value.name: shape(value) for value in found.graph.value_info}
    assert infos["m"] == infos["g"] == infos["r"] == infos["f"] == ["batch", "rows", 5]
    assert infos["s"] == [3]
    assert shape(found.graph.output[0])[::2] == ["batch", 5]


def test_shapes_that_cannot_be_inferred(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    inputs = [tensor("x"), tensor("to", TensorProto.INT64, ["rank"])]
    proto = model(nodes, inputs, [tensor("y", shape=None)])
    with pytest.raises(Exception, match=r"Incomplete symbolic shape inference: r, y"):
        SymbolicShapeInference.infer_shapes(proto)
    out = str(tmp_path / "out.onnx")
    arguments = ["--guess_output_rank", "--input", saved(proto, tmp_path), "--output", out]
    symbolic_shape_infer.main(arguments)
    assert onnx.load(out).graph.value_info[0].name == "r"
    proto.opset_import[0].version = 6
    assert SymbolicShapeInference.infer_shapes(proto) is None


@pytest.mark.parametrize("name", ["mul_1.onnx", "sigmoid.onnx", "logreg_iris.onnx"])
def test_the_examples_are_those_of_onnxruntime(name: str) -> None:
    """The same names, types and shapes, so that the same feeds run."""
    ours = ort.InferenceSession(get_example(name))
    onnx.checker.check_model(get_example(name))
    reference = pytest.importorskip("onnxruntime.datasets")
    theirs = ort.InferenceSession(reference.get_example(name))
    for mine, yours in zip(
        [*ours.get_inputs(), *ours.get_outputs()], [*theirs.get_inputs(), *theirs.get_outputs()]
    ):
        assert (mine.name, mine.type, mine.shape) == (yours.name, yours.type, yours.shape)


def test_an_example_that_there_is_not() -> None:
    for name in ("nothing.onnx", "../examples/digits.onnx", "__init__.py"):
        with pytest.raises(FileNotFoundError, match="Unable to find example"):
            get_example(name)


def test_the_examples_are_what_their_script_writes(tmp_path: Path) -> None:
    from bascule.datasets import __main__ as script

    script.main(str(tmp_path))
    for path in tmp_path.glob("*.onnx"):
        assert onnx.load(path) == onnx.load(get_example(path.name))
