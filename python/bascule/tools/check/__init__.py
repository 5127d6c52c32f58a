# SPDX-License-Identifier: Apache-2.0
"""All that is wrong or lossy in a model, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Union

from bascule.errors import ALL, InvalidArgument, NoSuchFile
from bascule.ir.graph import Model
from bascule.ir.printer import format_type
from bascule.options import SessionOptions
from bascule.tools.check.constants import examine_constants
from bascule.tools.check.inside import chosen_providers, examine_inside
from bascule.tools.check.outside import examine_external, examine_outside
from bascule.tools.check.result import ERROR, NOTE, WARNING, Finding, ModelCheck, Prediction
from bascule.tools.check.sizes import Sizes, input_sizes
from bascule.tools.check.words import plain

if TYPE_CHECKING:
    import onnx


__all__ = ["Finding", "ModelCheck", "Prediction", "check"]

ModelSource = Union[str, "os.PathLike[str]", bytes, "onnx.ModelProto"]


def check(
    model: ModelSource,
    shapes: Sizes | None = None,
    *,
    providers: Sequence[Any] | None = None,
    session_options: SessionOptions | None = None,
    constants: bool = True,
    progress: Callable[[int], None] | None = None,
) -> ModelCheck:
    """Find all that is wrong or lossy in a model; nothing of it is run.

    Found are: nodes that cannot run, with reasons and source lines; broken or missing external
    data; element types that are computed in others; nodes that a GPU leaves to the CPU; old
    opsets; symbolic sizes, and those that depend on data; inputs and initializers that nothing
    reads; constants that hold NaN, infinities or denormals, that were clamped to float16 or are
    saturated, and scales that cannot be. The memory and time that a run takes are predicted from
    the graph and from the measured speed of this machine. Weights are read piece by piece: a model
    of many GB is never in memory as a whole.

    Args:
        model: a path, bytes or an onnx.ModelProto.
        shapes: of inputs by their names (``{"x": (8, 3, 224, 224)}``), or sizes of symbolic
            dimensions by theirs (``{"batch": 8}``); others are taken to be 1 for the prediction.
        providers: execution providers by falling preference, as for InferenceSession.
        session_options: of the session that is to be made.
        constants: whether the elements of constants are looked at, which reads all of the file.
        progress: called with the number of bytes of each piece that was read.

    Returns:
        A ModelCheck: print it for a table; `can_run`, `findings`, `prediction`.

    Raises:
        InvalidArgument: `shapes` names something that is no input or size of the model, or does
            not fit; a provider does not exist; `model` is no path, bytes or ModelProto.
        NoSuchFile: there is no such file.

    Examples:
        >>> print(bascule.check("model.onnx", {"batch": 8}))
    """
    # Imported here: models are parsed with onnx, which takes long to import.
    from bascule.ir.load import load_model

    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    if not model or not isinstance(model, (str, bytes, os.PathLike)):
        given = repr(model) if isinstance(model, (str, bytes)) else type(model).__name__
        raise InvalidArgument(
            f"model: a path, bytes or an onnx.ModelProto is expected, not {given}"
        )
    chosen = chosen_providers(providers)
    name = os.path.basename(os.fspath(model)) if not isinstance(model, bytes) else "model"
    result = ModelCheck(name)
    missing: list[tuple[str, Exception]] = []
    try:
        loaded = load_model(
            model, on_external_problem=lambda tensor, error: missing.append((tensor, error))
        )
    except NoSuchFile:
        raise
    except ALL as error:
        result.findings.append(Finding(ERROR, "model", plain(error)))
        return result
    options = session_options.copy() if session_options is not None else SessionOptions()
    sizes = input_sizes(loaded, shapes or {})
    _describe(loaded, result)
    result.findings += examine_external(missing)
    result.findings += examine_outside(loaded)
    if constants:
        result.findings += examine_constants(loaded, {tensor for tensor, _ in missing}, progress)
    result.findings += examine_inside(
        loaded, sizes, options, providers, chosen, result, not missing
    )
    order = {ERROR: 0, WARNING: 1, NOTE: 2}
    result.findings.sort(key=lambda each: order[each.severity])
    return result


def _describe(model: Model, result: ModelCheck) -> None:
    # Imported here: it is a part of other tools.
    from bascule.tools import cost

    graph = model.graph
    result.producer = f"{model.producer_name} {model.producer_version}".strip()
    result.opsets = {
        domain or "ai.onnx": version for domain, version in model.opset_imports.items()
    }
    result.nodes = sum(1 for _ in graph.walk_nodes())
    result.weight_bytes = cost.weight_bytes(graph)
    result.inputs = {
        value.name: format_type(value.type)
        for value in graph.inputs
        if value.name not in graph.initializers
    }
