# SPDX-License-Identifier: Apache-2.0
"""One quantized operator of domain com.microsoft in bascule and in onnxruntime."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import bascule

Array = np.ndarray[Any, Any]


def contrib_model(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: dict[str, Any] | None = None,
    *,
    output: int = onnx.TensorProto.FLOAT,
    outputs: int = 1,
    constants: Collection[int] = (),
    static: bool = True,
) -> onnx.ModelProto:
    """A model of one node; inputs named in `constants` are initializers."""
    names = ["" if array is None else f"in{index}" for index, array in enumerate(inputs)]
    infos, initializers = [], []
    for index, array in enumerate(inputs):
        if array is None:
            continue
        if index in constants:
            initializers.append(onnx.numpy_helper.from_array(array, names[index]))
            continue
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        shape = array.shape if static else [f"d{index}_{axis}" for axis in range(array.ndim)]
        infos.append(helper.make_tensor_value_info(names[index], kind, shape))
    results = [f"out{index}" for index in range(outputs)]
    node = helper.make_node(
        op_type, names, results, name="node", domain="com.microsoft", **(attributes or {})
    )
    graph = helper.make_graph(
        [node],
        "g",
        infos,
        [helper.make_tensor_value_info(name, output, None) for name in results],
        initializers,
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def feeds_of(inputs: Sequence[Array | None], constants: Collection[int] = ()) -> dict[str, Array]:
    return {
        f"in{index}": array
        for index, array in enumerate(inputs)
        if array is not None and index not in constants
    }


def run_bascule(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: dict[str, Any] | None = None,
    **options: Any,
) -> list[Array]:
    model = contrib_model(op_type, inputs, attributes, **options)
    session = bascule.InferenceSession(model.SerializeToString())
    found: list[Array] = session.run(None, feeds_of(inputs, options.get("constants", ())))
    return found


def run_onnxruntime(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: dict[str, Any] | None = None,
    **options: Any,
) -> list[Array]:
    """The same in onnxruntime; the test is skipped where it is not installed."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = contrib_model(op_type, inputs, attributes, **options)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: list[Array] = session.run(None, feeds_of(inputs, options.get("constants", ())))
    return found


def assert_close_steps(found: Array, expected: Array, *, rare: float = 0.01) -> None:
    """Equal integers, but for a `rare` share that is one step apart: ties of the rounding."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    difference = np.abs(found.astype(np.int64) - expected.astype(np.int64))
    assert difference.max(initial=0) <= 1
    assert np.count_nonzero(difference) <= rare * difference.size
