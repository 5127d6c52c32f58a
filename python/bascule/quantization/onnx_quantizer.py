# SPDX-License-Identifier: Apache-2.0
"""ONNXQuantizer under the module that callers of onnxruntime import it from."""

from bascule.quantization.quantizers import ONNXQuantizer

__all__ = ["ONNXQuantizer"]
