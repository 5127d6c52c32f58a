# SPDX-License-Identifier: Apache-2.0
"""Operators that Python functions run."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule
from bascule.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph
from bascule.operators import registry
from tests.api.models import model, session, tensor

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    for each in list(registry):
        registry.remove(each)


def graph(
    nodes: list[onnx.NodeProto], outputs: Any = None, version: int = 1, inputs: Any = None
) -> onnx.ModelProto:
    outputs = [tensor("y", shape=None)] if outputs is None else outputs
    inputs = [tensor("x")] if inputs is None else inputs
    return model(nodes, inputs, outputs, domains=[("my", version)])


def call(
    name: str, inputs: Any = ("x",), outputs: Any = ("y",), **attributes: Any
) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, name="here", domain="my", **attributes)


def scale() -> bascule.Operator:
    @bascule.operator("my", "Scale")
    def scale(x: Any, bias: Any = None, *, factor: float = 1.0) -> Any:
        """Scale and shift."""
        y = x * np.float32(factor)
        return y if bias is None else y + bias

    return scale


def test_attributes_and_optional_inputs() -> None:
    made = scale()
    assert made(2.0, factor=3.0) == 6.0 and made.__doc__ == "Scale and shift."
    assert "my.Scale since 1" in repr(made)
    nodes = [
        call("Scale", outputs=["a"], factor=2.0),
        helper.make_node("Relu", ["a"], ["b"]),
        call("Scale", ["b", "x"], ["y"]),
    ]
    (y,) = session(graph(nodes)).run(None, {"x": X})
    np.testing.assert_array_equal(y, 3 * X)
    assert {row.op_type for row in session(graph(nodes)).explain().rows} >= {"Scale"}


def test_several_outputs_types_and_kinds_of_attributes() -> None:
    seen: dict[str, Any] = {}

    @bascule.operator("my", "Parts")
    def parts(x: Any, **attributes: Any) -> Any:
        seen.update(attributes)
        return [x.sum(axis=1), x.argmax(axis=1)]

    @parts.types
    def _(x: bascule.TensorSpec, **attributes: Any) -> Any:
        assert x.shape is not None
        return (
            bascule.TensorSpec(x.dtype, x.shape[:1]),
            bascule.TensorSpec(np.int64, x.shape[:1]),
        )

    table = helper.make_tensor("t", TensorProto.INT32, [2], [1, 2])
    outputs = [tensor("s", shape=None), tensor("i", TensorProto.INT64, None)]
    node = call("Parts", outputs=["s", "i"], ints=[1, 2], text="a", floats=[0.5], table=table)
    made = session(graph([node], outputs))
    assert [out.shape for out in made.get_outputs()] == [["n"], ["n"]]
    s, i = made.run(None, {"x": X})
    np.testing.assert_array_equal(s, X.sum(axis=1))
    np.testing.assert_array_equal(i, [2, 2])
    assert (seen["ints"], seen["text"], seen["floats"]) == ([1, 2], "a", [0.5])
    np.testing.assert_array_equal(seen["table"], [1, 2])


def test_what_the_function_raises() -> None:
    @bascule.operator("my", "Broken")
    def broken(x: Any) -> Any:
        raise KeyError("no such row")

    with pytest.raises(Fail, match=r"Broken node. Name:'here'.*KeyError: 'no such row'") as caught:
        session(graph([call("Broken")])).run(None, {"x": X})
    assert isinstance(caught.value.__cause__, KeyError)
    lines = "".join(traceback.format_exception(caught.value))
    assert "in broken" in lines and "direct cause" in lines


def test_what_does_not_fit() -> None:
    scale()
    with pytest.raises(InvalidGraph, match=r"my.Scale node 'here': .*'wrong'.*factor"):
        session(graph([call("Scale", wrong=1)]))

    @bascule.operator("my", "Whole")
    def whole(x: Any) -> Any:
        return x.astype(np.int64)

    with pytest.raises(Fail, match=r"output 0 'y' of the function is tensor\(int64\).*here|here"):
        session(graph([call("Whole")])).run(None, {"x": X})

    @whole.types
    def _(x: Any) -> Any:
        return "int64"

    with pytest.raises(InvalidGraph, match="returned 'int64', which is no TensorSpec"):
        session(graph([call("Whole")]))
    with pytest.raises(InvalidGraph, match=r"my.Whole node 'here': .*'wrong'"):
        session(graph([call("Whole", wrong=1)]))

    @whole.types
    def _(x: Any) -> Any:
        raise KeyError("rows")

    with pytest.raises(InvalidGraph, match=r"'here'.* types raised KeyError: 'rows'") as caught:
        session(graph([call("Whole")]))
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda build, dy, x, bias: dy, "returned 1 of 2, one for each input"),
        (lambda build, dy, x, bias: (dy, 1.0), "returned 1.0, which is no term"),
        (lambda build, dy, x, bias: [1 / 0], "raised ZeroDivisionError"),
    ],
)
def test_gradients_that_are_none(rule: Any, message: str) -> None:
    scale().gradient(rule)
    with pytest.raises(Fail, match=f"my.Scale node 'here': the rule for its gradient {message}"):
        bascule.grad(graph([call("Scale", ["x", "x"])], [tensor("y")]), wrt="x", of="y")


def test_versions() -> None:
    def constant(number: int, since: int) -> None:
        @bascule.operator("my", "Number", since)
        def number_of(x: Any) -> Any:
            return np.full_like(x, number)

    constant(2, 2)
    with pytest.raises(
        Exception, match="since version 2 of its domain; the model is for version 1"
    ):
        session(graph([call("Number")], version=1))
    constant(4, 4)
    for version, expected in ((2, 2), (3, 2), (4, 4), (9, 4)):
        (y,) = session(graph([call("Number")], version=version)).run(None, {"x": X})
        assert (y == expected).all()


def test_names_that_are_taken() -> None:
    scale()
    with pytest.raises(InvalidArgument, match=r"my\.Scale since 1 already; pass replace=True"):
        scale()
    bascule.operator("my", "Scale", replace=True)(lambda x: x)
    for domain in ("", "ai.onnx.ml", "com.microsoft"):
        with pytest.raises(InvalidArgument, match="choose a domain of your own"):
            bascule.operator(domain, "Relu")(lambda x: x)
    with pytest.raises(InvalidArgument, match="opset versions begin with 1"):
        bascule.operator("my", "Zero", since=0)(lambda x: x)


def test_one_that_is_removed_is_unknown() -> None:
    made = scale()
    before = session(graph([call("Scale")]))
    registry.remove(made)
    before.run(None, {"x": X})
    with pytest.raises(Fail, match="is not a registered function/op"):
        session(graph([call("Scale")]))


def test_gradients() -> None:
    made = scale()

    @made.types
    def _(x: Any, bias: Any = None, *, factor: float = 1.0) -> Any:
        return x

    @made.gradient
    def _(build: Any, dy: Any, x: Any, bias: Any = None, *, factor: float = 1.0) -> Any:
        return [dy * factor, None if bias is None else dy]

    nodes = [call("Scale", ["x", "x"], ["a"], factor=2.0), helper.make_node("Exp", ["a"], ["y"])]
    gradient = bascule.grad(graph(nodes), wrt="x", of="y")
    (dx,) = bascule.InferenceSession(gradient).run(None, {"x": X})
    np.testing.assert_allclose(dx, 3 * np.exp(3 * X), rtol=1e-5)


def test_one_without_a_gradient() -> None:
    scale()
    with pytest.raises(Exception, match=r"my\.Scale was registered without a gradient"):
        bascule.grad(graph([call("Scale")], [tensor("y")]), wrt="x", of="y")


def test_a_version_that_numba_compiles() -> None:
    pytest.importorskip("numba")
    made = scale()
    calls = []

    @made.numba
    def _(x, factor):  # type: ignore[no-untyped-def]
        y = np.empty_like(x)
        for i in range(x.size):
            y.flat[i] = x.flat[i] * factor + 0.5
        return y

    made.__wrapped__ = lambda *inputs, **attributes: calls.append(inputs)
    (y,) = session(graph([call("Scale", factor=2.0)])).run(None, {"x": X})
    np.testing.assert_allclose(y, X * 2 + 0.5)
    assert not calls
