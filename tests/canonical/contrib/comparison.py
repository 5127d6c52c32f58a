# SPDX-License-Identifier: Apache-2.0
"""One operator of domain com.microsoft, run in every way, against NumPy and another runtime.

The reference is a function of the inputs, in float64, that gives the expected outputs. The other
runtime is the one that the operators come from; where it is not installed, or has no kernel, NumPy
alone is the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper

import bascule
from bascule.options import GraphOptimizationLevel as Level

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

Array = np.ndarray[Any, Any]
Inputs = Sequence[Array | None]
Reference = Callable[..., "Sequence[Array | None] | Array"]

LEVELS = (
    Level.ORT_DISABLE_ALL,
    Level.ORT_ENABLE_BASIC,
    Level.ORT_ENABLE_EXTENDED,
    Level.ORT_ENABLE_ALL,
)
TOLERANCES = {np.dtype(np.float32): 2e-5, np.dtype(np.float16): 4e-3}
TOLERANCES[np.dtype(ml_dtypes.bfloat16)] = 3e-2


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    generator = np.random.default_rng([seed, *shape])
    return generator.standard_normal(shape).astype(dtype)


def model_of(
    op_type: str,
    inputs: Inputs,
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    shapes: str = "static",
    constants: Sequence[int] = (),
    domain: str = "com.microsoft",
    left_out: Sequence[int] = (),
    declared: dict[int, Any] | None = None,
) -> onnx.ModelProto:
    """A model of one node. `shapes` are ``static``, ``symbolic`` or, ranks too, ``unknown``.

    Outputs that are `left_out` get no name; those `declared` are of that type.
    """
    names, infos, initializers = [], [], []
    for index, value in enumerate(inputs):
        names.append("" if value is None else f"in{index}")
        if value is None:
            continue
        if index in constants:
            initializers.append(onnx.numpy_helper.from_array(value, names[-1]))
            continue
        shape: Any = value.shape
        if shapes != "static":
            shape = None if shapes == "unknown" else [None] * value.ndim
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        infos.append(helper.make_tensor_value_info(names[-1], kind, shape))
    results = [f"out{index}" if index not in left_out else "" for index in range(outputs)]
    node = helper.make_node(op_type, names, results, "node", domain=domain, **(attributes or {}))
    shown = [onnx.ValueInfoProto(name=name) for name in results]
    for index, dtype in (declared or {}).items():
        shown[index].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shown = [each for each in shown if each.name]
    graph = helper.make_graph([node], "g", infos, shown, initializers)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def feeds_of(inputs: Inputs, constants: Sequence[int] = ()) -> dict[str, Array]:
    return {
        f"in{index}": value
        for index, value in enumerate(inputs)
        if value is not None and index not in constants
    }


def session(model: onnx.ModelProto, level: Level = Level.ORT_ENABLE_ALL) -> Any:
    options = bascule.SessionOptions()
    options.graph_optimization_level = level
    return bascule.InferenceSession(model.SerializeToString(), options)


def operators(made: Any) -> list[str]:
    """What the session runs, as ``domain.operator``."""
    rows = made.explain().rows
    return [f"{row.domain}.{row.op_type}" if row.domain else row.op_type for row in rows]


def run_elsewhere(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array] | None:
    """The outputs of the runtime that the operators come from, or None where it has no kernel."""
    if onnxruntime is None:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        made = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return list(made.run(None, feeds))
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return None


def assert_close(found: Any, expected: Any, tolerance: float, what: str) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"{what}: {found.shape} and {expected.shape}"
    if found.dtype.kind in "biuOUS" and found.dtype != ml_dtypes.bfloat16:
        np.testing.assert_array_equal(found, expected, err_msg=what)
        return
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    np.testing.assert_allclose(
        found, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what
    )


def check(
    op_type: str,
    reference: Reference,
    inputs: Inputs,
    attributes: dict[str, Any] | None = None,
    *,
    outputs: int | None = None,
    constants: Sequence[int] = (),
    dtypes: Sequence[Any] = (np.float32, np.float16),
    shapes: Sequence[str] = ("static", "symbolic", "unknown"),
    elsewhere: bool = True,
    left_out: Sequence[int] = (),
    selects: Callable[[int, Array], Array] | None = None,
    tolerance: float = 1.0,
    domain: str = "com.microsoft",
    declares: Sequence[int] = (),
) -> None:
    """Every way to run the node gives what `reference` and the other runtime give.

    `selects` takes of each output what is specified; an expected None is not compared. `tolerance`
    is a factor to that of the element type, which is declared for the outputs in `declares`.
    """
    select = selects or (lambda index, array: array)
    for dtype in dtypes:
        allowed = tolerance * TOLERANCES[np.dtype(dtype)]
        typed = [x.astype(dtype) if x is not None and x.dtype == np.float32 else x for x in inputs]
        wide = [
            x.astype(np.float64) if x is not None and x.dtype == np.dtype(dtype) else x
            for x in typed
        ]
        expected = reference(*wide)
        if isinstance(expected, np.ndarray):
            expected = [expected]
        count = len(expected) if outputs is None else outputs
        feeds = feeds_of(typed, constants)
        ways = [(kind, Level.ORT_ENABLE_ALL) for kind in shapes]
        if dtype is dtypes[0]:
            ways += [(shapes[0], level) for level in LEVELS[:-1]]
            ways += [("symbolic", Level.ORT_DISABLE_ALL)] if "symbolic" in shapes else []
        runs = {}
        for kind, level in ways:
            model = model_of(
                op_type,
                typed,
                attributes,
                count,
                kind,
                constants,
                domain,
                left_out,
                dict.fromkeys(declares, dtype),
            )
            runs[f"{np.dtype(dtype)} {kind} {level.name}"] = session(model, level).run(None, feeds)
        others = run_elsewhere(model, feeds) if elsewhere else None
        shown = [index for index in range(count) if index not in left_out]
        for way, found in runs.items():
            for place, index in enumerate(shown):
                array = found[place]
                wanted = expected[index] if index < len(expected) else None
                if wanted is not None:
                    assert_close(
                        select(index, array), select(index, np.asarray(wanted)), allowed, way
                    )
                if others is not None and (wanted is not None or index >= len(expected)):
                    name = f"{way}, output {index}, beside the other runtime"
                    assert_close(select(index, array), select(index, others[place]), allowed, name)
