# SPDX-License-Identifier: Apache-2.0
"""Run one node through a session, in any of the ways that a model may hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import bascule
from bascule import GraphOptimizationLevel

Array = np.ndarray[Any, Any]
OPSET = onnx.defs.onnx_opset_version()
PREVIEW = "ai.onnx.preview"


_SELECTABLE = frozenset(np.dtype(t).name for t in "?bBhHiIqQefd") | {"bfloat16"}
"""The types of Where, which makes the copies of a staged run."""


@dataclass(frozen=True)
class Setup:
    """How a node is run."""

    level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL
    shapes: str = "static"
    """What the model says of its inputs: "static", "symbolic" or "unknown" sizes."""
    constants: frozenset[int] = frozenset()
    """Inputs that are initializers."""
    staged: bool = False
    """Whether inputs come out of other nodes, so that kernels may overwrite them."""


def node_model(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any],
    outputs: Sequence[bool],
    opset: int,
    domain: str,
    setup: Setup,
) -> onnx.ModelProto:
    """A model of one node; `outputs` says which ones it has."""
    nodes, infos, initializers, names = [], [], [], []
    for index, array in enumerate(inputs):
        if array is None:
            names.append("")
            continue
        name = f"x{index}"
        if index in setup.constants:
            initializers.append(_tensor(array, name))
        else:
            infos.append(_info(name, array, setup.shapes))
            if setup.staged and opset >= 16 and array.dtype.name in _SELECTABLE:
                nodes.append(helper.make_node("Where", ["true", name, name], [f"{name}_"]))
                name = f"{name}_"
        names.append(name)
    if nodes:
        initializers.append(numpy_helper.from_array(np.array(True), "true"))
    results = [f"y{index}" if wanted else "" for index, wanted in enumerate(outputs)]
    nodes.append(
        helper.make_node(op_type, names, results, name="node", domain=domain, **attributes)
    )
    graph = helper.make_graph(
        nodes,
        "g",
        infos,
        [onnx.ValueInfoProto(name=name) for name in results if name],
        initializers,
    )
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=onnx.IR_VERSION)


def _tensor(array: Array, name: str) -> onnx.TensorProto:
    if array.dtype == object:
        return helper.make_tensor(
            name, onnx.TensorProto.STRING, array.shape, [str(v).encode() for v in array.reshape(-1)]
        )
    return numpy_helper.from_array(array, name)


def _info(name: str, array: Array, shapes: str) -> onnx.ValueInfoProto:
    shape: list[Any] | None = None
    if shapes != "unknown":
        shape = [s if shapes == "static" else f"{name}_{i}" for i, s in enumerate(array.shape)]
    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, dtype, shape)


def session_of(
    model: onnx.ModelProto, level: GraphOptimizationLevel, threads: int = 1
) -> bascule.InferenceSession:
    options = bascule.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    return bascule.InferenceSession(model.SerializeToString(), options)


def run(
    op_type: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any] | None = None,
    setup: Setup | None = None,
    outputs: Sequence[bool] = (True,),
    opset: int = OPSET,
    domain: str = "",
) -> list[Any]:
    """The outputs of a node; those that are not wanted are left out.

    The second run, which has the memory plan of the first, gives the same bits, and inputs stay as
    they were.
    """
    setup = setup or Setup()
    arrays = [None if value is None else np.asarray(value) for value in inputs]
    model = node_model(op_type, arrays, attributes or {}, outputs, opset, domain, setup)
    session = session_of(model, setup.level)
    feeds = {
        f"x{index}": array
        for index, array in enumerate(arrays)
        if array is not None and index not in setup.constants
    }
    kept = {name: array.tobytes() for name, array in feeds.items() if array.dtype != object}
    first, second = (session.run(None, feeds) for _ in range(2))
    assert all(feeds[name].tobytes() == data for name, data in kept.items()), "an input changed"
    for one, other in zip(first, second):
        assert_same_bits(other, one)
    return first


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Both have the same type, shape and bits."""
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected):
            assert_same_bits(one, other)
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.dtype == object:
        assert actual.tolist() == expected.tolist()
    else:
        assert actual.tobytes() == expected.tobytes()
