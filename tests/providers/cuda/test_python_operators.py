# SPDX-License-Identifier: Apache-2.0
"""Versions for CUDA of operators that Python functions run, on the emulated device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule
from bascule.capi.onnxruntime_pybind11_state import Fail
from bascule.operators import registry
from tests.api.models import model, tensor
from tests.support.cuda_emulation import emulated_device, missing, new_device
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    for each in list(registry):
        registry.remove(each)


def session(*nodes: onnx.NodeProto, inputs: Any = None, outputs: Any = None) -> EmulatedSession:
    inputs = [tensor("x")] if inputs is None else inputs
    outputs = [tensor("y", TensorProto.FLOAT, None)] if outputs is None else outputs
    proto = model(nodes, inputs, outputs, domains=[("my", 1)])
    return EmulatedSession(proto.SerializeToString())


def call(name: str, inputs: Any = ("x",), outputs: Any = ("y",), **more: Any) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, name="here", domain="my", **more)


def never(*inputs: Any, **attributes: Any) -> Any:
    raise AssertionError("the version for the CPU runs")


def scale(captured: bool = False) -> list[Any]:
    """Registers an operator that runs on the device only; returns the kinds of arrays it sees."""
    seen: list[Any] = []
    operator = bascule.operator("my", "Scale")(never)

    @operator.cuda(captured=captured)
    def _(x: Any, bias: Any = None, *, factor: float = 1.0) -> Any:
        seen.append(type(x))
        y = x * np.float32(factor)
        return y if bias is None else y + bias

    @operator.types
    def _(x: Any, *_: Any, **__: Any) -> Any:
        return x

    return seen


@pytest.mark.parametrize("captured", [False, True])
def test_between_kernels_on_the_device(captured: bool) -> None:
    seen = scale(captured)
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        call("Scale", ["a", "x"], ["b"], factor=2.0),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    made = session(*nodes)
    kernels = {row.op_type: (row.provider, row.kernel) for row in made.explain().rows}
    assert kernels["Scale"] == ("CUDAExecutionProvider", "cuda.python")
    for i in range(5):
        (y,) = made.run(None, {"x": X * i})
        np.testing.assert_allclose(y, -(np.exp(X * i) * 2 + X * i), rtol=1e-5)
    assert set(seen) == {emulated_device().xp.ndarray}
    assert len(seen) == 5 or captured  # what cannot be replayed is called again


def test_what_is_returned() -> None:
    """Inputs, parts of them, numbers, arrays that are not dense: each an output of its own."""
    operator = bascule.operator("my", "Parts")(never)

    @operator.cuda
    def _(x: Any) -> Any:
        return x, x[:1], x.T, (x + 1)[:, ::-1], x.sum()

    @operator.types
    def _(x: Any) -> Any:
        return (bascule.TensorSpec(x.dtype),) * 5

    names = ["a", "b", "c", "d", "e"]
    made = session(
        helper.make_node("Neg", ["x"], ["n"]),
        call("Parts", ["n"], names),
        outputs=[tensor(name, shape=None) for name in names],
    )
    for _ in range(3):
        found = made.run(None, {"x": X})
        expected = [-X, -X[:1], -X.T, (1 - X)[:, ::-1], -X.sum()]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            one[...] = 7


def test_unused_outputs_and_inputs_left_out() -> None:
    operator = bascule.operator("my", "Two")(never)

    @operator.cuda
    def _(x: Any, none: Any, z: Any) -> Any:
        assert none is None
        return x + z, "not looked at"

    made = session(call("Two", ["x", "", "x"], ["y", "unused"]))
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], 2 * X)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: {}["k"], "'k'"),
        (lambda x: "text", r"output 0 'y' of the function for CUDA is an object of type builtins"),
        (lambda x: x.astype(np.int64), r"is tensor\(int64\)\[2, 3\]; expected tensor\(float\)"),
        (lambda x: x[:, :2] + 0, r"is tensor\(float\)\[2, 2\]; expected tensor\(float\)\['n', 3\]"),
        (lambda x: (), "returned 0 outputs; the node has 1"),
    ],
)
def test_errors_name_the_node(function: Any, message: str) -> None:
    operator = bascule.operator("my", "Broken")(never)
    operator.cuda(function)
    made = session(call("Broken"), outputs=[tensor("y")])
    for _ in range(2):
        with pytest.raises(Fail, match=f"Broken node 'here' on inputs of shapes .*: .*{message}"):
            made.run(None, {"x": X})


def test_what_runs_on_the_cpu() -> None:
    """Without a version for CUDA, and for element types that CuPy has not."""
    operator = bascule.operator("my", "Double")(lambda x: x + x)
    reasons = dict(session(call("Double")).explain().rows[0].reasons)
    assert reasons["CUDAExecutionProvider"] == "the operator has no version for CUDA"
    operator.cuda(never)
    kind = TensorProto.BFLOAT16
    made = session(call("Double"), inputs=[tensor("x", kind)], outputs=[tensor("y", kind)])
    reasons = dict(made.explain().rows[0].reasons)
    assert reasons["CUDAExecutionProvider"] == "there are no CuPy arrays of bfloat16"
    x = X.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(made.run(None, {"x": x})[0], x + x)


def test_versions_and_removal() -> None:
    scale()
    (operator,) = registry
    later = bascule.operator("my", "Scale", 2)(lambda x: x)
    assert session(call("Scale")).explain().rows[0].kernel == "cuda.python"
    registry.remove(operator)
    registry.remove(later)
    with pytest.raises(Fail, match="is not a registered function/op"):
        session(call("Scale"))


def test_no_memory_is_kept() -> None:
    scale()
    device = new_device()

    class Own(EmulatedSession):
        pass

    Own.device = device
    proto = model([call("Scale")], [tensor("x")], [tensor("y")], domains=[("my", 1)])
    made = Own(proto.SerializeToString())
    made.run(None, {"x": X})
    used = device.used
    for _ in range(5):
        made.run(None, {"x": X})
    assert device.used == used
