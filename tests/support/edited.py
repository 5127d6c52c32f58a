# SPDX-License-Identifier: Apache-2.0
"""What edited models have to hold: valid for onnx, and the same results everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

import bascule
from bascule.tools.edit import Editor
from bascule.tools.edit.names import reads

Array = np.ndarray[Any, Any]


def results(model: Editor | onnx.ModelProto | bytes, feeds: Mapping[str, Any]) -> dict[str, Array]:
    """The outputs by name in bascule, where onnx's checker and onnxruntime agree."""
    data = model if isinstance(model, bytes) else None
    if data is None:
        data = model.to_bytes() if isinstance(model, Editor) else model.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    ours = bascule.InferenceSession(data)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    theirs = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in theirs.get_outputs()]
    assert names == [output.name for output in ours.get_outputs()]
    found = dict(zip(names, ours.run(None, feeds)))
    for name, expected in zip(names, theirs.run(None, feeds)):
        assert_near(found[name], expected)
    return found


def assert_near(found: Any, expected: Any) -> None:
    """The same but for rounding."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    if found.dtype.kind in "fV":
        scale = max(float(np.abs(expected.astype(np.float64)).max(initial=0)), 1.0)
        rtol = 1e-2 if found.dtype.itemsize == 2 else 1e-4
        np.testing.assert_allclose(
            found.astype(np.float64), expected.astype(np.float64), rtol, rtol / 10 * scale
        )
    else:
        np.testing.assert_array_equal(found, expected)


def by_name(model: onnx.ModelProto) -> dict[str, bytes]:
    """The nodes of a model as they are stored, by the name of what they make."""
    return {node.output[0]: node.SerializeToString() for node in model.graph.node}


def feeds_for(model: onnx.ModelProto, seed: int = 0, **sizes: int) -> dict[str, Array]:
    """Random arrays for the float inputs of a model."""
    rng = np.random.default_rng(seed)
    found = {}
    constants = {tensor.name for tensor in model.graph.initializer}
    for info in model.graph.input:
        if info.name in constants:
            continue
        dims = info.type.tensor_type.shape.dim
        shape = [dim.dim_value or sizes.get(dim.dim_param, 2) for dim in dims]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        if np.dtype(dtype).kind in "iu":
            found[info.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            found[info.name] = rng.standard_normal(shape).astype(dtype)
    return found


def halves(model: onnx.ModelProto, place: int) -> tuple[Editor, Editor]:
    """The nodes before `place` and the rest, cut at all values that pass from one to the other."""
    alive: list[int] = []
    wanted = {info.name for info in model.graph.output}
    for index in range(len(model.graph.node) - 1, -1, -1):
        node = model.graph.node[index]
        if wanted.intersection(node.output):
            alive.insert(0, index)
            wanted.update(reads(node))
    before = [model.graph.node[i] for i in alive if i < place]
    behind = [model.graph.node[i] for i in alive if i >= place]
    made = [name for node in before for name in node.output if name]
    late = {name for node in behind for name in node.output}
    read = {name for node in behind for name in reads(node)}
    outputs = [info.name for info in model.graph.output]
    border = [name for name in made if name in read]
    inputs = [info.name for info in model.graph.input]
    head = Editor(model).cut(outputs=[*border, *(n for n in outputs if n not in late | {*border})])
    tail = Editor(model).cut(
        [*border, *(name for name in inputs if name in read)],
        [name for name in outputs if name in late],
    )
    return head, tail
