# SPDX-License-Identifier: Apache-2.0
"""Changes of a ModelProto that users of onnxruntime's tools make: sizes fixed, opsets, inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import onnx

from bascule.ir.walk import graphs_in
from bascule.options import ExecutionMode, GraphOptimizationLevel, SessionOptions

if TYPE_CHECKING:
    import logging

Path = str | os.PathLike[str]


def iterate_graph_per_graph_func(
    graph: onnx.GraphProto, per_graph_func: Callable[..., Any], **func_args: Any
) -> None:
    """Call ``per_graph_func(graph, **func_args)`` for a graph and those nested in it."""
    for each in graphs_in(graph):
        per_graph_func(each, **func_args)


def iterate_graph_per_node_func(
    graph: onnx.GraphProto, per_node_func: Callable[..., Any], **func_args: Any
) -> None:
    """Call ``per_node_func(node, **func_args)`` for each node, those of nested graphs included."""
    for each in graphs_in(graph):
        for node in each.node:
            per_node_func(node, **func_args)


def _shapes(values: Iterable[onnx.ValueInfoProto]) -> Iterator[onnx.TensorShapeProto]:
    for value in values:
        if value.type.tensor_type.HasField("shape"):
            yield value.type.tensor_type.shape


def get_opsets_imported(model: onnx.ModelProto) -> dict[str, int]:
    """The version of each operator set, the standard one as ``ai.onnx``."""
    return {each.domain or "ai.onnx": int(each.version) for each in model.opset_import}


def update_onnx_opset(
    model_path: Path,
    opset: int,
    out_path: Path | None = None,
    logger: logging.Logger | None = None,
) -> onnx.ModelProto:
    """A model in a newer version of the standard's operators, by onnx's version converter.

    Args:
        model_path: the model.
        opset: the version wanted, which may not be older than the model's.
        out_path: where to write the result, if anywhere.
        logger: told what happens.

    Raises:
        ValueError: the model is newer.
    """
    from onnx import version_converter

    model = onnx.load(os.fspath(model_path))
    current = get_opsets_imported(model).get("ai.onnx", 0)
    if current > opset:
        raise ValueError(f"Existing opset of {current} is newer than the requested one, {opset}")
    if current < opset:
        if logger is not None:
            logger.info("opset %d to %d", current, opset)
        model = version_converter.convert_version(model, opset)
    if out_path is not None:
        onnx.save(model, os.fspath(out_path))
    return model


def optimize_model(
    model_path: Path,
    output_path: Path,
    level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_BASIC,
    log_level: int = 3,
    use_external_initializers: bool = False,
) -> None:
    """Write a model as a session of this level would run it.

    Args:
        model_path: the model.
        output_path: where to write it.
        level: how far it is rewritten.
        log_level: the severity of messages that are shown.
        use_external_initializers: put weights into ``<output_path>.data`` beside it.
    """
    from bascule.session import InferenceSession

    options = SessionOptions()
    options.optimized_model_filepath = os.fspath(output_path)
    options.graph_optimization_level = level
    options.execution_mode = ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = log_level
    if use_external_initializers:
        name = os.path.basename(os.fspath(output_path)) + ".data"
        key = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(key, name)
    InferenceSession(model_path, options, providers=["CPUExecutionProvider"])


def get_optimization_level(level: str) -> GraphOptimizationLevel:
    """The level of a name: disable, basic, extended, layout or all; ValueError for another."""
    levels = {
        "disable": GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "layout": GraphOptimizationLevel.ORT_ENABLE_LAYOUT,
        "all": GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    if level not in levels:
        raise ValueError(f"Invalid optimization level of {level}; expected one of {list(levels)}")
    return levels[level]


def remove_invalid_dim_values(graph: onnx.GraphProto) -> None:
    """Forget sizes below 1, which converters write for sizes that vary."""
    for each in graphs_in(graph):
        for shape in _shapes([*each.input, *each.output, *each.value_info]):
            for dim in shape.dim:
                if dim.HasField("dim_value") and dim.dim_value < 1:
                    dim.Clear()


def make_dim_param_fixed(graph: onnx.GraphProto, param_name: str, value: int) -> None:
    """Give the size called `param_name` a value wherever it stands."""
    for each in graphs_in(graph):
        for shape in _shapes([*each.input, *each.output, *each.value_info]):
            for dim in shape.dim:
                if dim.dim_param == param_name:
                    dim.Clear()
                    dim.dim_value = value


def make_input_shape_fixed(
    graph: onnx.GraphProto, input_name: str, fixed_shape: Iterable[int]
) -> None:
    """Give an input a shape; names that its sizes had get their value everywhere.

    Raises:
        ValueError: there is no such input, its rank is another, or it has another fixed size.
    """
    remove_invalid_dim_values(graph)
    value = next((each for each in graph.input if each.name == input_name), None)
    if value is None:
        names = ", ".join(each.name for each in graph.input)
        raise ValueError(f"Input {input_name} was not found in graph inputs. Valid ones: {names}")
    if not value.type.HasField("tensor_type"):
        raise ValueError(f"Input {input_name} is not a tensor")
    sizes = list(fixed_shape)
    shape = value.type.tensor_type.shape
    if not value.type.tensor_type.HasField("shape"):
        shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in sizes)
    if len(shape.dim) != len(sizes):
        raise ValueError(f"Input {input_name} has rank {len(shape.dim)}, but {sizes} was given")
    for dim, size in zip(shape.dim, sizes):
        if dim.HasField("dim_value") and dim.dim_value != size:
            raise ValueError(
                f"Can't replace the fixed size {dim.dim_value} of input {input_name} with {size}"
            )
        if dim.dim_param:
            make_dim_param_fixed(graph, dim.dim_param, size)
        dim.dim_value = size


def fix_output_shapes(model: onnx.ModelProto) -> None:
    """Declare the outputs' sizes that follow from the inputs' fixed ones."""
    inferred = onnx.shape_inference.infer_shapes(model)
    for output, found in zip(model.graph.output, inferred.graph.output):
        if not is_fixed_size_tensor(output) and is_fixed_size_tensor(found):
            output.type.tensor_type.shape.CopyFrom(found.type.tensor_type.shape)


class ModelProtoWithShapeInfo:
    """A model from a file, types inferred: `model_with_shape_info`."""

    def __init__(self, model_path: Path) -> None:
        self.model_path = model_path
        model = onnx.load(os.fspath(model_path), load_external_data=False)
        self.model_with_shape_info = onnx.shape_inference.infer_shapes(model)


def is_fixed_size_tensor(value: onnx.ValueInfoProto) -> bool:
    """Whether a value is a tensor with a number for each size."""
    return value.type.tensor_type.HasField("shape") and all(
        dim.HasField("dim_value") and dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim
    )


def remove_initializer_from_input(model: onnx.ModelProto) -> bool:
    """Let inputs with a default be constants; returns whether there were any.

    What has a default can then no longer be fed, and more of the graph can be optimized. Models of
    IR version 3 must list initializers as inputs, and stay as they are.
    """
    if model.ir_version < 4:
        return False
    defaults = {each.name for each in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in defaults]
    changed = len(kept) < len(model.graph.input)
    if changed:
        del model.graph.input[:]
        model.graph.input.extend(kept)
    return changed
