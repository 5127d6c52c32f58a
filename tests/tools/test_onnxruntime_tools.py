# SPDX-License-Identifier: Apache-2.0
"""The tools of onnxruntime's package that are not about sizes and opsets of a model."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule.tools.check_onnx_model_mobile_usability import check_usability
from bascule.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
from bascule.tools.mobile_helpers.usability_checker import OPERATORS, check_partitioning
from bascule.tools.onnx_model_utils import ModelProtoWithShapeInfo
from bascule.tools.qdq_helpers.optimize_qdq_model import optimize_qdq_model

FLOAT = TensorProto.FLOAT


def chain(*operators: str, rows: Any = 2) -> onnx.ModelProto:
    nodes = [
        helper.make_node(op, [f"v{i}"], [f"v{i + 1}"], name=f"n{i}")
        for i, op in enumerate(operators)
    ]
    ends = [helper.make_tensor_value_info(f"v{i}", FLOAT, [rows, 3]) for i in (0, len(operators))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_parts() -> None:
    model = chain("Relu", "Sigmoid", "Mish", "Tanh", "Asin", "Asin", "Sqrt")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = check_partitioning(inferred, OPERATORS["NNAPI"])
    assert found.sizes == [2, 1, 1] and found.nodes == 7
    assert found.unsupported == ["Asin", "Mish"] and found.dynamic == 0
    assert not found.works_well
    dynamic = onnx.shape_inference.infer_shapes(chain("Relu", "Tanh", rows="n")).graph
    found = check_partitioning(dynamic, OPERATORS["NNAPI"])
    assert found.sizes == [] and found.dynamic == 2


def test_parts_side_by_side() -> None:
    """Two branches between which nothing else runs are one part."""
    node = helper.make_node
    nodes = [node("Relu", ["x"], ["a"]), node("Tanh", ["x"], ["b"]), node("Add", ["a", "b"], ["y"])]
    ends = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    assert check_partitioning(graph, OPERATORS["CoreML MLProgram"]).sizes == [3]


def test_usability(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bascule.usability")
    for name, model, works in (
        ("good", chain("Relu", "Tanh", "Sqrt"), True),
        ("bad", chain("Mish", "Asin", "Relu"), False),
        ("dynamic", chain("Relu", "Tanh", rows="n"), False),
    ):
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        caplog.clear()
        assert check_usability([str(path)]) is works
        assert f"NNAPI as is: {'YES' if works else 'NO'}" in caplog.text
        assert ("make_dynamic_shape_fixed" in caplog.text) == (name == "dynamic")


def test_parts_with_nested_graphs() -> None:
    """What a branch reads from outside has to be there before."""
    node = helper.make_node
    result = helper.make_tensor_value_info("r", FLOAT, [2])
    inner = helper.make_graph([node("Neg", ["b"], ["r"])], "then", [], [result])
    other = helper.make_graph([node("Abs", ["x"], ["r"])], "else", [], [result])
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Mish", ["a"], ["b"]),
        node("If", ["c"], ["d"], then_branch=inner, else_branch=other),
        node("Tanh", ["d"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in "xy"]
    ends.insert(1, helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    graph = helper.make_graph(nodes, "g", ends[:2], ends[2:])
    assert check_partitioning(graph, OPERATORS["NNAPI"]).sizes == [1, 1]


def test_types_of_a_file(tmp_path: Path) -> None:
    onnx.save(chain("Relu", "Tanh"), tmp_path / "m.onnx")
    found = ModelProtoWithShapeInfo(tmp_path / "m.onnx").model_with_shape_info
    assert [each.name for each in found.graph.value_info] == ["v1"]


def test_quantized_models_are_kept(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    model = chain("Relu")
    model.graph.initializer.append(scale)
    del model.graph.node[:]
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["v0", "s"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s"], ["v1"]),
        ]
    )
    onnx.save(model, tmp_path / "in.onnx")
    optimize_qdq_model([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx")])
    x = np.array([[0.4, 0.6, 1.3], [3, 2, 0]], np.float32)
    for name in ("in", "out"):
        (y,) = bascule.InferenceSession(tmp_path / f"{name}.onnx").run(None, {"v0": x})
        np.testing.assert_array_equal(y, np.rint(x * 2) / 2)


def test_another_format_is_refused() -> None:
    assert [each.name for each in OptimizationStyle] == ["Fixed", "Runtime"]
    with pytest.raises(NotImplementedError, match=r"deliberately left out.*optimize_onnx_model"):
        convert_onnx_models_to_ort("folder", optimization_styles=[OptimizationStyle.Fixed])


@pytest.mark.filterwarnings("ignore")
def test_exported_contrib_operators(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    contrib = importlib.import_module("bascule.tools.pytorch_export_contrib_ops")

    class Net(torch.nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, x: Any, image: Any, grid: Any) -> Any:
            functions = torch.nn.functional
            sampled = functions.grid_sample(
                image, grid, mode="nearest", padding_mode="border", align_corners=True
            )
            curved = functions.gelu(x), functions.gelu(x, approximate="tanh")
            return *curved, torch.tril(x), torch.triu(x, 1), torch.inverse(x), sampled

    torch.manual_seed(0)
    values = (
        torch.randn(3, 3) + 2 * torch.eye(3),
        torch.randn(1, 2, 5, 6),
        torch.rand(1, 3, 4, 2) * 2 - 1,
    )
    net, path = Net(), str(tmp_path / "net.onnx")
    contrib.register()
    try:
        torch.onnx.export(
            *(net, values, path), dynamo=False, opset_version=13, input_names=["x", "image", "grid"]
        )
    finally:
        contrib.unregister()
    written = {node.op_type for node in onnx.load(path).graph.node if node.domain}
    assert written == {"Gelu", "FastGelu", "Trilu", "Inverse", "GridSample"}
    feeds = {name: value.numpy() for name, value in zip(("x", "image", "grid"), values)}
    found = bascule.InferenceSession(path).run(None, feeds)
    for got, want in zip(found, net(*values), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)
