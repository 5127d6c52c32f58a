# SPDX-License-Identifier: Apache-2.0
"""Old models for the tests here: built, rewritten, checked, and run by onnx's reference."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bascule.canonical import canonicalize
from bascule.ir.graph import Model
from bascule.ir.load import load_model
from bascule.ir.save import to_proto

Array = np.ndarray[Any, Any]
Outputs = list[Any]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def normal(*shape: int) -> Array:
    return rng().standard_normal(shape).astype(np.float32)


def model_of(
    op_type: str,
    inputs: list[Array | None],
    opset: int,
    *,
    outputs: int = 1,
    known_shapes: bool = True,
    constants: tuple[int, ...] = (),
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node.

    Without `known_shapes` its inputs come from other nodes: nothing is known of their types.
    """
    names = ["" if value is None else f"in{index}" for index, value in enumerate(inputs)]
    infos, initializers, hiding = [], [], []
    for index, (name, value) in enumerate(zip(names, inputs, strict=True)):
        if value is None:
            continue
        if index in constants:
            initializers.append(onnx.numpy_helper.from_array(value, name))
            continue
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        infos.append(helper.make_tensor_value_info(name, kind, value.shape))
        if not known_shapes:
            names[index] = f"hidden{index}"
            hiding.append(helper.make_node("Identity", [name], [names[index]]))
    results = [f"out{index}" for index in range(outputs)]
    node = helper.make_node(op_type, names, results, name="node", domain=domain, **attributes)
    graph = helper.make_graph(
        [*hiding, node],
        "g",
        infos,
        [onnx.ValueInfoProto(name=name) for name in results],
        initializers,
    )
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports = [helper.make_opsetid(domain, opset), helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def canonical(proto: onnx.ModelProto, *, infer: bool = True) -> Model:
    """The model rewritten; without `infer`, as if inference had found nothing."""
    model = load_model(proto)
    with contextlib.ExitStack() as patches:
        if not infer:
            patches.enter_context(mock.patch("bascule.canonical.infer_types"))
            patches.enter_context(mock.patch("bascule.canonical.TypeFinder.find"))
        canonicalize(model)
    return model


def checked(model: Model) -> onnx.ModelProto:
    """The model as protobuf, accepted by onnx's checker and shape inference."""
    proto = to_proto(model)
    proto.ir_version = onnx.IR_VERSION
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    kinds = {info.name: info for info in inferred.graph.output}
    for output in proto.graph.output:
        output.CopyFrom(kinds[output.name])
        if not output.type.WhichOneof("value"):  # some functions are not looked into
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.shape.SetInParent()  # the checker asks for one, even unknown
    onnx.checker.check_model(proto)
    return proto


def run(proto: onnx.ModelProto, inputs: list[Array | None]) -> Outputs:
    feeds = {f"in{index}": value for index, value in enumerate(inputs) if value is not None}
    names = {info.name for info in proto.graph.input}
    evaluator = ReferenceEvaluator(proto)
    found: Outputs = evaluator.run(None, {k: v for k, v in feeds.items() if k in names})
    return found


def assert_same(found: Outputs, expected: Outputs) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        if one.dtype.kind in "fc":
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(one, other)


def assert_rewritten(
    op_type: str,
    inputs: list[Array | None],
    opset: int,
    expected: Outputs,
    **options: Any,
) -> Model:
    """The rewritten node gives `expected`, whether shapes are known or not; returns one model."""
    for known_shapes in (False, True):
        proto = model_of(op_type, inputs, opset, known_shapes=known_shapes, **options)
        model = canonical(proto, infer=known_shapes)
        assert_same(run(checked(model), inputs), expected)
    return model


def assert_unchanged_meaning(
    op_type: str, inputs: list[Array | None], opset: int, **options: Any
) -> Model:
    """The reference evaluator gives the same for the old node and for what became of it."""
    expected = run(model_of(op_type, inputs, opset, **options), inputs)
    return assert_rewritten(op_type, inputs, opset, expected, **options)


def op_types(model: Model) -> list[str]:
    return [node.op_type for node in model.graph]
