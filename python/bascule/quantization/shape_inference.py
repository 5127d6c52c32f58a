# SPDX-License-Identifier: Apache-2.0
"""quant_pre_process: a model with folded constants and known shapes is quantized better."""

from __future__ import annotations

import os

import onnx

from bascule.quantization.onnx_model import Source, load, save
from bascule.quantization.simplify import simplify
from bascule.tools.symbolic_shape_infer import SymbolicShapeInference


def quant_pre_process(
    input_model: Source | None = None,
    output_model_path: str | os.PathLike[str] | None = None,
    skip_optimization: bool = False,
    skip_onnx_shape: bool = False,
    skip_symbolic_shape: bool = False,
    auto_merge: bool = False,
    int_max: int = 2**31 - 1,
    guess_output_rank: bool = False,
    verbose: int = 0,
    save_as_external_data: bool = False,
    all_tensors_to_one_file: bool = False,
    external_data_location: str | None = None,
    external_data_size_threshold: int = 1024,
    **deprecated_kwargs: Source,
) -> None:
    """Write a model that quantize_static does better with.

    Args:
        input_model: a file, or a ModelProto.
        output_model_path: where to write the result.
        skip_optimization: do not fold constants and batch normalizations.
        skip_onnx_shape: do not infer shapes by onnx.
        skip_symbolic_shape: do not infer shapes with names of sizes.
        auto_merge: accepted; where names contradict each other, the declared ones hold.
        int_max: accepted; indices are never taken for sizes here.
        guess_output_rank: accepted; a value of unknown rank is no error.
        verbose: above 0, values without a shape are logged.
        save_as_external_data: put the weights into a file of their own.
        all_tensors_to_one_file: accepted.
        external_data_location: accepted.
        external_data_size_threshold: bytes; accepted.
        **deprecated_kwargs: ``input_model_path``, the old name of `input_model`.

    Raises:
        TypeError: there is no input or output.
    """
    source = input_model if input_model is not None else deprecated_kwargs.get("input_model_path")
    if source is None or output_model_path is None:
        raise TypeError("quant_pre_process needs input_model and output_model_path")
    model = load(source)
    if not skip_symbolic_shape:
        # A shape that is not found here is found where the operators are known, or not needed.
        found = SymbolicShapeInference.infer_shapes(model, int_max, auto_merge, True, verbose)
        model = model if found is None else found
    if not skip_optimization:
        model = simplify(model)
    if not skip_onnx_shape and model.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF:
        model = onnx.shape_inference.infer_shapes(model)
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    save(model, output_model_path, save_as_external_data)
