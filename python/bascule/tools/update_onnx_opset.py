# SPDX-License-Identifier: Apache-2.0
"""Bring a model to a newer opset: ``update_onnx_opset --opset 21 IN OUT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bascule.tools.onnx_model_utils import update_onnx_opset


def update_onnx_opset_helper(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=update_onnx_opset.__doc__)
    parser.add_argument("--opset", type=int, default=15, help="the version wanted")
    parser.add_argument("input_model")
    parser.add_argument("output_model")
    given = parser.parse_args(arguments)
    update_onnx_opset(given.input_model, given.opset, given.output_model)


if __name__ == "__main__":
    update_onnx_opset_helper()
