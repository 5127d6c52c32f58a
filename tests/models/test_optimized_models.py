# SPDX-License-Identifier: Apache-2.0
"""The same models, after onnxruntime's own optimizers: with its operators, the same outputs."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import bascule
from tests.canonical.contrib.comparison import feeds_of, model_of
from tests.support.decoders import Decoder

from .test_models import DATA, ILL_CONDITIONED, assert_agrees, load_runs

# What each holds afterwards, of domain com.microsoft.
BY_THE_RUNTIME = {
    "activations_torchscript": {"FusedGemm", "Gelu", "QuickGelu"},
    "bert": {"BiasGelu", "FusedGemm", "FusedMatMul", "SkipLayerNormalization"},
    "clip": {"FusedMatMul", "QuickGelu", "SkipLayerNormalization"},
    "convnext": {"BiasGelu"},
    "detr": {"FusedConv", "FusedMatMul", "SkipLayerNormalization"},
    "distilbert": {"FusedGemm", "FusedMatMul", "SkipLayerNormalization"},
    "efficientnet": {"FusedConv", "QuickGelu"},
    "gpt2": {"FastGelu", "FusedMatMul", "SkipLayerNormalization"},
    "llama": {"FusedMatMul", "QuickGelu"},
    "mobilenetv3": {"FusedConv", "FusedGemm"},
    "resnet": {"FusedConv"},
    "segformer_torchscript": {"FusedConv", "FusedMatMul", "Gelu"},
    "swin_torchscript": {"BiasGelu", "FusedMatMul"},
    "t5_decoder": {"FastGelu", "FusedMatMul"},
    "unet": {"FusedMatMul", "QuickGelu"},
    "vit": {"BiasGelu", "FusedMatMul", "SkipLayerNormalization"},
    "wav2vec2": {"FusedMatMul", "SkipLayerNormalization"},
    "whisper_decoder": {"SkipLayerNormalization"},
}
BY_THE_SCRIPT = {
    "bert": ("bert", {"BiasGelu", "SkipLayerNormalization"}),
    "clip": ("clip", {"QuickGelu", "SkipLayerNormalization"}),
    "gpt2": ("gpt2", {"FastGelu", "SkipLayerNormalization"}),
    "llama": ("gpt2", {"SkipSimplifiedLayerNormalization"}),
    "swin": ("swin", {"BiasGelu", "SkipLayerNormalization"}),
    "t5_decoder": ("t5", {"FastGelu", "SkipSimplifiedLayerNormalization"}),
    "unet": ("unet", {"NhwcConv"}),
    "vit_float16": ("vit", {"BiasGelu", "SkipLayerNormalization"}),
}


def contrib_operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node if node.domain == "com.microsoft"}


def assert_same_outputs(model: bytes, name: str) -> Any:
    session = bascule.InferenceSession(model, providers=["CPUExecutionProvider"])
    for inputs, expected in load_runs(name):
        outputs = session.run(list(expected), inputs)
        for output, actual in zip(expected, outputs, strict=True):
            assert_agrees(actual, expected[output], output, ILL_CONDITIONED.get(name))
    return session


def operators(session: Any) -> Counter[str]:
    return Counter(f"{row.domain}.{row.op_type}" for row in session.explain().rows)


@pytest.mark.parametrize("name", BY_THE_RUNTIME)
def test_optimized_by_the_runtime(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    runtime.InferenceSession(DATA / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "model.onnx")
    if not contrib_operators(model) >= BY_THE_RUNTIME[name]:
        pytest.skip(f"this version makes {contrib_operators(model)} only")
    session = assert_same_outputs(model.SerializeToString(), name)
    if name == "unet":  # there sizes are computed in another way
        return
    # Whatever was fused there, it ends in the same attention and the same products.
    found = operators(session)
    expected = operators(bascule.InferenceSession(DATA / f"{name}.onnx"))
    for operator in (".Attention", "bascule.Attention", "bascule.MatMul", ".Transpose"):
        assert found[operator] == expected[operator], operator


@pytest.mark.parametrize("name", ["efficientnet", "mobilenetv2", "resnet", "segformer", "unet"])
def test_optimized_for_this_processor(name: str, tmp_path: Path) -> None:
    """At the last level channels stand in blocks."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    runtime.InferenceSession(DATA / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "model.onnx")
    if "com.microsoft.nchwc" not in {node.domain for node in model.graph.node}:
        pytest.skip("it makes no blocks on this processor")
    found = operators(assert_same_outputs(model.SerializeToString(), name))
    expected = operators(bascule.InferenceSession(DATA / f"{name}.onnx"))
    for operator in ("bascule.Conv", "bascule.MatMul", ".Attention", ".MaxPool"):
        assert found[operator] == expected[operator], operator


@pytest.mark.parametrize("name", BY_THE_SCRIPT)
def test_optimized_by_the_script(name: str) -> None:
    pytest.importorskip("onnxruntime")
    kind, expected = BY_THE_SCRIPT[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.transformers import optimizer

        made = optimizer.optimize_model(
            str(DATA / f"{name}.onnx"), kind, num_heads=0, hidden_size=0, opt_level=0
        ).model
    if not contrib_operators(made) >= expected:
        pytest.skip(f"this version makes {contrib_operators(made)} only")
    assert_same_outputs(made.SerializeToString(), name)


def test_a_fused_model_is_saved_as_plain_onnx(tmp_path: Path) -> None:
    """The optimized form of one node of the domain runs where the domain is not known."""
    x, w = (np.random.default_rng(i).normal(size=(8, 8)).astype(np.float32) for i in range(2))
    node = onnx.helper.make_node(
        "FusedGemm", ["x", "w"], ["y"], domain="com.microsoft", activation="Relu", transA=1
    )
    info = onnx.helper.make_tensor_value_info
    infos = [info(name, onnx.TensorProto.FLOAT, [8, 8]) for name in "xy"]
    weights = [onnx.numpy_helper.from_array(w, "w")]
    graph = onnx.helper.make_graph([node], "g", infos[:1], infos[1:], weights)
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = bascule.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    bascule.InferenceSession(model.SerializeToString(), options)
    saved = onnx.load(tmp_path / "saved.onnx")
    assert not contrib_operators(saved)
    (found,) = ReferenceEvaluator(saved).run(None, {"x": x})
    np.testing.assert_allclose(found, np.maximum(x.T @ w, 0), rtol=1e-5, atol=1e-5)


def test_nodes_of_a_saved_model_have_names_of_their_own(tmp_path: Path) -> None:
    """Several stand for one of the model, in nested graphs too."""
    attributes = {"decoder": Decoder().graph(), "eos_token_id": 9, "pad_token_id": 10}
    inputs = [np.array([[1, 2, 3]], np.int32), np.array([6], np.int32)]
    model = model_of("GreedySearch", inputs, attributes, shapes="symbolic")
    options = bascule.SessionOptions()
    options.optimized_model_filepath = path = str(tmp_path / "saved.onnx")
    expected = bascule.InferenceSession(model.SerializeToString(), options)
    pending, names = [onnx.load(path).graph], Counter[str]()
    while pending:
        for node in pending.pop().node:
            names[node.name] += bool(node.name)
            pending += [each.g for each in node.attribute if each.HasField("g")]
    assert max(names.values()) == 1
    again = bascule.InferenceSession(path)
    for ours, theirs in zip(
        again.run(None, feeds_of(inputs)), expected.run(None, feeds_of(inputs)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
