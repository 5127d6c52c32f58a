# SPDX-License-Identifier: Apache-2.0
"""What a narrow type does to each node by itself: its error on rounded inputs, and overflows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from bascule.ir.replaced import replaced_by
from bascule.tools.convert.rewrite import narrow_array
from bascule.tools.stepping.prepared import feeds_of, prepare_session
from bascule.tools.stepping.steps import Environment, Step, Stepper, enters_body

if TYPE_CHECKING:
    from bascule.session import InferenceSession
    from bascule.tools.convert.outputs import Feeds


@dataclass(slots=True)
class LocalError:
    """Of one node of the model."""

    error: float = 0.0
    """The largest difference of a result, as a part of its largest element."""
    overflow: float = 0.0
    """The largest finite magnitude that the narrow type cannot hold, of an input or a result."""
    value: str = ""
    """The value that overflows."""

    def add(self, error: float, overflow: float, value: str) -> None:
        self.error = max(self.error, error)
        if overflow > self.overflow:
            self.overflow, self.value = overflow, value


def local_errors(
    session: InferenceSession, feeds: Feeds, to: int, errors: dict[str, LocalError]
) -> None:
    """Run a float32 model node by node, each a second time on rounded inputs.

    What is found goes into `errors`, by the names of the nodes of the model.
    """
    values = feeds_of(session, feeds)
    prepared = prepare_session(session, values, False)
    environment = Environment()
    for value, array in zip(prepared.graph.inputs, values):
        environment[value] = array
    stepper = Stepper(prepared.providers, enters=enters_body)
    steps = stepper.steps(prepared.graph, environment)
    again = Stepper(prepared.providers, enters=lambda node: False)
    for step in steps:
        found = _examine(step, again, to)
        if found is not None:
            for each in replaced_by(step.node):
                errors.setdefault(each.name, LocalError()).add(*found)


def _examine(step: Step, stepper: Stepper, to: int) -> tuple[float, float, str] | None:
    """(error, overflow, the value that overflows) of a node; None where nothing is float32."""
    outputs = [(value, array) for value, array in step.outputs if _is_float(array)]
    if not outputs or step.node.subgraphs:
        return None
    overflow, where = 0.0, ""
    rounded = Environment()
    for value, array in step.inputs:
        if _is_float(array):
            narrow = _rounded(array, to, value.constant is not None)
            if value.constant is None:
                lost = _lost(array, narrow)
                if lost > overflow:
                    overflow, where = lost, value.name
            array = narrow
        rounded[value] = array
    results = stepper.run(step.node, rounded)
    error = 0.0
    for (value, array), result in zip(step.outputs, results):
        if not _is_float(array):
            continue
        narrow = _rounded(result, to, False)
        lost = _lost(array, narrow)
        if lost > overflow:
            overflow, where = lost, value.name
        error = max(error, _difference(array, narrow))
    return error, overflow, where


def _is_float(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == np.float32


def _rounded(array: Any, to: int, is_constant: bool) -> Any:
    """In float32, as a narrow value would be: weights are clipped, others overflow."""
    with np.errstate(all="ignore"):
        if is_constant:
            return narrow_array(array, to).astype(np.float32)
        return array.astype(helper.tensor_dtype_to_np_dtype(to)).astype(np.float32)


def _lost(array: Any, narrow: Any) -> float:
    """The largest finite magnitude that became infinite."""
    lost = np.isfinite(array) & ~np.isfinite(narrow)
    return float(np.abs(array[lost]).max(initial=0.0))


def _difference(array: Any, narrow: Any) -> float:
    both = np.isfinite(array) & np.isfinite(narrow)
    if not both.any():
        return 0.0
    with np.errstate(all="ignore"):
        worst = float(np.abs(array[both] - narrow[both]).max())
    return worst / (float(np.abs(array[both]).max()) or 1.0)
