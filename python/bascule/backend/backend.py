# SPDX-License-Identifier: Apache-2.0
"""The backend class under the name that callers of onnxruntime import."""

from bascule.onnx_backend import Backend as OnnxRuntimeBackend

is_compatible = OnnxRuntimeBackend.is_compatible
prepare = OnnxRuntimeBackend.prepare
run = OnnxRuntimeBackend.run_model
supports_device = OnnxRuntimeBackend.supports_device

__all__ = ["OnnxRuntimeBackend", "is_compatible", "prepare", "run", "supports_device"]
