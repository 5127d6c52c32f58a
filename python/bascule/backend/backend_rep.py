# SPDX-License-Identifier: Apache-2.0
"""The prepared model's class under the name that callers of onnxruntime import."""

from bascule.onnx_backend import BackendRep as OnnxRuntimeBackendRep

__all__ = ["OnnxRuntimeBackendRep"]
