# SPDX-License-Identifier: Apache-2.0
"""How much each tensor of a quantized model in the QDQ format differs: find what loses accuracy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from bascule.options import GraphOptimizationLevel, SessionOptions
from bascule.quantization.calibrate import MinMaxCalibrater
from bascule.quantization.onnx_model import ONNXModel, attribute, load, save
from bascule.session import InferenceSession

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array]
_PATH = str | os.PathLike[str]
_SAVED = "_ReshapedSavedOutput"
_INPUT, _RESTORED = "_QuantizeLinear_Input", "_DequantizeLinear_Output"
_WEIGHT = "_quantized"


def modify_model_output_intermediate_tensors(
    input_model_path: _PATH,
    output_model_path: _PATH,
    op_types_for_saving: Sequence[str] | None = None,
    save_as_external_data: bool = False,
) -> None:
    """Write a model whose inner tensors are outputs, too, each flattened.

    Args:
        input_model_path: the model.
        output_model_path: where to write the result.
        op_types_for_saving: the operators whose inputs and outputs are meant; None for all.
        save_as_external_data: put the weights into a file of their own.
    """
    model = load(os.fspath(input_model_path))
    saver = MinMaxCalibrater(model, op_types_for_saving or None)
    types = ONNXModel(load(model)).element_types()
    names = sorted(saver.select_tensors_to_calibrate(model))
    shape = "flat_shape_for_saving"
    model.graph.initializer.add(name=shape, data_type=TensorProto.INT64, dims=[1], int64_data=[-1])
    for name in names:
        output = name + _SAVED
        model.graph.node.append(helper.make_node("Reshape", [name, shape], [output], name=output))
        info = helper.make_tensor_value_info(output, types[name], [None])
        model.graph.output.append(info)
    save(model, output_model_path, save_as_external_data)


def collect_activations(
    augmented_model: _PATH,
    input_reader: Iterable[dict[str, Any]],
    session_options: SessionOptions | None = None,
    execution_providers: Sequence[str] | None = None,
) -> dict[str, list[Array]]:
    """The values of each inner tensor in each run, by the tensors' names.

    Args:
        augmented_model: what modify_model_output_intermediate_tensors has written.
        input_reader: gives inputs.
        session_options: by default without optimization.
        execution_providers: by default the CPU's.

    Raises:
        RuntimeError: the reader gives nothing.
    """
    if session_options is None:
        session_options = SessionOptions()
        session_options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = execution_providers or ["CPUExecutionProvider"]
    session = InferenceSession(augmented_model, session_options, providers=providers)
    names = [each.name for each in session.get_outputs() if each.name.endswith(_SAVED)]
    found: dict[str, list[Array]] = {}
    for inputs in input_reader:
        for name, value in zip(names, session.run(names, inputs)):
            found.setdefault(name.removesuffix(_SAVED), []).append(value)
    if not found:
        raise RuntimeError("No data is collected while running augmented model!")
    return found


def create_activation_matching(
    qdq_activations: dict[str, Arrays], float_activations: dict[str, Arrays] | None = None
) -> dict[str, dict[str, Arrays]]:
    """Each quantized tensor before and after quantization, and in the model before it.

    Args:
        qdq_activations: what collect_activations gives of the quantized model.
        float_activations: the same of the model before.

    Returns:
        ``pre_qdq``, ``post_qdq`` and, if it is known, ``float``, by the tensors' names.
    """
    found: dict[str, dict[str, Arrays]] = {}
    for name, values in qdq_activations.items():
        if name.endswith(_INPUT):
            base = name.removesuffix(_INPUT)
            before, after = values, qdq_activations.get(base)
        elif name.endswith(_RESTORED):
            base = name.removesuffix(_RESTORED)
            before, after = qdq_activations.get(base, ()), values
        else:
            continue
        if before and after:
            found[base] = {"pre_qdq": before, "post_qdq": after}
    for name, match in found.items():
        if float_activations and name in float_activations:
            match["float"] = float_activations[name]
    return found


def create_weight_matching(
    float_model_path: _PATH, qdq_model_path: _PATH
) -> dict[str, dict[str, Array]]:
    """Each weight as it was (``float``) and as it is read (``dequantized``), by name."""
    before = ONNXModel(load(os.fspath(float_model_path)))
    after = ONNXModel(load(os.fspath(qdq_model_path)))
    found = {}
    for node in after.graph.node:
        integers = after.array(node.input[0]) if node.op_type == "DequantizeLinear" else None
        scale = after.array(node.input[1]) if integers is not None else None
        name = node.input[0].removesuffix(_WEIGHT)
        original = before.array(name)
        if integers is None or scale is None or original is None:
            continue
        zero = after.array(node.input[2]) if len(node.input) > 2 else np.zeros_like(scale)
        assert zero is not None
        shape = [1] * integers.ndim
        if scale.ndim == 1:
            shape[attribute(node, "axis", 1)] = -1
        wide = integers.astype(np.float32) - zero.astype(np.float32).reshape(shape)
        restored = (wide * scale.reshape(shape)).astype(np.float32)
        found[name] = {"float": original, "dequantized": restored.reshape(original.shape)}
    return found


def compute_signal_to_quantization_noice_ratio(x: Arrays | Array, y: Arrays | Array) -> float:
    """20 log10(|x| / |x - y|), in decibels; RuntimeError for lists of different lengths."""
    first, second = ([each] if isinstance(each, np.ndarray) else list(each) for each in (x, y))
    if len(first) != len(second):
        raise RuntimeError("Unequal number of tensors to compare!")
    left, right = (np.concatenate([each.reshape(-1) for each in side]) for side in (first, second))
    least = np.finfo(np.float64).eps
    size = max(float(np.linalg.norm(left)), least)
    return 20 * math.log10(size / max(float(np.linalg.norm(left - right)), least))


_Error = Callable[[Any, Any], float]


def compute_weight_error(
    weights_match: dict[str, dict[str, Array]],
    err_func: _Error = compute_signal_to_quantization_noice_ratio,
) -> dict[str, float]:
    """The error of each weight, by name."""
    return {
        name: err_func(each["float"], each["dequantized"]) for name, each in weights_match.items()
    }


def compute_activation_error(
    activations_match: dict[str, dict[str, Arrays]],
    err_func: _Error = compute_signal_to_quantization_noice_ratio,
) -> dict[str, dict[str, float]]:
    """Of each tensor the error of its quantization, ``qdq_err``, and of all, ``xmodel_err``."""
    found = {}
    for name, each in activations_match.items():
        errors = {"qdq_err": err_func(each["pre_qdq"], each["post_qdq"])}
        if "float" in each:
            errors["xmodel_err"] = err_func(each["float"], each["post_qdq"])
        found[name] = errors
    return found
