# SPDX-License-Identifier: Apache-2.0
"""What session options say of operators, sizes and initializers, put into a model."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from bascule.errors import Fail
from bascule.ir.constant import Constant
from bascule.ir.graph import Model
from bascule.ir.infer import refuse_contradictions
from bascule.ir.load import load_model
from bascule.ir.types import Dim, TensorType, shared_sizes
from bascule.operator_libraries import bind_operators
from bascule.optimizer.rewrite import remove_if_unused
from bascule.options import SessionOptions

_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


def load_with(source: str | bytes, options: SessionOptions) -> Model:
    """Load a model as the options say: external data, sizes, initializers, and what is refused.

    Data of initializers that the options give is not needed.
    """

    def missing(tensor: str, error: Exception) -> None:
        if tensor not in options._initializers:
            raise error

    model = load_model(
        source,
        external_folder=options._config.get(_EXTERNAL_FOLDER),
        external_files=options._files,
        on_external_problem=missing,
    )
    override(model, options)
    if options._config.get("session.strict_shape_type_inference", "0") == "1":
        refuse_contradictions(model)
    return model


def forget_names(model: Model) -> None:
    """Leave each symbolic size of the inputs unnamed but for the first place of its name."""
    values = model.graph.inputs
    for _, _, index, axis in shared_sizes([value.type for value in values]):
        type_ = values[index].type
        assert isinstance(type_, TensorType)
        shape = list(type_.shape or ())
        shape[axis] = None
        values[index].type = TensorType(type_.dtype, tuple(shape))


def keep_outputs(model: Model, names: Collection[str]) -> None:
    """Leave these outputs and what they need, nothing else."""
    graph = model.graph
    for value in graph.outputs:
        value.output_count -= value.name not in names
    graph.outputs = [value for value in graph.outputs if value.name in names]
    for node in reversed(graph):
        remove_if_unused(node)


def override(model: Model, options: SessionOptions) -> None:
    """Apply what the options say about operators, sizes and initializers."""
    bind_operators(model, options._libraries)
    for value in model.graph.inputs:
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            shape = tuple(
                _size(options, dim, value.metadata.get(f"denotation.{axis}", ""))
                for axis, dim in enumerate(value.type.shape)
            )
            value.type = TensorType(value.type.dtype, shape)
    for name, replacement in options._initializers.items():
        initializer = model.graph.initializers.get(name)
        if initializer is None:
            continue
        constant = Constant.from_numpy(np.array(replacement._array))
        old = initializer.constant
        if old is not None and (old.dtype, old.shape) != (constant.dtype, constant.shape):
            raise Fail(
                f"The replacement of initializer '{name}' has another type or shape",
                got=f"{constant.dtype.onnx_name}{list(constant.shape)}",
                expected=f"{old.dtype.onnx_name}{list(old.shape)}",
            )
        initializer.constant = constant


def _size(options: SessionOptions, dim: Dim, denotation: str) -> Dim:
    """The size that the options give to `dim`, or `dim`."""
    if isinstance(dim, int):
        return dim
    denoted = options._denotations.get(denotation, dim) if denotation else dim
    return options._dimensions.get(dim, denoted) if dim else denoted


@contextlib.contextmanager
def with_defaults(model: Model, defaults: Mapping[str, Constant]) -> Iterator[None]:
    """Inputs that have a default are initializers of `model` in the block."""
    overridable = [value for value in model.graph.inputs if value.name in defaults]
    for value in overridable:
        value.constant = defaults[value.name]
        model.graph.initializers[value.name] = value
    try:
        yield
    finally:
        for value in overridable:
            value.constant = None
            del model.graph.initializers[value.name]
