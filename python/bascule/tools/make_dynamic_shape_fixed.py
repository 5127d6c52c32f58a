# SPDX-License-Identifier: Apache-2.0
"""Give sizes that vary a value: ``python -m bascule.tools.make_dynamic_shape_fixed IN OUT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import onnx

from bascule.tools.onnx_model_utils import (
    fix_output_shapes,
    make_dim_param_fixed,
    make_input_shape_fixed,
)


def make_dynamic_shape_fixed_helper(arguments: Sequence[str] | None = None) -> None:
    """The command line: a named size gets a value, or an input a shape."""
    parser = argparse.ArgumentParser(description=make_dynamic_shape_fixed_helper.__doc__)
    parser.add_argument("--dim_param", help="the name of a size")
    parser.add_argument("--dim_value", type=int, help="its value, above 0")
    parser.add_argument("--input_name", help="the name of an input")
    parser.add_argument("--input_shape", help="its shape, such as 1,3,256,256")
    parser.add_argument("input_model")
    parser.add_argument("output_model")
    given = parser.parse_args(arguments)
    by_name = given.dim_param is not None and given.dim_value is not None
    by_input = given.input_name is not None and given.input_shape is not None
    if by_name == by_input or (by_name and given.dim_value < 1):
        parser.error("give --dim_param and --dim_value (> 0), or --input_name and --input_shape")
    model = onnx.load(given.input_model)
    if by_name:
        make_dim_param_fixed(model.graph, given.dim_param, given.dim_value)
    else:
        shape = [int(size) for size in given.input_shape.split(",")]
        make_input_shape_fixed(model.graph, given.input_name, shape)
    fix_output_shapes(model)
    onnx.save(model, given.output_model)


if __name__ == "__main__":
    make_dynamic_shape_fixed_helper()
