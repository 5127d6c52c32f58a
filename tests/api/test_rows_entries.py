# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: what config entries of a session do."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bascule as ort
from tests.api.models import FLOAT, model, tensor
from tests.api.test_rows_options import BOTH, CPU, external, make, options

ROWS: dict[str, Callable[..., Any]] = {}


def row(*names: str) -> Callable[[Any], Any]:
    def note(test: Any) -> Any:
        assert not ROWS.keys() & set(names)
        ROWS.update(dict.fromkeys(names, test))
        return test

    return note


def constants(**arrays: Any) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]


def operators(session: ort.InferenceSession) -> list[str]:
    return [each.op_type for each in session.explain().rows]


def apart(key: str, value: str) -> Any:
    """Options with an entry, under which each operator stays a node by itself."""
    return options(
        config={key: value, "optimization.disable_specified_optimizers": "fuse_elementwise"}
    )


SCALES = constants(s=np.float32(0.25), z=np.uint8(3))
GIVEN = np.array([[-9.9, 0.3, 0.62], [1.4, 70.0, -0.2]], np.float32)


def quantized_product() -> onnx.ModelProto:
    """QuantizeLinear, DequantizeLinear, MatMul of quantized weights, and the pair again."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "s", "wz"], ["v"]),
        node("MatMul", ["d", "v"], ["m"]),
        node("QuantizeLinear", ["m", "s", "z"], ["p"]),
        node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    weights = constants(w=np.arange(-3, 3, dtype=np.int8).reshape(3, 2), wz=np.int8(0))
    ends = [tensor("x", FLOAT, ["n", 3])], [tensor("y", FLOAT, ["n", 2])]
    return model(nodes, *ends, [*SCALES, *weights])


@row("entry.session.disable_quant_qdq acts")
def test_quantized_nodes_stay() -> None:
    proto = quantized_product()
    found = {}
    for value in "01":
        made = make(apart("session.disable_quant_qdq", value), proto=proto)
        found[value] = operators(made)
        want = make(None, "bascule", proto).run(None, {"x": GIVEN})[0]
        np.testing.assert_allclose(made.run(None, {"x": GIVEN})[0], want, atol=0.25)
    assert "QLinearMatMul" in found["0"] and "MatMul" not in found["0"]
    assert "QLinearMatMul" not in found["1"] and "MatMul" in found["1"]
    assert found["1"].count("QuantizeLinear") == 2


def pair(first: float = 0.25, second: float = 0.25) -> onnx.ModelProto:
    """QuantizeLinear and DequantizeLinear between two float operators."""
    node = helper.make_node
    nodes = [
        node("Sin", ["x"], ["a"]),
        node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "t", "z"], ["d"]),
        node("Cos", ["d"], ["y"]),
    ]
    scales = constants(s=np.float32(first), t=np.float32(second), z=np.uint8(3))
    return model(nodes, [tensor("x")], [tensor("y")], scales)


@row("entry.session.enable_quant_qdq_cleanup acts")
def test_pairs_are_left_out_if_asked() -> None:
    key = "session.enable_quant_qdq_cleanup"
    exact = np.cos(np.sin(GIVEN))
    steps = np.clip(np.rint(np.sin(GIVEN) / np.float32(0.25)) + 3, 0, 255) - 3
    for value, want in (("0", np.cos(steps * np.float32(0.25))), ("1", exact)):
        made = make(options(config={key: value}), proto=pair())
        np.testing.assert_allclose(made.run(None, {"x": GIVEN})[0], want, atol=1e-5)
    made = make(apart(key, "1"), proto=pair(0.25, 0.5))  # which is no pair
    assert "QuantizeLinear" in operators(made)


@row("entry.session.disable_double_qdq_remover acts")
def test_double_pairs_stay_if_asked() -> None:
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["a"]),
        node("DequantizeLinear", ["a", "s", "z"], ["b"]),
        node("QuantizeLinear", ["b", "s", "z"], ["c"]),
        node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    proto = model(nodes, [tensor("x")], [tensor("y")], SCALES)
    for value, count in (("0", 1), ("1", 2)):
        made = make(apart("session.disable_double_qdq_remover", value), proto=proto)
        assert operators(made).count("QuantizeLinear") == count


@row("entry.optimization.enable_gelu_approximation acts")
def test_gelu_is_approximated_if_asked() -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], approximate="none")
    proto = model([node], [tensor("x")], [tensor("y")], opset=20)
    x = np.linspace(-4, 4, 300, dtype=np.float32).reshape(100, 3)
    found = [
        make(options(config={"optimization.enable_gelu_approximation": value}), proto=proto).run(
            None, {"x": x}
        )[0]
        for value in "01"
    ]
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(found[1], tanh, atol=1e-5)
    assert 1e-4 < np.abs(found[0] - found[1]).max() < 1e-3


@row("entry.session.graph_optimizations_loop_level acts")
def test_stages_run_once_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    runner: Any = importlib.import_module("bascule.optimizer.manager")._Runner
    run, seen = runner.run, []

    def counted(self: Any, passes: Any) -> Any:
        changed = run(self, passes)
        seen.append(changed)
        return changed

    monkeypatch.setattr(runner, "run", counted)
    nodes = [helper.make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 0]) for i in range(3)]
    proto = model(nodes, [tensor("v0", FLOAT, ["m", "n"])], [tensor("v3", FLOAT, ["n", "m"])])
    counts = {}
    for value in "012":
        seen.clear()
        key = "session.graph_optimizations_loop_level"
        made = make(options(config={key: value}), proto=proto)
        counts[value] = len(seen)
        assert True in seen
        np.testing.assert_array_equal(made.run(None, {"v0": GIVEN})[0], GIVEN.T)
    assert counts["0"] < counts["1"] == counts["2"]


def declared(inner: Any = None, outer: Any = ("n", 2)) -> onnx.ModelProto:
    """Relu and Neg of a [3, 2] input, with these shapes declared behind them."""
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    proto = model(nodes, [tensor("x", FLOAT, [3, 2])], [tensor("y", FLOAT, list(outer))])
    if inner is not None:
        proto.graph.value_info.append(tensor("h", FLOAT, list(inner)))
    return proto


@row("entry.session.strict_shape_type_inference acts")
@pytest.mark.parametrize("runtime", BOTH)
@pytest.mark.parametrize(
    ("inner", "outer", "message"),
    [
        (None, ("n", 2), ""),
        ((3, 2), (3, 2), ""),
        ((5, 2), ("n", 2), "Inferred=3 Declared=5 Dimension=0"),
        ((3, 2, 1), ("n", 2), "inferred=2 declared=3"),
        (None, (4, 2), "Inferred=3 Declared=4 Dimension=0"),
        (None, (4,), "inferred=2 declared=1"),
    ],
)
def test_contradictions(runtime: str, inner: Any, outer: Any, message: str) -> None:
    kind = importlib.import_module(f"{runtime}.capi.onnxruntime_pybind11_state").Fail
    proto, key = declared(inner, outer), "session.strict_shape_type_inference"
    quiet = {"log_severity_level": 3}
    make(options(runtime, {key: "0"}, **quiet), runtime, proto)
    if message:
        with pytest.raises(kind, match=rf"\[ShapeInferenceError\].*{message}"):
            make(options(runtime, {key: "1"}, **quiet), runtime, proto)
    else:
        make(options(runtime, {key: "1"}, **quiet), runtime, proto)


def weighted() -> tuple[onnx.ModelProto, list[Any]]:
    """A convolution, a product and a Gemm, and their weights."""
    random = np.random.default_rng(0)
    shapes = {"c": (5, 3, 3, 3), "m": (6, 37), "g": (740, 11), "b": (11,)}
    arrays = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "c"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["r"]),
        node("MatMul", ["r", "m"], ["p"]),
        node("Flatten", ["p"], ["q"]),
        node("Gemm", ["q", "g", "b"], ["y"]),
    ]
    ends = [tensor("x", FLOAT, ["n", 3, 4, 6])], [tensor("y", FLOAT, ["n", 11])]
    return model(nodes, *ends, constants(**arrays)), [arrays[name] for name in "cmg"]


@row("entry.session.disable_prepacking acts")
def test_weights_are_left_unpacked_if_asked(tmp_path: Path) -> None:
    proto, weights = weighted()
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 6)).astype(np.float32)
    found = {}
    for value in "01":
        folder = tmp_path / value
        config = {"session.disable_prepacking": value, "session.cache_dir": str(folder)}
        first = make(options(config=config), proto=proto).run(None, {"x": x})[0]
        (plan,) = (each for each in folder.iterdir() if each.stat().st_size > 4000)
        held = plan.read_bytes()
        # What is packed is in the plan in another order.
        assert [each.tobytes() in held for each in weights] == [value == "1"] * 3
        again = make(options(config=config), proto=proto)
        assert again.explain().plan_cache.startswith("read ")
        np.testing.assert_array_equal(again.run(None, {"x": x})[0], first)
        found[value] = first
    np.testing.assert_allclose(found["0"], found["1"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_few_bits_unpacked(bits: int) -> None:
    random = np.random.default_rng(3)
    weights = constants(
        b=random.integers(0, 256, (5, 2, 16 * bits // 8), dtype=np.uint8),
        s=random.standard_normal((5, 2)).astype(np.float32),
    )
    sizes = {"K": 32, "N": 5, "bits": bits, "block_size": 16}
    node = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", **sizes)
    ends = [tensor("x", FLOAT, ["n", 32])], [tensor("y", FLOAT, ["n", 5])]
    proto = model([node], *ends, weights, domains=[("com.microsoft", 1)])
    x = random.standard_normal((3, 32)).astype(np.float32)
    found = [
        make(options(config={"session.disable_prepacking": value}), proto=proto).run(
            None, {"x": x}
        )[0]
        for value in "01"
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-3)


@row("options.add_external_initializers without the file")
@pytest.mark.parametrize("runtime", BOTH)
def test_given_initializers_need_no_file(runtime: str) -> None:
    weight = np.zeros((3, 2), np.float32)
    value = importlib.import_module(runtime).OrtValue.ortvalue_from_numpy(weight)
    made = options(runtime)
    made.add_external_initializers(["w"], [value])
    session = importlib.import_module(runtime).InferenceSession(
        external().SerializeToString(), made, providers=[CPU]
    )
    np.testing.assert_array_equal(session.run(["s"], {"x": GIVEN})[0], [[0.5, -100.0]] * 2)


def test_a_given_initializer_of_an_impossible_size() -> None:
    proto = external()
    proto.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    made = options()
    value = ort.OrtValue.ortvalue_from_numpy(np.zeros((3, 2), np.float32))
    made.add_external_initializers(["w"], [value])
    with pytest.raises(tuple(ort.errors.ALL)):
        make(made, proto=proto)


def test_a_given_initializer_is_no_excuse_for_another() -> None:
    made = options()
    value = ort.OrtValue.ortvalue_from_numpy(np.zeros(2, np.float32))
    made.add_external_initializers(["b"], [value])
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.Fail, match="does not exist"):
        make(made, proto=external())
