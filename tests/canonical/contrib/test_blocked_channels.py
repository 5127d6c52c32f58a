# SPDX-License-Identifier: Apache-2.0
"""Models whose channels stand in blocks: made by hand for each size, and by onnxruntime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import bascule
from bascule.canonical import canonicalize
from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from bascule.ir.load import load_model
from bascule.native import block_size
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, Level, assert_close, normal, operators, session

onnxruntime: Any
try:
    import onnxruntime
except ImportError:
    onnxruntime = None

DOMAIN = "com.microsoft.nchwc"
node = helper.make_node


def nchwc(op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return node(op_type, inputs, [output], f"{op_type} of {output}", domain=DOMAIN, **attributes)


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Array],
    shape: tuple[int | str, ...],
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def in_blocks(weights: Array, size: int) -> Array:
    """As the optimizer lays them out: [O/size, I/size, H, W, size of I, size of O]."""
    outputs, inputs, height, width = weights.shape
    by_one = inputs < size
    missing = (0, -outputs % size), (0, 0 if by_one else -inputs % size), (0, 0), (0, 0)
    whole = np.pad(weights, missing)
    shape = whole.shape
    if by_one:
        blocks = whole.reshape(shape[0] // size, size, *shape[1:]).transpose(0, 2, 3, 4, 1)
    else:
        apart = (shape[0] // size, size, shape[1] // size, size, height, width)
        blocks = whole.reshape(apart).transpose(0, 2, 4, 5, 3, 1)
    return np.ascontiguousarray(blocks).reshape(shape)


def whole(bias: Array, size: int) -> Array:
    return np.pad(bias, (0, -len(bias) % size))


def reference(nodes: list[onnx.NodeProto], weights: dict[str, Array], x: Array) -> Array:
    """The plain operators, in float64."""
    wide = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in weights.items()
    }
    evaluator = ReferenceEvaluator(model_of(nodes, wide, x.shape))
    (y,) = evaluator.run(None, {"x": x.astype(np.float64)})
    return np.asarray(y)


def check(model: onnx.ModelProto, x: Array, expected: Array) -> None:
    for level in (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL):
        (found,) = session(model, level).run(None, {"x": x})
        assert found.dtype == np.float32
        assert_close(found, expected, 2e-5, level.name)


@pytest.mark.parametrize(
    "activation", ["Relu", "Sigmoid", "HardSigmoid", "Clip", "Gelu", "Softsign"]
)
@pytest.mark.parametrize("size", [8, 16])
def test_blocks_of_each_size(size: int, activation: str) -> None:
    """20 channels, of which no whole blocks can be made, also in a residual."""
    parameters = {"HardSigmoid": [0.3, 0.6], "Clip": [0.5, 6.0]}.get(activation, [])
    w1, w2, w3 = normal(20, 3, 3, 3), normal(20, 20, 3, 3) / 8, normal(12, 20, 1, 1)
    b1, b2, x = normal(20), normal(20, seed=1), normal(2, 3, 7, 6)
    first: dict[str, Any] = {"activation": activation}
    if parameters:
        first["activation_params"] = parameters
    nodes = [
        nchwc("Conv", ["x", "w1", "b1"], "c1", pads=[1, 1, 1, 1], strides=[2, 1], **first),
        nchwc("Conv", ["c1", "w2", "b2", "c1"], "c2", pads=[1] * 4, activation="Tanh"),
        nchwc("Conv", ["c2", "w3"], "c3"),
        nchwc("ReorderOutput", ["c3"], "y", channels=12, channels_last=1),
    ]
    weights = {f"w{k}": in_blocks(w, size) for k, w in enumerate((w1, w2, w3), 1)}
    weights |= {"b1": whole(b1, size), "b2": whole(b2, size)}
    model = model_of(nodes, weights, ("n", 3, "h", "w"))
    named: dict[str, Any] = dict(zip(("alpha", "beta"), parameters))
    bounds, names = (named, []) if activation != "Clip" else ({}, ["low", "high"])
    plain = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 1]),
        node(activation, ["c1", *names], ["a1"], **bounds),
        node("Conv", ["a1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Add", ["c2", "a1"], ["s2"]),
        node("Tanh", ["s2"], ["t2"]),
        node("Conv", ["t2", "w3"], ["c3"]),
        node("Transpose", ["c3"], ["y"], perm=[0, 2, 3, 1]),
    ]
    if activation == "Gelu":
        plain[1] = helper.make_node("Mul", ["c1", "half"], ["a1"])
        plain[1:1] = [
            node("Mul", ["c1", "root"], ["i1"]),
            node("Erf", ["i1"], ["e1"]),
            node("Add", ["e1", "one"], ["f1"]),
            node("Mul", ["f1", "halfed"], ["half"]),
        ]
    given = {"w1": w1, "w2": w2, "w3": w3, "b1": b1, "b2": b2}
    given |= {"low": np.float32(0.5), "high": np.float32(6)}
    given |= {"root": np.float32(0.5**0.5), "one": np.float32(1), "halfed": np.float32(0.5)}
    check(model, x, reference(plain, given, x))
    (found,) = EmulatedSession(model.SerializeToString()).run(None, {"x": x})
    assert_close(found, reference(plain, given, x), 2e-5, "cuda")


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("size", [8, 16])
def test_what_is_filled_up_is_not_computed(size: int, last: int) -> None:
    """A chain of 20 channels, filled up to whole blocks, is the plain one."""
    w1, w2, x = normal(20, 20, 3, 3), normal(20, 20, 3, 3, seed=1), normal(2, 20, 7, 6)
    nodes = [
        nchwc("ReorderInput", ["x"], "r", channels_last=last),
        nchwc("Conv", ["r", "w1"], "c1", pads=[1, 1, 1, 1], activation="Sigmoid"),
        nchwc("Conv", ["c1", "w2"], "c2", pads=[1, 1, 1, 1]),
        nchwc("ReorderOutput", ["c2"], "y", channels=20, channels_last=last),
    ]
    weights = {"w1": in_blocks(w1, size), "w2": in_blocks(w2, size)}
    plain = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["c1"], ["s1"]),
        node("Conv", ["s1", "w2"], ["y"], pads=[1, 1, 1, 1]),
    ]
    expected = reference(plain, {"w1": w1, "w2": w2}, x)
    if last:
        x, expected = np.moveaxis(x, 1, -1), np.moveaxis(expected, 1, -1)
    model = model_of(nodes, weights, x.shape)
    check(model, x, expected)
    assert operators(session(model)).count("bascule.Conv") == 2
    assert not {"Pad", "Slice"} & set(operators(session(model)))
    check(model_of(nodes, weights, ("n", "a", "b", "c")), x, expected)


@pytest.mark.parametrize("zeros", [0, 3])
@pytest.mark.parametrize("pointwise", ["Relu", "Softplus"])
@pytest.mark.parametrize("size", [8, 16])
def test_what_is_filled_up_is_not_computed_by_channel(
    size: int, pointwise: str, zeros: int
) -> None:
    """Also where an operator of the standard stands between, and where a model's weights are 0."""
    w1, w2, w3 = normal(20, 3, 3, 3), normal(20, 1, 3, 3), normal(12, 20, 1, 1)
    b, x = normal(20), normal(2, 3, 7, 6)
    w2[20 - zeros :] = b[20 - zeros :] = 0
    whole_group = size * (3 if size == 8 else 2)
    nodes = [
        nchwc("Conv", ["x", "w1"], "c1"),
        node(pointwise, ["c1"], ["p1"]),
        nchwc("Conv", ["p1", "w2", "b"], "c2", group=whole_group, activation="Sigmoid"),
        nchwc("Conv", ["c2", "w3"], "c3"),
        nchwc("ReorderOutput", ["c3"], "y", channels=12),
    ]
    blocks = np.pad(w2, [(0, whole_group - 20), (0, 0), (0, 0), (0, 0)])
    weights = {"w1": in_blocks(w1, size), "w2": in_blocks(blocks, size)}
    weights |= {"w3": in_blocks(w3, size), "b": whole(b, size)}
    plain = [
        node("Conv", ["x", "w1"], ["c1"]),
        node(pointwise, ["c1"], ["p1"]),
        node("Conv", ["p1", "w2", "b"], ["c2"], group=20),
        node("Sigmoid", ["c2"], ["s2"]),
        node("Conv", ["s2", "w3"], ["y"]),
    ]
    model = model_of(nodes, weights, x.shape)
    check(model, x, reference(plain, {"w1": w1, "w2": w2, "w3": w3, "b": b}, x))
    assert not {"Pad", "Slice"} & set(operators(session(model)))


@pytest.mark.parametrize("size", [8, 16])
def test_groups_pooling_and_upsampling(size: int) -> None:
    w1, w2, b = normal(48, 1, 3, 3), normal(48, 16, 3, 3) / 8, normal(48)
    x = normal(1, 48, 8, 8)
    nodes = [
        nchwc("ReorderInput", ["x"], "r"),
        nchwc("Conv", ["r", "w1", "b"], "c1", group=48, pads=[1, 1, 1, 1]),
        nchwc("MaxPool", ["c1"], "m", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
        nchwc("Conv", ["m", "w2"], "c2", group=3, dilations=[1, 2]),
        nchwc("AveragePool", ["c2"], "a", kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=1),
        nchwc("Upsample", ["a"], "u", scales=[1, 1, 3, 2]),
        nchwc("GlobalAveragePool", ["u"], "ga"),
        nchwc("GlobalMaxPool", ["u"], "gm"),
        node("Mul", ["ga", "gm"], ["g"]),
        node("Sub", ["u", "g"], ["s"]),
        node("Concat", ["s", "u"], ["k"], axis=1),
        nchwc("ReorderOutput", ["k"], "y", channels=96),
    ]
    plain = [
        node("Conv", ["x", "w1", "b"], ["c1"], group=48, pads=[1, 1, 1, 1]),
        node("MaxPool", ["c1"], ["m"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
        node("Conv", ["m", "w2"], ["c2"], group=3, dilations=[1, 2]),
        node("AveragePool", ["c2"], ["a"], kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=1),
        node(
            "Resize",
            ["a", "", "scales"],
            ["u"],
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        node("GlobalAveragePool", ["u"], ["ga"]),
        node("GlobalMaxPool", ["u"], ["gm"]),
        node("Mul", ["ga", "gm"], ["g"]),
        node("Sub", ["u", "g"], ["s"]),
        node("Concat", ["s", "u"], ["y"], axis=1),
    ]
    given = {"w1": w1, "w2": w2, "b": b, "scales": np.array([1, 1, 3, 2], np.float32)}
    expected = reference(plain, given, x)
    # Only a convolution of 8 channels, which stand in a block or by themselves, tells the size.
    tell = normal(size, 8 if size == 8 else 12, 1, 1)
    extra = [nchwc("Conv", ["other", "tell"], "told")]
    weights = {"w1": in_blocks(w1, size), "w2": in_blocks(w2, size), "b": b}
    weights |= {"tell": tell, "other": np.zeros((1, tell.shape[1], 1, 1), np.float32)}
    model = model_of([*extra, *nodes], weights, x.shape, ("y", "told"))
    for level in (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL):
        found, _ = session(model, level).run(None, {"x": x})
        assert_close(found, expected, 2e-5, level.name)


@pytest.mark.parametrize("size", [8, 16])
def test_zeros_tell_the_size(size: int) -> None:
    """28 channels are 32 in blocks of 8 and 16: the zeros are in different places."""
    w1, w2, x = normal(28, 3, 3, 3), normal(16, 28, 3, 3), normal(1, 3, 9, 9)
    nodes = [
        nchwc("Conv", ["x", "w1"], "c1", auto_pad="SAME_UPPER"),
        nchwc("Conv", ["c1", "w2"], "c2"),
        nchwc("ReorderOutput", ["c2"], "y", channels=16),
    ]
    weights = {"w1": in_blocks(w1, size), "w2": in_blocks(w2, size)}
    plain = [
        node("Conv", ["x", "w1"], ["c1"], auto_pad="SAME_UPPER"),
        node("Conv", ["c1", "w2"], ["y"]),
    ]
    expected = reference(plain, {"w1": w1, "w2": w2}, x)
    check(model_of(nodes, weights, x.shape), x, expected)


def test_a_size_that_nothing_tells(caplog: pytest.LogCaptureFixture) -> None:
    """All channels are whole blocks of either size, none of zeros: the processor decides."""
    nodes = [nchwc("Conv", ["x", "w"], "c"), nchwc("ReorderOutput", ["c"], "y", channels=16)]
    w, x = normal(16, 3, 3, 3), normal(1, 3, 6, 6)
    model = model_of(nodes, {"w": in_blocks(w, block_size())}, x.shape)
    with caplog.at_level(logging.WARNING, "bascule"):
        check(model, x, reference([node("Conv", ["x", "w"], ["y"])], {"w": w}, x))
    assert "results are wrong: save the model at ORT_ENABLE_EXTENDED" in caplog.text
    with pytest.raises(NotSupported, match=r"blocks of 8 or of 16.*save the model at ORT_E"):
        canonicalize(load_model(model.SerializeToString()))


@pytest.mark.parametrize("height", [6, 1])
@pytest.mark.parametrize("size", [8, 16])
def test_sums_of_blocks_with_an_axis_of_their_own(size: int, height: int) -> None:
    """So are tensors added whose sizes the optimizer does not know to be equal."""
    w1, w2, x = normal(32, 3, 1, 1), normal(32, 3, height, 1), normal(2, 3, 6, 5)
    nodes = [
        nchwc("Conv", ["x", "w1"], "c1"),
        nchwc("Conv", ["x", "w2"], "c2"),
        node("Reshape", ["c1", "apart"], ["r1"]),
        node("Reshape", ["c2", "apart"], ["r2"]),
        node("Add", ["r1", "r2"], ["s"]),
        node("Reshape", ["s", "together"], ["t"]),
        nchwc("ReorderOutput", ["t"], "y", channels=32),
    ]
    shapes = {
        "apart": np.array([0, 32 // size, 0, 0, size]),
        "together": np.array([0, 32, 0, 0]),
    }
    weights = {"w1": in_blocks(w1, size), "w2": in_blocks(w2, size), **shapes}
    plain = [
        node("Conv", ["x", "w1"], ["c1"]),
        node("Conv", ["x", "w2"], ["c2"]),
        node("Add", ["c1", "c2"], ["y"]),
    ]
    expected = reference(plain, {"w1": w1, "w2": w2}, x)
    model = model_of(nodes, weights, ("n", 3, "h", "w"))
    check(model, x, expected)
    assert "Reshape" not in operators(session(model, Level.ORT_DISABLE_ALL))
    weights["together"] = np.array([0, 8, 0, 0])
    with pytest.raises(InvalidGraph, match="takes apart"):
        session(model_of([*nodes[:4], *nodes[5:]], weights | {"s": normal(1)}, ("n", 3, 6, 5)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"w": normal(12, 3, 1, 1)}, "not whole blocks"),
        ({"w": normal(16, 20, 1, 1)}, "not whole blocks"),
        ({"b": normal(12)}, r"bias has shape \[12\], expected \[16\]"),
        ({"channels": 0}, "'channels' is 0"),
        ({"channels": 20}, "not whole blocks"),
        ({"activation": "Nothing"}, "'Nothing' is unknown"),
    ],
)
def test_what_no_optimizer_writes_is_refused(changes: dict[str, Any], message: str) -> None:
    weights = {"w": normal(16, 3, 1, 1), "b": normal(16)}
    weights |= {name: changes[name] for name in changes if name in weights}
    nodes = [
        nchwc("Conv", ["x", "w", "b"], "c", activation=changes.get("activation", "")),
        nchwc("ReorderOutput", ["c"], "y", channels=changes.get("channels", 16)),
    ]
    with pytest.raises(InvalidGraph, match=message):
        session(model_of(nodes, weights, (1, 3, 4, 4)))


def test_weights_of_unknown_sizes_are_not_supported() -> None:
    nodes = [
        node("Reshape", ["x", "shape"], ["w"]),
        nchwc("Conv", ["x", "w"], "y"),
    ]
    shape = {"shape": np.array([16, -1, 1, 1])}
    with pytest.raises(NotSupported, match=r"com\.microsoft\.nchwc\.Conv: a weight whose four"):
        session(model_of(nodes, shape, ("n", 16, "h", "w")))


def test_saved_again_it_is_plain_onnx(tmp_path: Path) -> None:
    w, x = normal(16, 3, 3, 3), normal(1, 3, 5, 5)
    nodes = [
        nchwc("Conv", ["x", "w"], "c"),
        nchwc("ReorderOutput", ["c"], "y", channels=12),
    ]
    options = bascule.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    model = model_of(nodes, {"w": in_blocks(w[:12], 16)}, x.shape)
    bascule.InferenceSession(model.SerializeToString(), options)
    saved = onnx.load(tmp_path / "model.onnx")
    assert DOMAIN not in {each.domain for each in saved.graph.node}
    (found,) = ReferenceEvaluator(saved).run(None, {"x": x})
    expected = reference([node("Conv", ["x", "w"], ["y"])], {"w": w[:12]}, x)
    assert_close(found, expected, 2e-5, "saved")


def _net(channels: int) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    c = channels
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "s", "b1", "m", "v"], ["n1"]),
        node("HardSigmoid", ["n1"], ["h1"], alpha=0.3, beta=0.4),
        node("MaxPool", ["h1"], ["m1"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("Conv", ["m1", "w2"], ["c2"], group=c, pads=[1, 1, 1, 1]),
        node("Clip", ["c2", "low", "high"], ["r2"]),
        node("Conv", ["r2", "w3"], ["c3"]),
        node("Sigmoid", ["c3"], ["s3"]),
        node("GlobalAveragePool", ["s3"], ["g3"]),
        node("Mul", ["s3", "g3"], ["e3"]),
        node("Conv", ["e3", "w4", "b4"], ["c4"], pads=[2, 2, 2, 2], dilations=[2, 2]),
        node("Add", ["c4", "s3"], ["a4"]),
        node("Relu", ["a4"], ["r4"]),
        node("AveragePool", ["r4"], ["p4"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Concat", ["p4", "r2"], ["k"], axis=1),
        node("BatchNormalization", ["k", "ks", "kb", "km", "kv"], ["kn"]),
        node("LeakyRelu", ["kn"], ["kr"], alpha=0.2),
        node("Conv", ["kr", "w5"], ["c5"], strides=[2, 1]),
        node("Resize", ["c5", "", "scales"], ["u5"], mode="linear"),
        node("Transpose", ["u5"], ["y"], perm=[0, 2, 3, 1]),
    ]
    weights = {
        "w1": normal(c, 3, 3, 3),
        "b1": normal(c),
        "s": normal(c, seed=1),
        "m": normal(c, seed=2),
        "v": np.abs(normal(c, seed=3)) + 1,
        "w2": normal(c, 1, 3, 3),
        "low": np.float32(0),
        "high": np.float32(6),
        "w3": normal(c, c, 1, 1),
        "w4": normal(c, c, 3, 3) / 8,
        "b4": normal(c, seed=4),
        "ks": normal(2 * c),
        "kb": normal(2 * c, seed=1),
        "km": normal(2 * c, seed=2),
        "kv": np.abs(normal(2 * c, seed=3)) + 1,
        "w5": normal(c + 4, 2 * c, 3, 3) / 8,
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    return nodes, weights


@pytest.mark.parametrize("shape", [(2, 3, 12, 11), ("n", 3, "h", "w")])
@pytest.mark.parametrize("channels", [8, 12, 16, 24, 32, 44])
def test_nets_that_the_optimizer_has_saved(
    channels: int, shape: tuple[int | str, ...], tmp_path: Path
) -> None:
    if onnxruntime is None:
        pytest.skip("onnxruntime is not installed")
    nodes, weights = _net(channels)
    model = model_of(nodes, weights, shape)
    del model.opset_import[1]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    theirs = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    saved = onnx.load(tmp_path / "model.onnx")
    if DOMAIN not in {each.domain for each in saved.graph.node}:
        pytest.skip("it has no blocks on this processor")
    x = normal(2, 3, 12, 11)
    (expected,) = theirs.run(None, {"x": x})
    check(saved, x, expected)
