# SPDX-License-Identifier: Apache-2.0
"""Where code written for onnxruntime looks for exceptions and option classes."""

from bascule.capi import (
    _pybind_state,
    onnxruntime_inference_collection,
    onnxruntime_pybind11_state,
)

__all__ = ["_pybind_state", "onnxruntime_inference_collection", "onnxruntime_pybind11_state"]
