# SPDX-License-Identifier: Apache-2.0
"""What differs between two models, however their files store them (docs/diff.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bascule.tools.diff.result import (
    Change,
    ModelDiff,
    NodeChange,
    OutputChange,
    Statistics,
    WeightChange,
)

if TYPE_CHECKING:
    from bascule.ir.graph import Model
    from bascule.ir.load import Source

__all__ = [
    "Change",
    "ModelDiff",
    "NodeChange",
    "OutputChange",
    "Statistics",
    "WeightChange",
    "diff",
    "diff_models",
]


def diff(
    old: Source,
    new: Source,
    *,
    run: bool = False,
    feeds: Mapping[str, Any] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> ModelDiff:
    """What differs between two models: nodes, attributes, weights, inputs, outputs, metadata.

    Nodes are recognised by what they compute and what reads them, so names, order, and where
    tensors are stored do not count; nor do documentation and metadata of nodes. Weights are read in
    pieces. Source: docs/diff.md tells the signs by which nodes are recognised, in their order.

    Args:
        old: the path of an .onnx file, its bytes, a file object or an onnx.ModelProto.
        new: the same of the other model.
        run: whether to run both on the same inputs and compare the outputs.
        feeds: arrays by the old model's input names; with `run`, the inputs without one are random.
        dims: sizes for symbolic sizes of the inputs; others are 1.
        seed: of random inputs.
        progress: called with the number of bytes of each piece of weights that was read.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, InvalidArgument, Fail: a model cannot be read or,
            with `run`, cannot be run on the inputs.

    Examples:
        >>> changes = bascule.diff("old.onnx", "new.onnx")
        >>> changes.same
        False
        >>> print(changes)
    """
    # Imported here: models are parsed with onnx, which takes long to import.
    from bascule.ir.load import load_model

    old, new = (x.read() if hasattr(x, "read") else x for x in (old, new))
    result = diff_models(load_model(old), load_model(new), progress)
    if run:
        from bascule.tools.diff.outputs import compare_outputs

        result.outputs = compare_outputs(old, new, feeds or {}, dims or {}, seed)
    return result


def diff_models(old: Model, new: Model, progress: Callable[[int], None] | None = None) -> ModelDiff:
    """The same of models as they were loaded."""
    from bascule.tools.diff.models import compare_models
    from bascule.tools.diff.weights import TensorComparer

    with TensorComparer(progress) as tensors:
        return compare_models(old, new, tensors)
