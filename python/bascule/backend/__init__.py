# SPDX-License-Identifier: Apache-2.0
"""The ONNX backend interface (``onnx.backend.test`` takes this module as a backend)."""

from bascule.backend import backend, backend_rep
from bascule.onnx_backend import Backend

is_compatible = Backend.is_compatible
prepare = Backend.prepare
run = Backend.run_model
supports_device = Backend.supports_device

__all__ = ["backend", "backend_rep", "is_compatible", "prepare", "run", "supports_device"]
